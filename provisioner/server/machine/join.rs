//! A machine and its cluster: tokens that were asked for at an issuer, the node that may stand there, and how both end.

use super::{
    Act, Machine, Refusal, Time,
    lifecycle::{enter, failed, not_now, of_generation},
    state::{Joined, Leaving, Owed, TriedState, Workflow},
    wants::{IN_FLIGHT_MAX, LOCAL_PACE, Want},
};
use provisioner_wire::{
    Generation,
    machine::{Phase, WorkflowKind},
};
use std::time::Duration;

type Change = Result<Machine, Refusal>;

/// A request to an issuer is over after this time, answered or not.
pub const MINT_WITHIN: Duration = Duration::from_secs(60);
/// An issuer that could not be reached for so long ends the workflow.
pub const ISSUER_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Longest pause between two tries of a revocation.
const REVOKE_PACE_MAX: Duration = Duration::from_secs(300);

/// An issuer is about to be asked for the claim's token. Recorded before the asking, so that a crash in between leaves
/// nothing that nobody knows of.
pub(super) fn minting(machine: Machine, generation: Generation, owed: &Owed, now: Time) -> Change {
    let mut machine = of_generation(machine, generation)?;
    if !is_live(&machine, &owed.minted_for) {
        return not_now(&machine, "nobody may have a token for it");
    }
    match machine.owed.iter_mut().find(|o| o.minted_for == owed.minted_for) {
        Some(known) => known.asked = now,
        None => machine.owed.push(Owed { asked: now, first: now, ..owed.clone() }),
    }
    Ok(machine)
}

/// A config with this claim's token was rendered, and may be on its way.
pub(super) fn recorded(machine: &mut Machine, minted_for: &str, expires: Time) {
    if let Some(owed) = machine.owed.iter_mut().find(|o| o.minted_for == minted_for) {
        owed.expires = expires;
    }
    let node = machine.target().and_then(|t| t.join.as_ref()).and_then(|join| join.node.clone());
    if node.is_some() {
        machine.joined = node;
    }
}

/// The issuer does not answer: said, so that an operator sees what is waited for.
pub(super) fn issuer_down(machine: Machine, generation: Generation, reason: &str) -> Change {
    let mut machine = of_generation(machine, generation)?;
    if machine.minted_for().is_none() {
        return not_now(&machine, "nobody waits for a token");
    }
    machine.reason = format!("waits for its token: {reason}");
    Ok(machine)
}

/// Whether a token minted for this claim may still be used.
fn is_live(machine: &Machine, minted_for: &str) -> bool {
    if let Some(token) = &machine.token {
        return token.boot_hash == minted_for;
    }
    let by_url = machine.target().is_some_and(|t| t.by_url.is_some());
    let asked = machine.config_url.as_ref().is_some_and(|url| !url.fetched.is_empty());
    let may_have_one = match machine.phase {
        Phase::Installing => !by_url,
        // The node itself has asked by its one-shot URL.
        Phase::Rebooting => by_url && asked,
        _ => false,
    };
    may_have_one && machine.minted_for() == Some(minted_for)
}

/// Tokens that nobody may use any more and that may be live at their issuer.
pub fn dead(machine: &Machine) -> impl Iterator<Item = &Owed> {
    machine.owed.iter().filter(|owed| !is_live(machine, &owed.minted_for))
}

/// What is left to do about dead tokens.
pub(super) enum Revocation {
    Nothing,
    Now,
    Later(Time),
}

pub(super) fn revocation(machine: &Machine, now: Time) -> Revocation {
    // One that was revoked while its request could still arrive is revoked once more afterwards.
    let due = dead(machine).map(|owed| match owed.revoked {
        Some(_) => owed.asked + MINT_WITHIN,
        None => now,
    });
    let Some(due) = due.min() else { return Revocation::Nothing };
    let paced = machine.tried(Act::Revoke).map(|tried| {
        tried.last
            + match tried.state {
                TriedState::InFlight => IN_FLIGHT_MAX,
                TriedState::Done => Duration::ZERO,
                TriedState::Failed => LOCAL_PACE.saturating_mul(1 << tried.times.min(8)).min(REVOKE_PACE_MAX),
            }
    });
    let at = paced.map_or(due, |paced| due.max(paced));
    if now < at { Revocation::Later(at) } else { Revocation::Now }
}

/// These were deleted at their issuer, or are not there.
pub(super) fn revoked(mut machine: Machine, which: &[String], now: Time) -> Machine {
    for owed in machine.owed.iter_mut().filter(|o| which.contains(&o.minted_for)) {
        owed.revoked = Some(now);
    }
    let dead: Vec<String> = dead(&machine).map(|o| o.minted_for.clone()).collect();
    machine.owed.retain(|owed| {
        let over = now >= owed.asked + MINT_WITHIN;
        !(dead.contains(&owed.minted_for) && owed.revoked.is_some() && over)
    });
    machine
}

