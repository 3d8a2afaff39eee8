//! Table `applied_configs`: the config that each machine was given last, without its secrets.

use super::{Result, Tx, from_json, on, to_json};
use crate::machine::Time;
use serde::{Serialize, de::DeserializeOwned};

const GET: &str = "SELECT generation, at, files FROM applied_configs WHERE machine = $1";
const PUT: &str = "INSERT INTO applied_configs (machine, generation, at, files) VALUES ($1, $2, $3, $4) ON CONFLICT \
                   (machine) DO UPDATE SET generation = excluded.generation, at = excluded.at, files = excluded.files";
pub(super) const STATEMENTS: &[&str] = &[GET, PUT];

/// What was given, when, and in which generation.
pub async fn get<T: DeserializeOwned>(tx: &mut Tx, machine: &str) -> Result<Option<(i64, Time, T)>> {
    let row: Option<(i64, i64, String)> =
        on!(tx, c => sqlx::query_as(GET).bind(machine).fetch_optional(c).await?);
    row.map(|(generation, at, files)| {
        Ok((generation, Time(at), from_json("applied_configs", machine, &files)?))
    })
    .transpose()
}

pub async fn put<T: Serialize>(
    tx: &mut Tx,
    machine: &str,
    generation: i64,
    files: &T,
    now: Time,
) -> Result<()> {
    let files = to_json("applied_configs", machine, files)?;
    on!(tx, c => sqlx::query(PUT).bind(machine).bind(generation).bind(now.0).bind(files).execute(c).await.map(|_| ())?);
    Ok(())
}
