//! What a machine boots, and what its agent does next.

use super::state::Machine;
use provisioner_wire::{
    machine::{Phase, WorkflowKind},
    order::{HandOver, Order, PlaceConfig, Step, Wipe, WriteImage},
};

/// How often an agent may claim in one generation; more is a loop.
pub const BOOTS_MAX: u32 = 5;
/// How many boot scripts may be made in one generation. Anyone on the network can ask for one, so it is far above
/// [`BOOTS_MAX`]; without a bound a machine that never gets from script to agent would try for ever.
pub const SCRIPTS_MAX: u32 = 40;

/// The answer to a network boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// The agent, with a fresh boot id.
    Agent,
    /// Its operating system's own kernel, with a fresh one-shot URL of its config.
    Netboot,
    /// Its own disk. Changes nothing (I2).
    Disk,
}

/// The one decision that DHCP and HTTP both ask for.
pub fn boots(machine: &Machine) -> Boot {
    match machine.phase {
        // Inspection only: no order but Wait is ever given to a discovered machine.
        Phase::Discovered => Boot::Agent,
        Phase::Powering | Phase::Booting | Phase::Inspected | Phase::Installing | Phase::Wiping => {
            Boot::Agent
        }
        // Until its config is fetched. Then it is Rebooting, and no loop can begin.
        Phase::Netbooting => Boot::Netboot,
        Phase::Assigned
        | Phase::Rejected
        | Phase::Available
        | Phase::Placed
        | Phase::Rebooting
        | Phase::PoweringOff
        | Phase::Ready
        | Phase::Failed => Boot::Disk,
    }
}

/// The next order of the agent that holds the live claim.
pub fn orders(machine: &Machine) -> Order {
    let wait = |reason: &str, seconds| Order::Wait { reason: reason.to_owned(), seconds };
    match machine.phase {
        Phase::Discovered => wait("this machine is not declared: waiting for an operator's approval", 15),
        Phase::Inspected if machine.kind() == Some(WorkflowKind::Inspect) => {
            Order::PowerOff { reason: "inspected".to_owned() }
        }
        Phase::Installing => install_order(machine),
        Phase::Wiping => wipe_order(machine),
        Phase::Placed => Order::Reboot { reason: "the operating system is on the disk".to_owned() },
        Phase::Netbooting => Order::Reboot { reason: "into the operating system's own installer".to_owned() },
        Phase::PoweringOff => Order::PowerOff { reason: "wiped".to_owned() },
        _ => wait(&machine.reason, 1),
    }
}

fn install_order(machine: &Machine) -> Order {
    let wait = || Order::Wait { reason: machine.reason.clone(), seconds: 1 };
    let (Some(licence), Some(target)) = (&machine.licence, machine.target()) else { return wait() };
    let Some(disk) = licence.disks.first() else { return wait() };
    if target.netboot.is_some() {
        return Order::HandOver(HandOver { disk: disk.clone(), licence: licence.id });
    }
    let Some(image) = &target.image else { return wait() };
    if !machine.has_done(Step::WriteImage) {
        return Order::WriteImage(WriteImage {
            disk: disk.clone(),
            licence: licence.id,
            image: image.clone(),
            read_back: target.read_back,
        });
    }
    match &target.place {
        Some(place) => Order::PlaceConfig(PlaceConfig { disk: disk.clone(), place: place.clone() }),
        None => wait(),
    }
}

fn wipe_order(machine: &Machine) -> Order {
    let (Some(licence), Some(target)) = (&machine.licence, machine.target()) else {
        return Order::Wait { reason: machine.reason.clone(), seconds: 1 };
    };
    Order::Wipe(Wipe { disks: licence.disks.clone(), licence: licence.id, method: target.wipe })
}
