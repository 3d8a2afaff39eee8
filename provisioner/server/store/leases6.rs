//! Table `leases6`: what DHCPv6 has promised. An address is handed out only after its row is committed.

use super::{Result, Tx, on};
use sqlx::FromRow;

const PUT: &str = "INSERT INTO leases6 (ip, owner, duid, machine, state, expires_at) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (ip) DO UPDATE SET owner = excluded.owner, \
     duid = excluded.duid, machine = excluded.machine, state = excluded.state, \
     expires_at = excluded.expires_at";
const ALL: &str = "SELECT ip, owner, duid, machine, state, expires_at FROM leases6 ORDER BY ip";
const ONE: &str = "SELECT ip, owner, duid, machine, state, expires_at FROM leases6 WHERE ip = $1";
const DELETE: &str = "DELETE FROM leases6 WHERE ip = $1 AND owner = $2";
pub(super) const STATEMENTS: &[&str] = &[PUT, ALL, ONE, DELETE];

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Row {
    /// IPv6 address, as RFC 5952 writes it.
    pub ip: String,
    /// A MAC, or `HEX/NUMBER`: a client identifier and its association.
    pub owner: String,
    /// Client identifier, hexadecimal.
    pub duid: Option<String>,
    pub machine: Option<String>,
    /// `bound` or `declined`.
    pub state: String,
    /// Epoch milliseconds.
    pub expires_at: i64,
}

pub async fn put(tx: &mut Tx, row: &Row) -> Result<()> {
    on!(tx, c => sqlx::query(PUT).bind(&row.ip).bind(&row.owner).bind(&row.duid).bind(&row.machine)
        .bind(&row.state).bind(row.expires_at).execute(c).await.map(|_| ())?);
    Ok(())
}

pub async fn all(tx: &mut Tx) -> Result<Vec<Row>> {
    Ok(on!(tx, c => sqlx::query_as(ALL).fetch_all(c).await?))
}

pub async fn find(tx: &mut Tx, ip: &str) -> Result<Option<Row>> {
    Ok(on!(tx, c => sqlx::query_as(ONE).bind(ip).fetch_optional(c).await?))
}

/// Scoped to address and owner: a late release never takes the next owner's lease.
pub async fn delete(tx: &mut Tx, ip: &str, owner: &str) -> Result<()> {
    on!(tx, c => sqlx::query(DELETE).bind(ip).bind(owner).execute(c).await.map(|_| ())?);
    Ok(())
}
