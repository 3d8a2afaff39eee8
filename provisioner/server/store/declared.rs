//! Table `declared`: hardware, profiles, images and clusters as an operator declared them, by file or by API, as JSON.

use super::{Result, Tx, from_json, on, to_json};
use crate::machine::Time;
use serde::{Serialize, de::DeserializeOwned};

const PUT: &str = "INSERT INTO declared (kind, name, spec, changed_at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (kind, name) DO UPDATE SET spec = excluded.spec, changed_at = excluded.changed_at";
const GET: &str = "SELECT name, spec FROM declared WHERE kind = $1 AND name = $2";
const ALL: &str = "SELECT name, spec FROM declared WHERE kind = $1 ORDER BY name";
const DELETE: &str = "DELETE FROM declared WHERE kind = $1 AND name = $2";
pub(super) const STATEMENTS: &[&str] = &[PUT, GET, ALL, DELETE];

/// Which kind of record; its word is the key in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Machine,
    Profile,
    Image,
    Cluster,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Profile => "profile",
            Self::Image => "image",
            Self::Cluster => "cluster",
        }
    }
}

pub async fn put<T: Serialize>(tx: &mut Tx, kind: Kind, name: &str, spec: &T, now: Time) -> Result<()> {
    let text = to_json("declared", name, spec)?;
    on!(tx, c => sqlx::query(PUT).bind(kind.word()).bind(name).bind(&text).bind(now.0)
        .execute(c).await.map(|_| ())?);
    Ok(())
}

pub async fn get<T: DeserializeOwned>(tx: &mut Tx, kind: Kind, name: &str) -> Result<Option<T>> {
    let row: Option<(String, String)> =
        on!(tx, c => sqlx::query_as(GET).bind(kind.word()).bind(name).fetch_optional(c).await?);
    row.map(|(name, spec)| from_json("declared", &name, &spec)).transpose()
}

pub async fn all<T: DeserializeOwned>(tx: &mut Tx, kind: Kind) -> Result<Vec<T>> {
    let rows: Vec<(String, String)> = on!(tx, c => sqlx::query_as(ALL).bind(kind.word()).fetch_all(c).await?);
    rows.iter().map(|(name, spec)| from_json("declared", name, spec)).collect()
}

/// True where there was one.
pub async fn delete(tx: &mut Tx, kind: Kind, name: &str) -> Result<bool> {
    let count =
        on!(tx, c => sqlx::query(DELETE).bind(kind.word()).bind(name).execute(c).await?.rows_affected());
    Ok(count > 0)
}