/// A revocation has failed. What its time to live has killed meanwhile needs none.
pub(super) fn not_revoked(mut machine: Machine, now: Time) -> Machine {
    let dead: Vec<String> = dead(&machine).map(|o| o.minted_for.clone()).collect();
    machine.owed.retain(|owed| {
        !(dead.contains(&owed.minted_for) && now >= (owed.asked + MINT_WITHIN).max(owed.expires))
    });
    machine
}

/// The server has seen for itself that the node is up.
pub(super) fn is_ready(machine: Machine, how: &str, missing: &[String], now: Time) -> Change {
    if machine.phase != Phase::Rebooting {
        return Ok(machine);
    }
    let mut reason = how.to_owned();
    if !missing.is_empty() {
        reason.push_str("; it joined without ");
        reason.push_str(&missing.join(", "));
    }
    Ok(enter(machine, Phase::Ready, reason, now))
}

/// The look for the node, again and again until the phase's deadline, which [`super::wants`] keeps.
pub(super) fn look(machine: &Machine, now: Time) -> Option<Want> {
    machine.target()?.join.as_ref().filter(|join| join.watched)?;
    Some(again(machine, Act::AwaitReady, now))
}

/// What must be done before a workflow touches a machine whose node may stand in a cluster.
pub(super) fn leave(machine: &Machine, now: Time) -> Option<Want> {
    let workflow = machine.workflow.as_ref()?;
    let joined = machine.joined.as_ref()?;
    if !matches!(workflow.kind, WorkflowKind::Wipe | WorkflowKind::Provision) {
        return None;
    }
    let within = Duration::from_millis(u64::try_from(joined.drain_within_ms).unwrap_or_default());
    if now >= machine.since + within {
        let (node, cluster) = (&joined.node, &joined.cluster);
        let why = machine.reason.clone();
        return Some(Want::Expire {
            reason: format!(
                "the node {node} has not left the cluster {cluster}: {why}. Release it with --skip-drain (its pods \
                 are not moved), or with --force (the cluster is not asked at all)"
            ),
        });
    }
    Some(again(machine, Act::Leave, now))
}

/// An act that is repeated with a short pause, never two at a time.
fn again(machine: &Machine, act: Act, now: Time) -> Want {
    let next = machine
        .tried(act)
        .filter(|t| t.last >= machine.since)
        .map(|t| t.last + if t.state == TriedState::InFlight { IN_FLIGHT_MAX } else { LOCAL_PACE });
    match next.filter(|next| now < *next) {
        Some(next) => Want::Wait { reason: machine.reason.clone(), until: Some(next) },
        None => Want::Do(act),
    }
}

/// The node is gone from its cluster, or nobody wants to know.
pub(super) fn left(mut machine: Machine) -> Machine {
    if let Some(Joined { node, cluster, .. }) = machine.joined.take() {
        machine.reason = format!("the node {node} has left the cluster {cluster}");
    }
    machine
}

/// How the release that was just begun lets the node leave.
pub(super) fn leaving(mut machine: Machine, how: Leaving) -> Change {
    let workflow: &mut Workflow = match machine.workflow.as_mut() {
        Some(workflow) if workflow.kind == WorkflowKind::Wipe => workflow,
        _ => return not_now(&machine, "it is not being released"),
    };
    workflow.leaving = how;
    if how == Leaving::Forced
        && let Some(joined) = machine.joined.take()
    {
        machine.reason =
            format!("released by force: the node {} is still in the cluster {}", joined.node, joined.cluster);
    }
    Ok(machine)
}

/// An answer of the cluster to a look or a leave that may pass.
pub(super) fn not_yet(mut machine: Machine, act: Act, reason: &str) -> Machine {
    let fits = match act {
        Act::AwaitReady => machine.phase == Phase::Rebooting,
        Act::Leave => machine.phase == Phase::Assigned && machine.joined.is_some(),
        _ => false,
    };
    if fits {
        reason.clone_into(&mut machine.reason);
    }
    machine
}

/// One that will not pass by itself.
pub(super) fn never(machine: Machine, act: Act, reason: &str, now: Time) -> Machine {
    let fits = match act {
        Act::AwaitReady => machine.phase == Phase::Rebooting,
        Act::Leave => machine.phase == Phase::Assigned,
        _ => false,
    };
    if fits { failed(machine, format!("{act}: {reason}"), now) } else { machine }
}
