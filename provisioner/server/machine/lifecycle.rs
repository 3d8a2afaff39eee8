//! `on`: what one event changes in one machine. The switch stands here; each arm's rule stands below it.

use super::{
    Act, ActResult, Event, Machine, Refusal, RefusalKind, Time,
    boot::{BOOTS_MAX, Boot, SCRIPTS_MAX, boots},
    config_url, join, read_back,
    state::{BootGrant, Claim, Leaving, Licence, Spent, Target, Token, Tried, TriedState, Workflow},
    wants::TRIES_MAX,
};
use provisioner_wire::{
    Generation,
    machine::{Phase, WorkflowKind},
    order::{LicenceId, Outcome, Step},
    report::{DiskIdentity, HardwareReport},
};
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) type Change = Result<Machine, Refusal>;

/// The machine after `event`. A refusal changes nothing; the same event delivered again gives the same state (I7).
pub fn on(machine: &Machine, event: &Event, now: Time) -> Change {
    let next = machine.clone();
    match event {
        Event::Declared { bmc } => declared(next, *bmc, now),
        Event::Provision { workflow, profile } => provision(next, *workflow, profile, now),
        Event::ReleaseBy { workflow, how } => join::leaving(release(next, *workflow, now)?, *how),
        Event::Minting { generation, owed } => join::minting(next, *generation, owed, now),
        Event::IssuerDown { generation, reason } => join::issuer_down(next, *generation, reason),
        Event::Release { workflow } => release(next, *workflow, now),
        Event::Inspect { workflow } => inspect(next, *workflow, now),
        Event::Retry { workflow } => retry(next, *workflow, now),
        Event::Cancel => cancel(next, now),
        Event::DespiteRogue => despite_rogue(next, now),
        Event::Held { generation, reason } => held(of_generation(next, *generation)?, reason, now),
        Event::Approve => approve(next, now),
        Event::Reject => reject(next, now),
        Event::Heard { .. } => Ok(next),
        Event::ScriptServed { boot_hash, expires } => script_served(next, boot_hash, *expires, now),
        Event::Claimed { boot_hash, public_key, report } => claimed(next, boot_hash, public_key, report, now),
        Event::SpendLicence { boot_hash, generation, licence, disks } => {
            spend(by_claim(next, boot_hash, *generation)?, *licence, disks, now)
        }
        Event::Challenged { boot_hash, generation, licence, nonce, expected } => {
            read_back::challenged(by_claim(next, boot_hash, *generation)?, *licence, nonce, expected)
        }
        Event::ReadBack { boot_hash, generation, proof } => {
            read_back::answered(by_claim(next, boot_hash, *generation)?, proof)
        }
        Event::NetbootServed { url_hash, expires } => {
            config_url::netboot_served(next, url_hash, *expires, now)
        }
        Event::ConfigUrlMade { boot_hash, generation, url_hash, expires } => {
            config_url::made(by_claim(next, boot_hash, *generation)?, url_hash, *expires)
        }
        Event::ConfigAsked { url_hash, generation, file, fetch } => {
            config_url::asked(of_generation(next, *generation)?, url_hash, file, fetch, now)
        }
        Event::ConfigRendered { boot_hash, generation, token_hash, token_expires, .. } => {
            let next = by_claim_or_url(next, boot_hash, *generation)?;
            config_rendered(next, token_hash, *token_expires)
        }
        Event::ConfigRefused { boot_hash, generation, reason } => {
            let next = by_claim_or_url(next, boot_hash, *generation)?;
            Ok(failed(next, format!("the config could not be made: {reason}"), now))
        }
        Event::StepEnded { boot_hash, generation, step, outcome } => {
            step_ended(by_claim(next, boot_hash, *generation)?, *step, outcome, now)
        }
        Event::AgentHeard { boot_hash, generation } => {
            Ok(listened(by_claim(next, boot_hash, *generation)?, now))
        }
        Event::Listening => Ok(listened(next, now)),
        Event::PhonedHome { token_hash } => phoned_home(next, token_hash, now),
        Event::Tried { act, generation } => tried(of_generation(next, *generation)?, *act, now),
        Event::Acted { act, generation, result } => {
            acted(of_generation(next, *generation)?, *act, result, now)
        }
        Event::DeadlinePassed { phase, since, reason } => deadline(next, *phase, *since, reason, now),
    }
}

