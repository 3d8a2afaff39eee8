//! Causes that show by nothing being heard.

use super::found;
use crate::doctor::{
    Case, Finding,
    sign::{Program, Sign},
};
use provisioner_wire::machine::Phase;
use std::time::Duration;

/// From power to the first packet: servers with much memory take minutes.
const POST_WITHIN: Duration = Duration::from_secs(240);

fn is_network(sign: &Sign) -> bool {
    matches!(
        sign,
        Sign::Dhcp(_) | Sign::Transfer(_) | Sign::Fetch(_) | Sign::Script { .. } | Sign::Foreign(_)
    )
}

/// The BMC has powered it to boot from the network once, and it did something else.
pub fn boot_order(case: &Case) -> Option<Finding> {
    case.machine.as_ref().filter(|m| m.phase == Phase::Powering)?;
    let at = case.powered_on()?;
    let todo = "look at its boot order in the firmware's setup: network boot on, of the NIC that is declared; clear a \
                boot override that another tool has set; look at the console for what it boots";
    let system = case.after(at).find(|(_, s)| matches!(s, Sign::Dhcp(p) if p.program == Program::System));
    let booting = case.after(at).any(|(_, s)| is_network(s) && !is_system(s));
    if let (Some((when, _)), false) = (system, booting) {
        return found(
            "boot-order",
            when,
            format!(
                "the BMC has set {} to boot from the network and powered it, and an operating system came up: it booted \
                 its disk",
                case.who()
            ),
            todo,
        );
    }
    // Its cable was good before: then it is the order.
    let before = case.entries.iter().any(|e| e.at <= at && is_network(&e.sign));
    if booting || system.is_some() || !before || case.since(at) < POST_WITHIN {
        return None;
    }
    found(
        "boot-order",
        at,
        format!(
            "the BMC has set {} to boot from the network and powered it {} s ago, and nothing was heard of it since, \
             though it was heard before",
            case.who(),
            case.since(at).as_secs()
        ),
        todo,
    )
}

fn is_system(sign: &Sign) -> bool {
    matches!(sign, Sign::Dhcp(p) if p.program == Program::System)
}

/// It should boot, and its MAC was never heard.
pub fn nothing_heard(case: &Case) -> Option<Finding> {
    if case.entries.iter().any(|e| is_network(&e.sign)) {
        return None;
    }
    let todo = "look at the cable, the port's VLAN, the relay (its helper address must be this server), the NIC's MAC in \
                the machine's record, and whether network boot is on in its setup";
    match &case.machine {
        None => Some(Finding {
            rule: "nothing-heard",
            cause: "nothing was ever heard of this MAC: no DHCP packet of it reaches this server".to_owned(),
            todo: todo.to_owned(),
            at: None,
        }),
        Some(machine) if machine.phase == Phase::Powering => {
            let at = case.powered_on().or((!machine.bmc).then_some(machine.since))?;
            (case.since(at) >= POST_WITHIN).then_some(())?;
            found(
                "nothing-heard",
                at,
                format!(
                    "{} should boot from the network, and no packet of it reaches this server",
                    machine.name
                ),
                todo,
            )
        }
        Some(_) => None,
    }
}
