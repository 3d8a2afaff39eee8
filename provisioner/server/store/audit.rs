//! Table `audit`: the trail. One row a transition (I6), each chained to the one before by SHA-256, so that a row
//! taken out or changed shows.

use super::{Result, Tx, on};
use crate::machine::{MachineId, Time};
use provisioner_wire::ids::hex;
use sha2::{Digest, Sha256};
use sqlx::FromRow;

/// Held until the transaction ends; the number is arbitrary and this table's own.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(7261001)";
const TIP: &str = "SELECT hash FROM audit ORDER BY seq DESC LIMIT 1";
const APPEND: &str = "INSERT INTO audit (at, machine, generation, kind, before, after, cause, reason, previous, hash) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const PAGE: &str = "SELECT seq, at, machine, generation, kind, before, after, cause, reason, previous, hash \
     FROM audit WHERE seq > $1 ORDER BY seq LIMIT 1000";
const OF_MACHINE: &str = "SELECT seq, at, machine, generation, kind, before, after, cause, reason, previous, hash \
     FROM audit WHERE machine = $1 ORDER BY seq";
pub(super) const STATEMENTS: &[&str] = &[TIP, APPEND, PAGE, OF_MACHINE];

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: Time,
    pub machine: MachineId,
    pub generation: u64,
    pub kind: Kind,
    /// Phases; equal for an alarm.
    pub before: String,
    pub after: String,
    /// [`crate::machine::Event::kind`] of what caused it.
    pub cause: String,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Transition,
    Alarm,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Alarm => "alarm",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Row {
    pub seq: i64,
    pub at: i64,
    pub machine: String,
    pub generation: i64,
    pub kind: String,
    pub before: String,
    pub after: String,
    pub cause: String,
    pub reason: String,
    pub previous: String,
    pub hash: String,
}

pub async fn append(tx: &mut Tx, entry: &Entry) -> Result<()> {
    // SQLite has one writer. On Postgres two transactions would read the same tip, and the chain would fork.
    if let Tx::Postgres(tx) = tx {
        sqlx::query(ONE_AT_A_TIME).execute(&mut **tx).await?;
    }
    let tip: Option<(String,)> = on!(tx, c => sqlx::query_as(TIP).fetch_optional(c).await?);
    let previous = tip.map_or_else(String::new, |(hash,)| hash);
    let generation = i64::try_from(entry.generation).unwrap_or(i64::MAX);
    let machine = entry.machine.to_string();
    let words = [
        &*entry.at.0.to_string(),
        &*machine,
        &*generation.to_string(),
        entry.kind.word(),
        &*entry.before,
        &*entry.after,
        &*entry.cause,
        &*entry.reason,
    ];
    let hash = link(&previous, &words);
    on!(tx, c => sqlx::query(APPEND)
        .bind(entry.at.0).bind(&machine).bind(generation).bind(entry.kind.word()).bind(&entry.before)
        .bind(&entry.after).bind(&entry.cause).bind(&entry.reason).bind(&previous).bind(&hash)
        .execute(c).await.map(|_| ())?);
    Ok(())
}

pub async fn of_machine(tx: &mut Tx, machine: MachineId) -> Result<Vec<Row>> {
    Ok(on!(tx, c => sqlx::query_as(OF_MACHINE).bind(machine.to_string()).fetch_all(c).await?))
}

/// Walks the whole chain; the number of its rows, or the first row that does not fit.
pub async fn verify(tx: &mut Tx) -> Result<std::result::Result<u64, i64>> {
    let (mut after, mut previous, mut count) = (0, String::new(), 0);
    loop {
        let rows: Vec<Row> = on!(tx, c => sqlx::query_as(PAGE).bind(after).fetch_all(c).await?);
        let Some(last) = rows.last() else { return Ok(Ok(count)) };
        after = last.seq;
        for row in rows {
            let words = [
                &*row.at.to_string(),
                &*row.machine,
                &*row.generation.to_string(),
                &*row.kind,
                &*row.before,
                &*row.after,
                &*row.cause,
                &*row.reason,
            ];
            if row.previous != previous || row.hash != link(&previous, &words) {
                return Ok(Err(row.seq));
            }
            previous = row.hash;
            count += 1;
        }
    }
}

fn link(previous: &str, words: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for word in std::iter::once(&previous).chain(words) {
        hasher.update((word.len() as u64).to_be_bytes());
        hasher.update(word);
    }
    hex(&hasher.finalize())
}
