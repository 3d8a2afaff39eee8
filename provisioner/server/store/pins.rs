//! Table `pins`: the public key each BMC showed first. A changed one is a hard failure until an operator re-pins.

use super::{Result, Tx, on};
use crate::machine::Time;

const GET: &str = "SELECT spki_sha256 FROM pins WHERE bmc = $1";
const PUT: &str =
    "INSERT INTO pins (bmc, spki_sha256, pinned_at) VALUES ($1, $2, $3) ON CONFLICT (bmc) DO NOTHING";
const DELETE: &str = "DELETE FROM pins WHERE bmc = $1";
pub(super) const STATEMENTS: &[&str] = &[GET, PUT, DELETE];

pub async fn get(tx: &mut Tx, bmc: &str) -> Result<Option<String>> {
    let row: Option<(String,)> = on!(tx, c => sqlx::query_as(GET).bind(bmc).fetch_optional(c).await?);
    Ok(row.map(|(pin,)| pin))
}

/// Pins what was seen first; a pin that is there stays.
pub async fn pin(tx: &mut Tx, bmc: &str, spki_sha256: &str, now: Time) -> Result<()> {
    on!(tx, c => sqlx::query(PUT).bind(bmc).bind(spki_sha256).bind(now.0).execute(c).await.map(|_| ())?);
    Ok(())
}

/// An operator's re-pin: the next key seen is taken.
pub async fn forget(tx: &mut Tx, bmc: &str) -> Result<()> {
    on!(tx, c => sqlx::query(DELETE).bind(bmc).execute(c).await.map(|_| ())?);
    Ok(())
}
