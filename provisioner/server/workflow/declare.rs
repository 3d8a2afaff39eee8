//! What an operator declares about a machine, by file or by API: the record, its identity and its secrets, in one
//! transaction.

use super::Engine;
use crate::{
    machine::{Event, Machine, MachineId},
    store::{self, StoreError, Tx, declared::Kind},
};
use provisioner_wire::{Mac, MachineName, machine::Phase};
use uuid::Uuid;

/// One machine's checked record.
#[derive(Debug)]
pub struct Declaration<'a> {
    pub name: MachineName,
    /// As stored: normalised, without secrets.
    pub spec: &'a serde_json::Value,
    pub macs: Vec<Mac>,
    /// It has a BMC that may be driven.
    pub bmc: bool,
    /// Sealed secrets, by field name. A field that is not here keeps what it has.
    pub sealed: Vec<(String, Vec<u8>)>,
}

/// Declares a machine; true where it is new. One that was discovered under one of the MACs becomes this one. A MAC of
/// another declared machine is [`StoreError::Exists`], and nothing is changed (I13).
pub async fn declare(engine: &Engine, declaration: Declaration<'_>) -> Result<bool, StoreError> {
    let now = engine.now();
    let Declaration { name, spec, macs, bmc, sealed } = declaration;
    let mut tx = engine.db().write().await?;
    let (id, new) = match store::machines::by_name(&mut tx, &name).await? {
        Some(known) => (known.id, false),
        None => match heard_as(&mut tx, &macs).await?.into_iter().next() {
            Some(mut heard) => {
                heard.name = name.clone();
                store::machines::save(&mut tx, &mut heard, now).await?;
                (heard.id, true)
            }
            None => {
                let machine = Machine::declared(MachineId(Uuid::new_v4()), name.clone(), bmc, now);
                store::machines::insert(&mut tx, &machine, now).await?;
                (machine.id, true)
            }
        },
    };
    // The same box may have been heard under several of its MACs; it is one machine now.
    for other in heard_as(&mut tx, &macs).await? {
        if other.id != id {
            store::machines::delete(&mut tx, other.id).await?;
        }
    }
    store::machines::set_macs(&mut tx, id, &macs).await?;
    store::declared::put(&mut tx, Kind::Machine, name.as_str(), spec, now).await?;
    for (field, sealed) in &sealed {
        store::secrets::put(&mut tx, name.as_str(), field, sealed).await?;
    }
    tx.commit().await?;
    // Lost with a crash here, it is declared again at the next start or by the operator who got no answer.
    engine.record(id, &Event::Declared { bmc }).await?;
    Ok(new)
}

/// Machines that were only heard, never declared, under one of these MACs.
async fn heard_as(tx: &mut Tx, macs: &[Mac]) -> Result<Vec<Machine>, StoreError> {
    let mut heard = Vec::new();
    for mac in macs {
        let found = store::machines::by_mac(tx, *mac).await?;
        let Some(machine) = found.filter(|m| matches!(m.phase, Phase::Discovered | Phase::Rejected)) else {
            continue;
        };
        // A declared machine that was rejected is still that machine.
        let record: Option<serde_json::Value> =
            store::declared::get(tx, Kind::Machine, machine.name.as_str()).await?;
        if record.is_none() {
            heard.push(machine);
        }
    }
    Ok(heard)
}