pub(super) fn refuse<T>(kind: RefusalKind, reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { kind, reason: reason.into() })
}

pub(super) fn not_now<T>(machine: &Machine, what: &str) -> Result<T, Refusal> {
    refuse(RefusalKind::NotNow, format!("{} is {}: {what}", machine.name, machine.phase))
}

/// Enters a phase. Everything that must not outlive its phase dies here, so that no arm can forget it.
pub(super) fn enter(mut machine: Machine, phase: Phase, reason: impl Into<String>, now: Time) -> Machine {
    machine.phase = phase;
    machine.reason = reason.into();
    machine.since = now;
    let agent_runs = matches!(
        phase,
        Phase::Discovered
            | Phase::Booting
            | Phase::Inspected
            | Phase::Installing
            | Phase::Wiping
            | Phase::Placed
            | Phase::Netbooting
            | Phase::PoweringOff
    );
    if !agent_runs {
        machine.boot = None;
        machine.claim = None;
    }
    if phase != Phase::Installing {
        machine.challenge = None;
    }
    let licence_lives = matches!(
        phase,
        Phase::Powering
            | Phase::Booting
            | Phase::Inspected
            | Phase::Installing
            | Phase::Wiping
            | Phase::Netbooting
            | Phase::Placed
    );
    if !licence_lives {
        machine.licence = None;
    }
    if !matches!(phase, Phase::Installing | Phase::Placed | Phase::Rebooting) {
        machine.token = None;
    }
    // Kept when all is over, too: who asks again then is somebody else.
    let url_lives = matches!(
        phase,
        Phase::Installing
            | Phase::Placed
            | Phase::Netbooting
            | Phase::Rebooting
            | Phase::Ready
            | Phase::Failed
    );
    if !url_lives {
        machine.config_url = None;
    }
    machine.heard = does_disk_step(phase).then_some(now);
    machine
}

/// The phases in which an agent may be busy for hours, so that only its own word tells that it lives.
fn does_disk_step(phase: Phase) -> bool {
    matches!(phase, Phase::Installing | Phase::Wiping)
}

fn listened(mut machine: Machine, now: Time) -> Machine {
    if does_disk_step(machine.phase) {
        machine.heard = machine.heard.max(Some(now));
    }
    machine
}

pub(super) fn failed(machine: Machine, reason: impl Into<String>, now: Time) -> Machine {
    enter(machine, Phase::Failed, reason, now)
}

/// Begins a workflow: a new generation, so that everything said before is stale.
fn begin(mut machine: Machine, id: Uuid, kind: WorkflowKind, profile: Option<String>, now: Time) -> Machine {
    machine.generation = Generation(machine.generation.0 + 1);
    machine.workflow = Some(Workflow {
        id,
        kind,
        profile,
        target: None,
        tried: BTreeMap::new(),
        scripts: 0,
        boots: 0,
        done: Vec::new(),
        held: None,
        leaving: Leaving::default(),
        despite_rogue: false,
    });
    machine.licence = None;
    machine.config_url = None;
    enter(machine, Phase::Assigned, format!("{kind} asked for"), now)
}

/// The intent was delivered before: the workflow it asked for is the present one.
fn is_present(machine: &Machine, workflow: Uuid) -> bool {
    machine.workflow.as_ref().is_some_and(|w| w.id == workflow)
}

fn declared(mut machine: Machine, bmc: bool, now: Time) -> Change {
    machine.bmc = bmc;
    Ok(if machine.phase == Phase::Discovered {
        enter(machine, Phase::Available, "declared after it was discovered", now)
    } else {
        machine
    })
}

fn provision(machine: Machine, workflow: Uuid, profile: &str, now: Time) -> Change {
    match machine.phase {
        _ if is_present(&machine, workflow) => Ok(machine),
        Phase::Available | Phase::Failed => {
            Ok(begin(machine, workflow, WorkflowKind::Provision, Some(profile.to_owned()), now))
        }
        Phase::Ready => not_now(&machine, "release it first; provisioning would destroy what runs on it"),
        _ => not_now(&machine, "it cannot be provisioned now"),
    }
}

