//! Causes beyond the boot plane: the agent, the workflow, the engine.

use super::found;
use crate::doctor::{
    Case, Finding,
    sign::{Fetch, Outcome, Sign},
};
use provisioner_wire::machine::Phase;
use std::time::Duration;

/// From the script to the claim: kernel, initramfs, and the agent's look at the hardware.
const CLAIM_WITHIN: Duration = Duration::from_secs(120);

/// The workflow was refused: a template, a disk, the BMC.
pub fn refused(case: &Case) -> Option<Finding> {
    let machine = case.machine.as_ref()?;
    if machine.phase != Phase::Failed {
        // A BMC that refuses is tried again, and the operator should know at once.
        let (at, sign) = case.stuck_in().find(|(_, s)| matches!(s, Sign::Bmc { .. }))?;
        let Sign::Bmc { what, outcome: Outcome::Failed(why) } = sign else { return None };
        return (machine.busy && at >= machine.since).then(|| Finding {
            rule: "bmc",
            cause: format!("{what} failed: {why}"),
            todo: "see docs/real-hardware.md for the BMC's own messages; it is tried again".to_owned(),
            at: Some(at),
        });
    }
    let (at, what) = case.back().find_map(|(at, sign)| match sign {
        Sign::Refused { what } if at.0.abs_diff(machine.since.0) < 10_000 => Some((at, what.as_str())),
        _ => None,
    })?;
    let todo = if what.contains("config") {
        "correct the template at that place, or the values of the profile or machine, then `provisioner retry`"
    } else {
        "correct what the reason names, then `provisioner retry`"
    };
    found("workflow-refused", at, what, todo)
}

/// The script was served, and no agent has claimed.
pub fn agent_silent(case: &Case) -> Option<Finding> {
    let at = case.agent_script()?;
    case.machine
        .as_ref()
        .filter(|m| matches!(m.phase, Phase::Booting | Phase::Discovered | Phase::Failed))?;
    if case.since(at) < CLAIM_WITHIN {
        return None;
    }
    let got = |name: &str| {
        case.after(at).any(|(_, s)| {
            matches!(s, Sign::Fetch(Fetch { path, status: 200, whole: true, .. }) if path.ends_with(name))
        })
    };
    let (kernel, initramfs) = (got("/vmlinuz"), got("/initramfs.img"));
    let (what, todo) = match (kernel, initramfs) {
        (false, _) => (
            "did not fetch the agent's kernel",
            "let the plain HTTP port pass; look at the console for iPXE's own message",
        ),
        (true, false) => (
            "fetched the agent's kernel and not its initramfs",
            "look at the console: iPXE had too little memory, or the link was cut",
        ),
        (true, true) => (
            "fetched the agent's kernel and initramfs, and its agent has not claimed",
            "look at the console: a kernel without the NIC's driver (try the `generic` kernel), a NIC that comes up on \
             another VLAN, or a kernel that Secure Boot refuses",
        ),
    };
    found("agent-silent", at, format!("{} was given its boot script and {what}", case.who()), todo)
}

/// What the engine itself waits for, where nothing else was found.
pub fn waits(case: &Case) -> Option<Finding> {
    let machine = case.machine.as_ref()?;
    let todo = match machine.phase {
        Phase::Failed => "correct what the reason names, then `provisioner retry`",
        Phase::Discovered => "`provisioner approve`, or apply its record",
        Phase::Powering if !machine.bmc => "power it on to boot from the network: it has no BMC",
        _ if machine.busy && case.since(machine.since) > Duration::from_secs(600) => {
            "it has been so for more than ten minutes: see the agent's log and the machine's console"
        }
        _ => return None,
    };
    found("waits", machine.since, format!("{} is {}: {}", machine.name, machine.phase, machine.reason), todo)
}
