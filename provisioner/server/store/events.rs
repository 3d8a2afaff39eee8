//! Table `events`: the inbox that the edges append to and the engine folds; afterwards the machine's timeline.

use super::{Result, Tx, from_json, on, to_json};
use crate::machine::{Event, MachineId, Time, Verdict};

const APPEND: &str = "INSERT INTO events (machine, at, kind, event) VALUES ($1, $2, $3, $4) RETURNING seq";
const APPEND_HEARD: &str =
    "INSERT INTO events (machine, at, kind, event, verdict) VALUES ($1, $2, $3, $4, $5)";
const UNFOLDED: &str = "SELECT seq, at, event, verdict FROM events WHERE machine = $1 AND verdict IS NULL ORDER BY seq LIMIT 256";
const WAITING: &str = "SELECT DISTINCT machine FROM events WHERE verdict IS NULL";
const SETTLE: &str = "UPDATE events SET verdict = $2 WHERE seq = $1 AND verdict IS NULL";
const VERDICT: &str = "SELECT verdict FROM events WHERE seq = $1";
const SINCE: &str =
    "SELECT seq, at, event, verdict FROM events WHERE machine = $1 AND seq > $2 ORDER BY seq LIMIT $3";
const NEWEST_OF: &str =
    "SELECT seq, at, event, verdict FROM events WHERE machine = $1 ORDER BY seq DESC LIMIT $2";
const LATEST: &str =
    "SELECT seq, machine, at, event, verdict FROM events WHERE seq > $1 ORDER BY seq LIMIT $2";
const LAST: &str = "SELECT COALESCE(MAX(seq), 0) FROM events";
pub(super) const STATEMENTS: &[&str] =
    &[APPEND, APPEND_HEARD, UNFOLDED, WAITING, SETTLE, VERDICT, SINCE, NEWEST_OF, LATEST, LAST];

/// One event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub seq: i64,
    pub at: Time,
    pub event: Event,
    /// `None` until the engine has folded it.
    pub verdict: Option<Verdict>,
}

type Row = (i64, i64, String, Option<String>);

/// Appends to the machine's inbox; the number tells the verdict later.
pub async fn append(tx: &mut Tx, machine: MachineId, event: &Event, at: Time) -> Result<i64> {
    let text = to_json("events", event.kind(), event)?;
    let (seq,): (i64,) = on!(tx, c => sqlx::query_as(APPEND)
        .bind(machine.to_string()).bind(at.0).bind(event.kind()).bind(&text).fetch_one(c).await?);
    Ok(seq)
}

/// Appends a line to the machine's timeline. It changes nothing of the machine, so it needs no turn of the engine: in a
/// boot storm there are many.
pub async fn append_heard(tx: &mut Tx, machine: MachineId, what: String, at: Time) -> Result<()> {
    let event = Event::Heard { what };
    let (text, verdict) =
        (to_json("events", event.kind(), &event)?, to_json("events", event.kind(), &Verdict::Accepted)?);
    on!(tx, c => sqlx::query(APPEND_HEARD).bind(machine.to_string()).bind(at.0).bind(event.kind()).bind(&text)
        .bind(&verdict).execute(c).await.map(|_| ())?);
    Ok(())
}

/// The oldest events of the machine that were not folded yet, in order.
pub async fn unfolded(tx: &mut Tx, machine: MachineId) -> Result<Vec<Stored>> {
    let rows: Vec<Row> = on!(tx, c => sqlx::query_as(UNFOLDED).bind(machine.to_string()).fetch_all(c).await?);
    rows.into_iter().map(parse).collect()
}

/// Machines with unfolded events.
pub async fn waiting(tx: &mut Tx) -> Result<Vec<MachineId>> {
    let rows: Vec<(String,)> = on!(tx, c => sqlx::query_as(WAITING).fetch_all(c).await?);
    rows.iter().map(|(id,)| from_json("events", id, &format!("\"{id}\""))).collect()
}

pub async fn settle(tx: &mut Tx, seq: i64, verdict: &Verdict) -> Result<()> {
    let text = to_json("events", &seq.to_string(), verdict)?;
    on!(tx, c => sqlx::query(SETTLE).bind(seq).bind(&text).execute(c).await.map(|_| ())?);
    Ok(())
}

pub async fn verdict(tx: &mut Tx, seq: i64) -> Result<Option<Verdict>> {
    let row: Option<(Option<String>,)> =
        on!(tx, c => sqlx::query_as(VERDICT).bind(seq).fetch_optional(c).await?);
    match row {
        Some((Some(text),)) => from_json("events", &seq.to_string(), &text).map(Some),
        _ => Ok(None),
    }
}

/// Up to `limit` events of one machine after number `seq`: its timeline.
pub async fn since(tx: &mut Tx, machine: MachineId, seq: i64, limit: i64) -> Result<Vec<Stored>> {
    let rows: Vec<Row> = on!(tx, c => sqlx::query_as(SINCE)
        .bind(machine.to_string()).bind(seq).bind(limit).fetch_all(c).await?);
    rows.into_iter().map(parse).collect()
}

/// The newest `limit` events of one machine, oldest first.
pub async fn newest_of(tx: &mut Tx, machine: MachineId, limit: i64) -> Result<Vec<Stored>> {
    let rows: Vec<Row> = on!(tx, c => sqlx::query_as(NEWEST_OF)
        .bind(machine.to_string()).bind(limit).fetch_all(c).await?);
    rows.into_iter().rev().map(parse).collect()
}

/// Up to `limit` events of all machines after number `seq`.
pub async fn latest(tx: &mut Tx, seq: i64, limit: i64) -> Result<Vec<(MachineId, Stored)>> {
    let rows: Vec<(i64, String, i64, String, Option<String>)> =
        on!(tx, c => sqlx::query_as(LATEST).bind(seq).bind(limit).fetch_all(c).await?);
    rows.into_iter()
        .map(|(seq, machine, at, event, verdict)| {
            let id = from_json("events", &machine, &format!("\"{machine}\""))?;
            Ok((id, parse((seq, at, event, verdict))?))
        })
        .collect()
}

/// The number of the newest event; 0 where there is none.
pub async fn last(tx: &mut Tx) -> Result<i64> {
    let (seq,): (i64,) = on!(tx, c => sqlx::query_as(LAST).fetch_one(c).await?);
    Ok(seq)
}

fn parse((seq, at, event, verdict): Row) -> Result<Stored> {
    let key = seq.to_string();
    Ok(Stored {
        seq,
        at: Time(at),
        event: from_json("events", &key, &event)?,
        verdict: verdict.map(|v| from_json("events", &key, &v)).transpose()?,
    })
}