fn release(machine: Machine, workflow: Uuid, now: Time) -> Change {
    match machine.phase {
        _ if is_present(&machine, workflow) => Ok(machine),
        Phase::Available | Phase::Failed | Phase::Ready => {
            Ok(begin(machine, workflow, WorkflowKind::Wipe, None, now))
        }
        _ => not_now(&machine, "it cannot be released now; cancel its workflow first"),
    }
}

fn inspect(machine: Machine, workflow: Uuid, now: Time) -> Change {
    match machine.phase {
        _ if is_present(&machine, workflow) => Ok(machine),
        Phase::Available | Phase::Failed => Ok(begin(machine, workflow, WorkflowKind::Inspect, None, now)),
        _ => not_now(&machine, "it cannot be inspected now: an inspection reboots the machine"),
    }
}

fn retry(machine: Machine, workflow: Uuid, now: Time) -> Change {
    match (&machine.phase, &machine.workflow) {
        _ if is_present(&machine, workflow) => Ok(machine),
        (Phase::Failed, Some(last)) => {
            let (kind, profile) = (last.kind, last.profile.clone());
            Ok(begin(machine, workflow, kind, profile, now))
        }
        _ => not_now(&machine, "only a failed workflow can be tried again"),
    }
}

fn cancel(machine: Machine, now: Time) -> Change {
    if !machine.is_busy() {
        return not_now(&machine, "it has no workflow to cancel");
    }
    let touched = machine.licence.as_ref().is_some_and(|l| l.spent.is_some())
        || matches!(machine.phase, Phase::Rebooting | Phase::PoweringOff);
    Ok(if touched {
        failed(machine, "cancelled after its disk was touched: provision or release it", now)
    } else {
        enter(machine, Phase::Available, "cancelled before any disk was touched", now)
    })
}

fn despite_rogue(mut machine: Machine, now: Time) -> Change {
    let busy = machine.is_busy();
    let Some(workflow) = machine.workflow.as_mut().filter(|_| busy) else {
        return not_now(&machine, "it has no workflow that could go on");
    };
    workflow.despite_rogue = true;
    if workflow.held.take().is_some() {
        // The phase's deadline was not running while it was held.
        machine.since = now;
        machine.reason = "goes on although another DHCP server is heard: somebody wants it so".to_owned();
    }
    Ok(machine)
}

fn held(mut machine: Machine, reason: &str, now: Time) -> Change {
    if !matches!(machine.phase, Phase::Powering | Phase::Inspected) {
        return not_now(&machine, "there is nothing to hold back");
    }
    if let Some(workflow) = &mut machine.workflow {
        workflow.held.get_or_insert(now);
    }
    reason.clone_into(&mut machine.reason);
    machine.since = now;
    Ok(machine)
}

fn approve(machine: Machine, now: Time) -> Change {
    match machine.phase {
        Phase::Discovered | Phase::Rejected => Ok(enter(machine, Phase::Available, "approved", now)),
        Phase::Available => Ok(machine),
        _ => not_now(&machine, "there is nothing to approve"),
    }
}

fn reject(machine: Machine, now: Time) -> Change {
    match machine.phase {
        Phase::Discovered | Phase::Available | Phase::Failed => {
            Ok(enter(machine, Phase::Rejected, "rejected by an operator", now))
        }
        Phase::Rejected => Ok(machine),
        _ => not_now(&machine, "it cannot be rejected now"),
    }
}

fn script_served(mut machine: Machine, boot_hash: &str, expires: Time, now: Time) -> Change {
    if machine.boot.as_ref().is_some_and(|b| b.hash == boot_hash) {
        return Ok(machine);
    }
    if boots(&machine) != Boot::Agent {
        return not_now(&machine, "it boots its disk");
    }
    // The new boot id kills the old one, and with it the old claim (I5).
    machine.boot = Some(BootGrant { hash: boot_hash.to_owned(), expires });
    machine.claim = None;
    if machine.phase == Phase::Discovered {
        return Ok(machine);
    }
    // A token belongs to one claim; the next claim gets its own.
    machine.token = None;
    machine.config_url = None;
    let scripts = machine.workflow.as_mut().map_or(0, |workflow| {
        workflow.scripts += 1;
        workflow.done.clear();
        workflow.scripts
    });
    Ok(if scripts > SCRIPTS_MAX {
        failed(machine, format!("{SCRIPTS_MAX} boot scripts were asked for, and no agent got through"), now)
    } else {
        enter(machine, Phase::Booting, "a boot script was served", now)
    })
}

