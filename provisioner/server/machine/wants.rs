//! What must be done about a machine now: at most one act, or a wait with its reason, or the end of a deadline.

use super::{
    Act, Machine, Time,
    join::{self, Revocation},
    state::{Tried, TriedState},
};
use provisioner_wire::machine::Phase;
use std::time::Duration;

/// How often one act that touches the machine is tried in a generation.
pub const TRIES_MAX: u32 = 3;
/// An act whose end was not heard for this long is over: the server died with it.
pub const IN_FLIGHT_MAX: Duration = Duration::from_secs(180);
/// Between two tries of an act that touches only the server.
pub const LOCAL_PACE: Duration = Duration::from_secs(10);
/// From a power-on to the first boot script. OVMF alone retries DHCP for 60 s on each of its boot options.
pub const SCRIPT_WITHIN: Duration = Duration::from_secs(600);
/// From a boot script to the claim: kernel and initramfs over the network, then the agent.
pub const CLAIM_WITHIN: Duration = Duration::from_secs(600);
/// Time limit of a write or a wipe whose agent is heard.
pub const DISK_STEP_WITHIN: Duration = Duration::from_secs(4 * 3600);
/// An agent that is not heard for this long in a write or a wipe is lost. Longer than what a network takes to heal by
/// itself: the agent bears that.
pub const SILENCE_MAX: Duration = Duration::from_secs(1800);
/// For the checks before any power change, which may have to take a large image in first.
pub const PREFLIGHT_WITHIN: Duration = Duration::from_secs(3600);
/// From the agent's reboot, or from a script with the operating system's own kernel, to the first fetch of its config:
/// kernel, initramfs and often a root file system of a gigabyte come over the network in between.
pub const NETBOOT_WITHIN: Duration = Duration::from_secs(1800);
/// For the phases that need only the server or the agent's next call.
pub const SHORT: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    Do(Act),
    /// Nothing to do before `until` (or before the next event). `reason` is shown to the operator.
    Wait {
        reason: String,
        until: Option<Time>,
    },
    /// The phase has lasted too long.
    Expire {
        reason: String,
    },
}

/// Asked after each change and on a timer.
pub fn wants(machine: &Machine, now: Time) -> Want {
    match join::revocation(machine, now) {
        Revocation::Nothing => of_phase(machine, now),
        Revocation::Now => Want::Do(Act::Revoke),
        Revocation::Later(at) => match of_phase(machine, now) {
            Want::Wait { reason, until } => {
                Want::Wait { reason, until: Some(until.map_or(at, |until| until.min(at))) }
            }
            other => other,
        },
    }
}

fn of_phase(machine: &Machine, now: Time) -> Want {
    match machine.phase {
        Phase::Discovered | Phase::Rejected | Phase::Available | Phase::Ready | Phase::Failed => {
            Want::Wait { reason: machine.reason.clone(), until: None }
        }
        Phase::Assigned if let Some(want) = join::leave(machine, now) => want,
        Phase::Assigned => local_act(machine, Act::Preflight, PREFLIGHT_WITHIN, now),
        Phase::Powering => power(machine, now),
        Phase::Booting => within(machine, CLAIM_WITHIN, now, "the agent has not claimed its boot id"),
        Phase::Inspected if machine.kind() == Some(provisioner_wire::machine::WorkflowKind::Inspect) => {
            within(machine, SHORT, now, "the agent has not powered the machine off after its inspection")
        }
        Phase::Inspected => local_act(machine, Act::ChooseDisks, SHORT, now),
        Phase::Installing => disk_step(machine, now, "the image is not on the disk"),
        Phase::Wiping => disk_step(machine, now, "the wipe has not ended"),
        Phase::Placed => within(machine, SHORT, now, "the agent has not rebooted the machine"),
        Phase::Netbooting => within(
            machine,
            NETBOOT_WITHIN,
            now,
            "the operating system's own kernel has not fetched its config",
        ),
        Phase::Rebooting => ready(machine, now),
        Phase::PoweringOff => power_off(machine, now),
    }
}

fn within(machine: &Machine, span: Duration, now: Time, late: &str) -> Want {
    let until = machine.since + span;
    if now < until {
        Want::Wait { reason: machine.reason.clone(), until: Some(until) }
    } else {
        Want::Expire { reason: format!("{late} within {}", human(span)) }
    }
}

