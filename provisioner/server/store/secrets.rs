//! Table `secrets`: sealed values. What is here is useless without the key file (see [`crate::secret`]).

use super::{Result, Tx, on};

const PUT: &str = "INSERT INTO secrets (owner, field, sealed) VALUES ($1, $2, $3) \
     ON CONFLICT (owner, field) DO UPDATE SET sealed = excluded.sealed";
const GET: &str = "SELECT sealed FROM secrets WHERE owner = $1 AND field = $2";
const DELETE: &str = "DELETE FROM secrets WHERE owner = $1";
pub(super) const STATEMENTS: &[&str] = &[PUT, GET, DELETE];

pub async fn put(tx: &mut Tx, owner: &str, field: &str, sealed: &[u8]) -> Result<()> {
    on!(tx, c => sqlx::query(PUT).bind(owner).bind(field).bind(sealed).execute(c).await.map(|_| ())?);
    Ok(())
}

pub async fn get(tx: &mut Tx, owner: &str, field: &str) -> Result<Option<Vec<u8>>> {
    let row: Option<(Vec<u8>,)> =
        on!(tx, c => sqlx::query_as(GET).bind(owner).bind(field).fetch_optional(c).await?);
    Ok(row.map(|(sealed,)| sealed))
}

/// Everything sealed for one owner.
pub async fn delete(tx: &mut Tx, owner: &str) -> Result<()> {
    on!(tx, c => sqlx::query(DELETE).bind(owner).execute(c).await.map(|_| ())?);
    Ok(())
}