fn claimed(
    mut machine: Machine,
    boot_hash: &str,
    public_key: &str,
    report: &HardwareReport,
    now: Time,
) -> Change {
    let Some(grant) = machine.boot.as_ref().filter(|b| b.hash == boot_hash) else {
        return refuse(RefusalKind::Stale, format!("{} has no such live boot id", machine.name));
    };
    if let Some(claim) = &machine.claim {
        return if claim.public_key == public_key {
            Ok(machine)
        } else {
            let name = machine.name;
            refuse(RefusalKind::Alarm, format!("a second claim of {name}'s boot id, with another key"))
        };
    }
    if now >= grant.expires {
        return refuse(RefusalKind::Stale, format!("the boot id of {} has expired", machine.name));
    }
    machine.claim =
        Some(Claim { boot_hash: boot_hash.to_owned(), public_key: public_key.to_owned(), at: now });
    machine.report = Some(report.clone());
    let boots = machine.workflow.as_mut().filter(|_| machine.phase == Phase::Booting).map_or(0, |workflow| {
        workflow.boots += 1;
        workflow.boots
    });
    Ok(match machine.phase {
        _ if boots > BOOTS_MAX => {
            failed(machine, format!("the agent was booted {BOOTS_MAX} times and did not get through"), now)
        }
        Phase::Booting => enter(machine, Phase::Inspected, "the agent has claimed and reported", now),
        _ => machine,
    })
}

/// The speaker must hold the live claim of the present generation.
fn by_claim(machine: Machine, boot_hash: &str, generation: Generation) -> Change {
    let machine = of_generation(machine, generation)?;
    if machine.claim.as_ref().is_some_and(|c| c.boot_hash == boot_hash) {
        Ok(machine)
    } else {
        refuse(RefusalKind::Stale, format!("another boot of {} has taken over", machine.name))
    }
}

/// As [`by_claim`]; or the speaker is the server itself, for who has won the live URL.
fn by_claim_or_url(machine: Machine, hash: &str, generation: Generation) -> Change {
    if machine.config_url.as_ref().is_some_and(|url| url.hash == hash) {
        of_generation(machine, generation)
    } else {
        by_claim(machine, hash, generation)
    }
}

pub(super) fn of_generation(machine: Machine, generation: Generation) -> Change {
    if machine.generation == generation {
        Ok(machine)
    } else {
        let reason = format!(
            "{} is in generation {}; this is about generation {generation}",
            machine.name, machine.generation
        );
        refuse(RefusalKind::Stale, reason)
    }
}

fn spend(mut machine: Machine, id: LicenceId, disks: &[DiskIdentity], now: Time) -> Change {
    let fits = matches!(machine.phase, Phase::Installing | Phase::Wiping);
    let name = machine.name.clone();
    let Some(licence) = machine.licence.as_mut().filter(|l| fits && l.id == id) else {
        return refuse(RefusalKind::Alarm, format!("{name} has no licence {} to write a disk", id.0));
    };
    if licence.disks != disks {
        let seen: Vec<String> = disks.iter().map(ToString::to_string).collect();
        return refuse(
            RefusalKind::Alarm,
            format!("the licence of {name} is for other disks than {}", seen.join(", ")),
        );
    }
    licence.spent = Some(match &licence.spent {
        Some(spent) => Spent { at: spent.at, times: spent.times.saturating_add(1) },
        None => Spent { at: now, times: 1 },
    });
    Ok(machine)
}

fn config_rendered(mut machine: Machine, hash: &str, expires: Time) -> Change {
    let Some(boot_hash) = machine.minted_for().map(str::to_owned) else {
        return refuse(RefusalKind::Stale, format!("{} has no claim", machine.name));
    };
    config_url::may_have_token(&machine)?;
    match &machine.token {
        Some(token) if token.hash == hash => Ok(machine),
        Some(_) => refuse(RefusalKind::Alarm, format!("a second token for one claim of {}", machine.name)),
        None => {
            join::recorded(&mut machine, &boot_hash, expires);
            machine.token = Some(Token { hash: hash.to_owned(), boot_hash, expires });
            Ok(machine)
        }
    }
}

