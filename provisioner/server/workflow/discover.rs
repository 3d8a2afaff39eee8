//! Machines that nobody declared: heard on the network, kept to be inspected and approved.

use super::Engine;
use crate::{
    machine::{Machine, MachineId},
    store::{self, StoreError},
};
use provisioner_wire::{Mac, machine::Phase};
use uuid::Uuid;

/// More discovered machines than this are not kept: anyone on the network can make up a MAC.
pub const DISCOVERED_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{DISCOVERED_MAX} discovered machines wait for approval already; delete some")]
    TooMany,
    #[error("{0} is not a machine's own MAC address")]
    Mac(Mac),
}

/// The machine with this MAC; made in phase Discovered, as `discovered-525400123456`, where there is none.
pub async fn discover(engine: &Engine, mac: Mac) -> Result<Machine, DiscoverError> {
    if !mac.is_unicast() {
        return Err(DiscoverError::Mac(mac));
    }
    let now = engine.now();
    let mut tx = engine.db().write().await?;
    if let Some(known) = store::machines::by_mac(&mut tx, mac).await? {
        return Ok(known);
    }
    let all = store::machines::all(&mut tx).await?;
    if all.iter().filter(|m| m.phase == Phase::Discovered).count() >= DISCOVERED_MAX {
        return Err(DiscoverError::TooMany);
    }
    let name = format!("discovered-{}", mac.to_string().replace(':', ""));
    // Letters, digits and one hyphen: always a good name.
    let name = name.parse().map_err(|_| DiscoverError::Mac(mac))?;
    let machine = Machine::discovered(MachineId(Uuid::new_v4()), name, now);
    store::machines::insert(&mut tx, &machine, now).await?;
    store::machines::set_macs(&mut tx, machine.id, &[mac]).await?;
    tx.commit().await?;
    tracing::info!(machine = %machine.name, "discovered");
    Ok(machine)
}
