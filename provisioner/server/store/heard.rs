//! Table `heard`: what the boot plane heard of one MAC. Bounded: the newest of each MAC, so many of all unknown MACs
//! together (anyone can make one up), and nothing older than a week.

use super::{Result, Tx, on};
use crate::machine::Time;
use provisioner_wire::Mac;
use sqlx::FromRow;
use std::time::Duration;

/// Signs kept of one MAC.
pub const OF_ONE_MAX: i64 = 400;
/// Signs kept of all MACs that nobody declared.
pub const OF_UNKNOWN_MAX: i64 = 20_000;
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

const PUT: &str = "INSERT INTO heard (mac, known, at, sign) VALUES ($1, $2, $3, $4)";
const OF: &str = "SELECT seq, mac, known, at, sign FROM heard WHERE mac = $1 ORDER BY seq DESC LIMIT $2";
const TRIM_ONE: &str = "DELETE FROM heard WHERE mac = $1 AND seq <= \
     (SELECT seq FROM heard WHERE mac = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)";
const TRIM_UNKNOWN: &str = "DELETE FROM heard WHERE known = 0 AND seq <= \
     (SELECT seq FROM heard WHERE known = 0 ORDER BY seq DESC LIMIT 1 OFFSET $1)";
const TRIM_OLD: &str = "DELETE FROM heard WHERE at < $1";
const COUNT: &str = "SELECT COUNT(*), COUNT(DISTINCT mac) FROM heard";
pub(super) const STATEMENTS: &[&str] = &[PUT, OF, TRIM_ONE, TRIM_UNKNOWN, TRIM_OLD, COUNT];

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Row {
    pub seq: i64,
    pub mac: String,
    /// 1 where a declared machine has the MAC.
    pub known: i64,
    /// Epoch milliseconds.
    pub at: i64,
    /// JSON of the sign.
    pub sign: String,
}

pub async fn put(tx: &mut Tx, mac: Mac, known: bool, at: Time, sign: &str) -> Result<()> {
    on!(tx, c => sqlx::query(PUT).bind(mac.to_string()).bind(i64::from(known)).bind(at.0).bind(sign)
        .execute(c).await.map(|_| ())?);
    Ok(())
}

/// Everything kept of one MAC, oldest first.
pub async fn of(tx: &mut Tx, mac: Mac) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> =
        on!(tx, c => sqlx::query_as(OF).bind(mac.to_string()).bind(OF_ONE_MAX).fetch_all(c).await?);
    rows.reverse();
    Ok(rows)
}

/// Forgets what is too much of these MACs.
pub async fn trim(tx: &mut Tx, macs: impl IntoIterator<Item = Mac>) -> Result<()> {
    for mac in macs {
        on!(tx, c => sqlx::query(TRIM_ONE).bind(mac.to_string()).bind(OF_ONE_MAX).execute(c).await.map(|_| ())?);
    }
    Ok(())
}

/// Forgets what is too much of unknown MACs, and what is too old.
pub async fn trim_all(tx: &mut Tx, now: Time) -> Result<()> {
    on!(tx, c => sqlx::query(TRIM_UNKNOWN).bind(OF_UNKNOWN_MAX).execute(c).await.map(|_| ())?);
    let oldest = now.0 - i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX);
    on!(tx, c => sqlx::query(TRIM_OLD).bind(oldest).execute(c).await.map(|_| ())?);
    Ok(())
}

/// Signs and MACs that are kept.
pub async fn count(tx: &mut Tx) -> Result<(i64, i64)> {
    Ok(on!(tx, c => sqlx::query_as(COUNT).fetch_one(c).await?))
}