fn step_ended(mut machine: Machine, step: Step, outcome: &Outcome, now: Time) -> Change {
    if machine.has_done(step) {
        return Ok(machine);
    }
    if let Outcome::Failed { reason } = outcome {
        return Ok(failed(machine, format!("{step} failed: {reason}"), now));
    }
    let fits = match (machine.phase, step) {
        (Phase::Installing, Step::WriteImage) => is_spent(&machine) && read_back::is_proven(&machine),
        (Phase::Wiping, Step::Wipe) => is_spent(&machine),
        (Phase::Installing, Step::PlaceConfig) => {
            machine.has_done(Step::WriteImage) && (machine.token.is_some() || machine.config_url.is_some())
        }
        (Phase::Installing, Step::HandOver) => {
            machine.hands_over() && machine.licence.as_ref().is_some_and(|l| l.spent.is_some())
        }
        (Phase::Placed | Phase::Netbooting, Step::Reboot) | (Phase::PoweringOff, Step::PowerOff) => true,
        (Phase::Inspected, Step::PowerOff) => machine.kind() == Some(WorkflowKind::Inspect),
        _ => false,
    };
    if !fits {
        return not_now(&machine, &format!("{step} was not its order"));
    }
    if let Some(workflow) = &mut machine.workflow {
        workflow.done.push(step);
    }
    Ok(match step {
        Step::WriteImage => machine,
        Step::HandOver => {
            enter(machine, Phase::Netbooting, "is handed to its operating system's own installer", now)
        }
        // Its agent is gone; the script that it asks for next begins the installer.
        Step::Reboot if machine.phase == Phase::Netbooting => machine,
        Step::Wipe => enter(machine, Phase::PoweringOff, "its disks are wiped", now),
        Step::PlaceConfig => enter(machine, Phase::Placed, "image and config are on the disk", now),
        Step::Reboot => enter(machine, Phase::Rebooting, "reboots into its operating system", now),
        Step::PowerOff => enter(machine, Phase::Available, "powered off by its agent", now),
    })
}

fn is_spent(machine: &Machine) -> bool {
    machine.licence.as_ref().is_some_and(|l| l.spent.is_some())
}

fn phoned_home(machine: Machine, token_hash: &str, now: Time) -> Change {
    let name = machine.name.clone();
    let Some(token) = &machine.token else {
        return refuse(RefusalKind::Stale, format!("{name} has no live token"));
    };
    if token.hash != token_hash {
        return refuse(RefusalKind::Alarm, format!("a wrong token was presented for {name}"));
    }
    if now >= token.expires {
        return refuse(RefusalKind::Stale, format!("the token of {name} has expired"));
    }
    if machine.target().and_then(|t| t.join.as_ref()).is_some_and(|join| join.watched) {
        return not_now(&machine, "the server looks for its node itself");
    }
    match machine.phase {
        Phase::Placed | Phase::Rebooting => {
            Ok(enter(machine, Phase::Ready, "its node has phoned home with its token", now))
        }
        // The agent still runs: nothing else can have read the config yet.
        _ => refuse(RefusalKind::Alarm, format!("{name}'s token was presented before its node had booted")),
    }
}

fn tried(mut machine: Machine, act: Act, now: Time) -> Change {
    if act == Act::PowerOff && machine.disk_step_is_live() {
        return not_now(&machine, "no power-off while a disk is written (I10)");
    }
    let Some(workflow) = machine.workflow.as_mut() else {
        return refuse(RefusalKind::NotNow, "no workflow");
    };
    workflow.held = None;
    let times = workflow.tried.get(&act).map_or(0, |t| t.times);
    workflow.tried.insert(act, Tried { times: times + 1, last: now, state: TriedState::InFlight });
    Ok(machine)
}

