//! Table `wipe_certificates`: what the server has vouched for. Rows are only ever added, also when their machine is
//! forgotten.

use super::{Result, Tx, on};
use sqlx::FromRow;

const INSERT: &str = "INSERT INTO wipe_certificates \
     (id, machine, generation, disk, at, certificate, signature, public_key) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
const ALL: &str = "SELECT id, machine, generation, disk, at, certificate, signature, public_key \
     FROM wipe_certificates ORDER BY at DESC, id LIMIT 10000";
const GET: &str = "SELECT id, machine, generation, disk, at, certificate, signature, public_key \
     FROM wipe_certificates WHERE id = $1";
pub(super) const STATEMENTS: &[&str] = &[INSERT, ALL, GET];

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Row {
    pub id: String,
    /// The machine's name at the time.
    pub machine: String,
    pub generation: i64,
    pub disk: String,
    pub at: i64,
    /// The signed text.
    pub certificate: String,
    pub signature: String,
    pub public_key: String,
}

/// A certificate that is there stays as it is.
pub async fn insert(tx: &mut Tx, row: &Row) -> Result<()> {
    on!(tx, c => sqlx::query(INSERT)
        .bind(&row.id)
        .bind(&row.machine)
        .bind(row.generation)
        .bind(&row.disk)
        .bind(row.at)
        .bind(&row.certificate)
        .bind(&row.signature)
        .bind(&row.public_key)
        .execute(c)
        .await
        .map(|_| ())?);
    Ok(())
}

/// The newest first.
pub async fn all(tx: &mut Tx) -> Result<Vec<Row>> {
    Ok(on!(tx, c => sqlx::query_as(ALL).fetch_all(c).await?))
}

pub async fn get(tx: &mut Tx, id: &str) -> Result<Option<Row>> {
    Ok(on!(tx, c => sqlx::query_as(GET).bind(id).fetch_optional(c).await?))
}