/// A step that may take hours: bounded by the agent's silence, and in all.
fn disk_step(machine: &Machine, now: Time, late: &str) -> Want {
    let silent_at = machine.heard.unwrap_or(machine.since) + SILENCE_MAX;
    match within(machine, DISK_STEP_WITHIN, now, late) {
        Want::Wait { .. } if now >= silent_at => Want::Expire {
            reason: format!(
                "the agent was not heard for {}: look at the machine's console and at its network",
                human(SILENCE_MAX)
            ),
        },
        Want::Wait { reason, until } => {
            Want::Wait { reason, until: Some(until.map_or(silent_at, |u| u.min(silent_at))) }
        }
        other => other,
    }
}

/// An act without effect on the machine: repeated until the phase's deadline.
fn local_act(machine: &Machine, act: Act, span: Duration, now: Time) -> Want {
    let late = within(machine, span, now, "the server could not do it");
    if matches!(late, Want::Expire { .. }) {
        return late;
    }
    let next = machine
        .tried(act)
        .filter(|t| t.last >= machine.since)
        .map(|t| t.last + if t.state == TriedState::InFlight { IN_FLIGHT_MAX } else { LOCAL_PACE });
    match next.filter(|next| now < *next) {
        Some(next) => Want::Wait { reason: machine.reason.clone(), until: Some(next) },
        None => Want::Do(act),
    }
}

fn power(machine: &Machine, now: Time) -> Want {
    if !machine.bmc {
        return within(
            machine,
            Duration::from_secs(24 * 3600),
            now,
            "nobody has powered the machine on to boot from the network (it has no BMC)",
        );
    }
    paced(machine, Act::NetworkBoot, SCRIPT_WITHIN, now, |times| {
        format!(
            "powered on {times} times to boot from the network, and no boot script was asked for: look at its boot \
             order, at its cabling, and for another DHCP server"
        )
    })
}

fn power_off(machine: &Machine, now: Time) -> Want {
    // The agent powers its machine off by itself; the BMC makes sure.
    let patience = machine.since + Duration::from_secs(60);
    if !machine.bmc {
        return within(machine, SHORT, now, "the agent has not powered the machine off");
    }
    if now < patience {
        return Want::Wait { reason: machine.reason.clone(), until: Some(patience) };
    }
    paced(machine, Act::PowerOff, SHORT, now, |times| {
        format!("told to power off {times} times, and still on")
    })
}

/// An act on the machine: one in flight, the next only after its effect had `effect_within` to show, at most
/// [`TRIES_MAX`].
fn paced(
    machine: &Machine,
    act: Act,
    effect_within: Duration,
    now: Time,
    exhausted: impl Fn(u32) -> String,
) -> Want {
    let Some(Tried { times, last, state }) = machine.tried(act) else { return Want::Do(act) };
    let next = last
        + match state {
            TriedState::InFlight => IN_FLIGHT_MAX,
            TriedState::Done => effect_within,
            TriedState::Failed => Duration::from_secs(10 * u64::from(times)),
        };
    if now < next {
        return Want::Wait { reason: machine.reason.clone(), until: Some(next) };
    }
    if times < TRIES_MAX { Want::Do(act) } else { Want::Expire { reason: exhausted(times) } }
}

fn ready(machine: &Machine, now: Time) -> Want {
    let deadline = machine
        .target()
        .map_or(SHORT, |t| Duration::from_millis(u64::try_from(t.ready_deadline_ms).unwrap_or_default()));
    match within(machine, deadline, now, "the node has not shown that it is ready") {
        // Until then the server looks for itself, where the profile says so.
        Want::Wait { reason, until } => match join::look(machine, now) {
            Some(Want::Wait { until: Some(next), .. }) => {
                Want::Wait { reason, until: Some(until.map_or(next, |until| until.min(next))) }
            }
            Some(want) => want,
            None => Want::Wait { reason, until },
        },
        Want::Expire { reason } => Want::Expire { reason: format!("{reason} ({})", machine.reason) },
        want @ Want::Do(_) => want,
    }
}

/// `90 s`, `10 min`, `4 h`.
fn human(span: Duration) -> String {
    match span.as_secs() {
        s if s % 3600 == 0 && s > 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 && s > 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}
