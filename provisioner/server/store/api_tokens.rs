//! Table `api_tokens`: who may use the API. Only hashes are kept.

use super::{Result, Tx, on};
use crate::machine::Time;

const PUT: &str = "INSERT INTO api_tokens (hash, name, role, created_at) VALUES ($1, $2, $3, $4)";
const GET: &str = "SELECT name, role FROM api_tokens WHERE hash = $1";
const COUNT: &str = "SELECT COUNT(*) FROM api_tokens";
pub(super) const STATEMENTS: &[&str] = &[PUT, GET, COUNT];

pub async fn put(tx: &mut Tx, hash: &str, name: &str, role: &str, now: Time) -> Result<()> {
    on!(tx, c => sqlx::query(PUT).bind(hash).bind(name).bind(role).bind(now.0).execute(c).await.map(|_| ())?);
    Ok(())
}

/// Name and role of the token with this SHA-256 (hexadecimal).
pub async fn get(tx: &mut Tx, hash: &str) -> Result<Option<(String, String)>> {
    Ok(on!(tx, c => sqlx::query_as(GET).bind(hash).fetch_optional(c).await?))
}

pub async fn count(tx: &mut Tx) -> Result<i64> {
    let (count,): (i64,) = on!(tx, c => sqlx::query_as(COUNT).fetch_one(c).await?);
    Ok(count)
}