fn acted(mut machine: Machine, act: Act, result: &ActResult, now: Time) -> Change {
    let state = match result {
        ActResult::Failed { .. } => TriedState::Failed,
        _ => TriedState::Done,
    };
    if let Some(tried) = machine.workflow.as_mut().and_then(|w| w.tried.get_mut(&act)) {
        // A result that comes twice, or after the act was given up, moves no clock.
        if tried.state == TriedState::InFlight {
            *tried = Tried { state, last: now, ..*tried };
        }
    }
    match (act, machine.phase, result) {
        (Act::Preflight, Phase::Assigned, ActResult::Preflighted { target }) => {
            Ok(preflighted(machine, target, now))
        }
        (Act::ChooseDisks, Phase::Inspected, ActResult::DisksChosen { licence, disks }) => {
            disks_chosen(machine, *licence, disks, now)
        }
        (Act::PowerOff, Phase::PoweringOff, ActResult::Done) => {
            Ok(enter(machine, Phase::Available, "powered off", now))
        }
        (Act::Revoke, _, ActResult::Revoked { minted_for }) => Ok(join::revoked(machine, minted_for, now)),
        (Act::Revoke, ..) => Ok(join::not_revoked(machine, now)),
        (Act::AwaitReady, _, ActResult::IsReady { how, missing }) => {
            join::is_ready(machine, how, missing, now)
        }
        (Act::Leave, _, ActResult::Done) => Ok(join::left(machine)),
        (Act::AwaitReady | Act::Leave, _, ActResult::Failed { reason }) => {
            Ok(join::not_yet(machine, act, reason))
        }
        (Act::AwaitReady | Act::Leave, _, ActResult::Refused { reason }) => {
            Ok(join::never(machine, act, reason, now))
        }
        (Act::NetworkBoot, Phase::Powering, ActResult::Done) => {
            machine.reason = "powered on to boot from the network".to_owned();
            Ok(machine)
        }
        (
            _,
            Phase::Assigned | Phase::Powering | Phase::Inspected | Phase::PoweringOff,
            ActResult::Refused { reason },
        ) => Ok(failed(machine, format!("{act}: {reason}"), now)),
        (
            _,
            Phase::Assigned | Phase::Powering | Phase::Inspected | Phase::PoweringOff,
            ActResult::Failed { reason },
        ) => {
            machine.reason = format!("{act} failed, will be tried again: {reason}");
            Ok(machine)
        }
        // The machine has moved on (its script was asked for before the BMC answered): a fact for the trail only.
        _ => Ok(machine),
    }
}

fn preflighted(mut machine: Machine, target: &Target, now: Time) -> Machine {
    if let Some(workflow) = &mut machine.workflow {
        workflow.target = Some(target.clone());
    }
    let how =
        if machine.bmc { "to be powered on by its BMC" } else { "power it on to boot from the network" };
    enter(machine, Phase::Powering, how, now)
}

fn disks_chosen(mut machine: Machine, id: LicenceId, disks: &[DiskIdentity], now: Time) -> Change {
    let Some(purpose) = machine.kind() else { return not_now(&machine, "it has no workflow") };
    if disks.is_empty() || disks.iter().any(|d| !d.is_certain()) {
        return Ok(failed(machine, "a disk without serial and WWN cannot be licensed", now));
    }
    match &machine.licence {
        // A second boot in the generation resumes on the same disks, or stops (I3).
        Some(licence) if licence.disks == disks => {}
        Some(licence) if licence.spent.is_some() => {
            return Ok(failed(machine, "its licence was spent on another disk in this generation", now));
        }
        _ => {
            machine.licence = Some(Licence {
                id,
                generation: machine.generation,
                purpose,
                disks: disks.to_vec(),
                issued: now,
                spent: None,
            });
        }
    }
    let (phase, doing) = match purpose {
        WorkflowKind::Wipe => (Phase::Wiping, "may wipe"),
        _ => (Phase::Installing, "may write"),
    };
    let names: Vec<String> = disks.iter().map(ToString::to_string).collect();
    Ok(enter(machine, phase, format!("{doing} {}", names.join(", ")), now))
}

fn deadline(machine: Machine, phase: Phase, since: Time, reason: &str, now: Time) -> Change {
    if machine.phase != phase || machine.since != since {
        return refuse(RefusalKind::Stale, "the machine has moved on");
    }
    // An agent that never came up is worth another power cycle; `wants` counts them.
    let tries_left = machine.tried(Act::NetworkBoot).is_some_and(|t| t.times < TRIES_MAX);
    if phase == Phase::Booting && machine.bmc && tries_left {
        return Ok(enter(machine, Phase::Powering, format!("{reason}: once more"), now));
    }
    Ok(failed(machine, reason, now))
}
