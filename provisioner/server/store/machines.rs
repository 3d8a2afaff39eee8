//! Table `machines` (with `macs` and `licences`): one machine's state.

use super::{Result, StoreError, Tx, exists, from_json, on, to_json};
use crate::machine::{Machine, MachineId, Time};
use provisioner_wire::{Mac, MachineName};

const FIND: &str = "SELECT id, state FROM machines WHERE id = $1";
const BY_NAME: &str = "SELECT id, state FROM machines WHERE name = $1";
const BY_MAC: &str =
    "SELECT m.id, m.state FROM machines m JOIN macs ON macs.machine = m.id WHERE macs.mac = $1";
const BY_BOOT: &str = "SELECT id, state FROM machines WHERE boot_hash = $1";
const ALL: &str = "SELECT id, state FROM machines ORDER BY name";
const BUSY: &str = "SELECT id FROM machines WHERE phase NOT IN \
     ('discovered', 'rejected', 'available', 'ready', 'failed') OR owes > 0 ORDER BY name";
const INSERT: &str = "INSERT INTO machines (id, name, phase, state, boot_hash, changed_at, version) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";
const SAVE: &str = "UPDATE machines SET name = $2, phase = $3, state = $4, boot_hash = $5, changed_at = $6, \
     version = $7, owes = $9 WHERE id = $1 AND version = $8";
const DELETE: &str = "DELETE FROM machines WHERE id = $1";
const DROP_MACS: &str = "DELETE FROM macs WHERE machine = $1";
const ADD_MAC: &str = "INSERT INTO macs (mac, machine) VALUES ($1, $2)";
const MACS: &str = "SELECT mac FROM macs WHERE machine = $1 ORDER BY mac";
const LICENCE: &str = "INSERT INTO licences (id, machine, generation, purpose, disks, issued_at, spent_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT (id) DO UPDATE SET spent_at = excluded.spent_at";
pub(super) const STATEMENTS: &[&str] =
    &[FIND, BY_NAME, BY_MAC, BY_BOOT, ALL, BUSY, INSERT, SAVE, DELETE, DROP_MACS, ADD_MAC, MACS, LICENCE];

type Row = (String, String);

pub async fn find(tx: &mut Tx, id: MachineId) -> Result<Option<Machine>> {
    one(tx, FIND, &id.to_string()).await
}

pub async fn by_name(tx: &mut Tx, name: &MachineName) -> Result<Option<Machine>> {
    one(tx, BY_NAME, name.as_str()).await
}

pub async fn by_mac(tx: &mut Tx, mac: Mac) -> Result<Option<Machine>> {
    one(tx, BY_MAC, &mac.to_string()).await
}

/// The machine with this live boot id ([`provisioner_wire::BootId::hash`]).
pub async fn by_boot(tx: &mut Tx, hash: &str) -> Result<Option<Machine>> {
    one(tx, BY_BOOT, hash).await
}

async fn one(tx: &mut Tx, statement: &'static str, key: &str) -> Result<Option<Machine>> {
    let row: Option<Row> = on!(tx, c => sqlx::query_as(statement).bind(key).fetch_optional(c).await?);
    row.map(parse).transpose()
}

pub async fn all(tx: &mut Tx) -> Result<Vec<Machine>> {
    let rows: Vec<Row> = on!(tx, c => sqlx::query_as(ALL).fetch_all(c).await?);
    rows.into_iter().map(parse).collect()
}

/// Machines that a workflow has ([`Machine::is_busy`]), and those with a token that may have to be revoked.
pub async fn busy(tx: &mut Tx) -> Result<Vec<MachineId>> {
    let rows: Vec<(String,)> = on!(tx, c => sqlx::query_as(BUSY).fetch_all(c).await?);
    rows.iter().map(|(id,)| from_json("machines", id, &format!("\"{id}\""))).collect()
}

fn parse((id, state): Row) -> Result<Machine> {
    from_json("machines", &id, &state)
}

/// A new machine; its name must be free.
pub async fn insert(tx: &mut Tx, machine: &Machine, now: Time) -> Result<()> {
    let (id, state) = (machine.id.to_string(), to_json("machines", machine.name.as_str(), machine)?);
    let boot = machine.boot.as_ref().map(|b| b.hash.as_str());
    let done = on!(tx, c => sqlx::query(INSERT)
        .bind(&id).bind(machine.name.as_str()).bind(machine.phase.to_string()).bind(&state).bind(boot)
        .bind(now.0).bind(as_i64(machine.version)).execute(c).await.map(|_| ()));
    done.map_err(|e| exists(e, || format!("there is a machine named {} already", machine.name)))
}

/// Saves `machine` over `version`; its own version becomes the next one.
pub async fn save(tx: &mut Tx, machine: &mut Machine, now: Time) -> Result<()> {
    let before = machine.version;
    machine.version = before + 1;
    let (id, state) = (machine.id.to_string(), to_json("machines", machine.name.as_str(), machine)?);
    let boot = machine.boot.as_ref().map(|b| b.hash.as_str());
    let changed = on!(tx, c => sqlx::query(SAVE)
        .bind(&id).bind(machine.name.as_str()).bind(machine.phase.to_string()).bind(&state).bind(boot)
        .bind(now.0).bind(as_i64(machine.version)).bind(as_i64(before)).bind(as_i64(machine.owed.len() as u64))
        .execute(c).await?.rows_affected());
    if changed != 1 {
        return Err(StoreError::Raced(format!("machine {}", machine.name)));
    }
    if let Some(licence) = &machine.licence {
        let disks = to_json("licences", machine.name.as_str(), &licence.disks)?;
        on!(tx, c => sqlx::query(LICENCE)
            .bind(licence.id.0.to_string()).bind(&id).bind(as_i64(licence.generation.0))
            .bind(licence.purpose.to_string()).bind(&disks).bind(licence.issued.0)
            .bind(licence.spent.as_ref().map(|s| s.at.0)).execute(c).await.map(|_| ())?);
    }
    Ok(())
}

pub async fn delete(tx: &mut Tx, id: MachineId) -> Result<()> {
    let id = id.to_string();
    on!(tx, c => sqlx::query(DROP_MACS).bind(&id).execute(c).await.map(|_| ())?);
    on!(tx, c => sqlx::query(DELETE).bind(&id).execute(c).await.map(|_| ())?);
    Ok(())
}

/// Gives the machine exactly these MACs; one that another machine has is an error (I13).
pub async fn set_macs(tx: &mut Tx, id: MachineId, macs: &[Mac]) -> Result<()> {
    let id = id.to_string();
    on!(tx, c => sqlx::query(DROP_MACS).bind(&id).execute(c).await.map(|_| ())?);
    for mac in macs {
        let done =
            on!(tx, c => sqlx::query(ADD_MAC).bind(mac.to_string()).bind(&id).execute(c).await.map(|_| ()));
        done.map_err(|e| exists(e, || format!("another machine has the MAC {mac}")))?;
    }
    Ok(())
}

pub async fn macs(tx: &mut Tx, id: MachineId) -> Result<Vec<Mac>> {
    let rows: Vec<(String,)> = on!(tx, c => sqlx::query_as(MACS).bind(id.to_string()).fetch_all(c).await?);
    rows.iter().map(|(mac,)| from_json("macs", mac, &format!("\"{mac}\""))).collect()
}

fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
