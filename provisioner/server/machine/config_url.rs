//! The one-shot URL of a config: made, asked for once a file, and what a second asking means.

use super::{
    Machine, Refusal, RefusalKind, Time,
    boot::{Boot, SCRIPTS_MAX, boots},
    lifecycle::{enter, failed, not_now, refuse},
    state::ConfigUrl,
};
use provisioner_wire::{machine::Phase, order::Step};

type Change = Result<Machine, Refusal>;

/// Files that one URL may give out: what the engine keeps of one is bounded.
const FILES_MAX: usize = 16;
/// Killed URLs that are remembered: as many as scripts can be made.
const KILLED_MAX: usize = SCRIPTS_MAX as usize;

/// A script was made that boots the operating system's own kernel. Its URL kills the one before.
pub(super) fn netboot_served(mut machine: Machine, hash: &str, expires: Time, now: Time) -> Change {
    if machine.config_url.as_ref().is_some_and(|url| url.hash == hash) {
        return Ok(machine);
    }
    if boots(&machine) != Boot::Netboot {
        return not_now(&machine, "its operating system's kernel is not to be booted from the network");
    }
    let scripts = machine.workflow.as_mut().map_or(0, |workflow| {
        workflow.scripts += 1;
        workflow.scripts
    });
    if scripts > SCRIPTS_MAX {
        let reason = format!("{SCRIPTS_MAX} boot scripts were asked for, and no installer got through");
        return Ok(failed(machine, reason, now));
    }
    let url = fresh(&machine, hash, expires);
    let mut machine = enter(machine, Phase::Netbooting, "its operating system's kernel was served", now);
    // The agent has ended, or has been overtaken: what it knows is dead.
    (machine.boot, machine.claim) = (None, None);
    machine.config_url = Some(url);
    Ok(machine)
}

/// The agent was given a URL to place beside the image that it has written. Asked again, the newest is the live one.
pub(super) fn made(mut machine: Machine, hash: &str, expires: Time) -> Change {
    let by_url = machine.target().is_some_and(|t| t.by_url.is_some());
    if !by_url || machine.phase != Phase::Installing || !machine.has_done(Step::WriteImage) {
        return not_now(&machine, "its image is not on the disk yet");
    }
    if machine.config_url.as_ref().is_none_or(|url| url.hash != hash) {
        machine.config_url = Some(fresh(&machine, hash, expires));
    }
    Ok(machine)
}

fn fresh(machine: &Machine, hash: &str, expires: Time) -> ConfigUrl {
    let (hash, generation) = (hash.to_owned(), machine.generation);
    let mut killed = machine.config_url.as_ref().map(|url| url.killed.clone()).unwrap_or_default();
    killed.extend(machine.config_url.as_ref().map(|url| url.hash.clone()));
    let surplus = killed.len().saturating_sub(KILLED_MAX);
    killed.drain(..surplus);
    ConfigUrl { hash, generation, expires, fetched: Default::default(), killed }
}

/// One request for one file: the first has it; a second means that somebody else may have read it (design §7).
pub(super) fn asked(mut machine: Machine, hash: &str, file: &str, fetch: &str, now: Time) -> Change {
    let Some(url) = machine.config_url.as_mut().filter(|url| url.knows(hash)) else {
        return refuse(RefusalKind::Stale, format!("another boot of {} has taken over", machine.name));
    };
    if url.hash != hash {
        let what = format!("{file} of {}'s config was asked for by an older URL", machine.name);
        return given_out(machine, &format!("{what}: two machines boot as this one"), now);
    }
    match url.fetched.get(file) {
        Some(won) if won == fetch => return Ok(machine),
        Some(_) => {
            let what = format!("{file} of {}'s config was fetched a second time", machine.name);
            return given_out(machine, &format!("{what}: somebody else may have it"), now);
        }
        None => {}
    }
    let late = url.fetched.is_empty() && now >= url.expires;
    let full = url.fetched.len() >= FILES_MAX;
    let name = machine.name.clone();
    if late || full {
        return refuse(RefusalKind::Stale, format!("the URL of {name}'s config has expired"));
    }
    if !matches!(machine.phase, Phase::Placed | Phase::Netbooting | Phase::Rebooting) {
        let reason = format!("{name} is {}, and {file} of its config was asked for", machine.phase);
        return refuse(RefusalKind::Alarm, reason);
    }
    url.fetched.insert(file.to_owned(), fetch.to_owned());
    Ok(match machine.phase {
        Phase::Rebooting => machine,
        _ => enter(machine, Phase::Rebooting, "its operating system has fetched its config", now),
    })
}

/// Where the config is out and its token could still be used, the workflow ends with it; before and afterwards nothing is
/// there to be taken (I2).
fn given_out(machine: Machine, what: &str, now: Time) -> Change {
    let out = machine.config_url.as_ref().is_some_and(|url| !url.fetched.is_empty());
    match machine.phase {
        Phase::Rebooting if out => Ok(failed(machine, format!("{what}, and its token is revoked"), now)),
        _ => refuse(RefusalKind::Alarm, what),
    }
}

/// A token may be minted now: for the agent that has the image on the disk, or for who has asked the URL first.
pub(super) fn may_have_token(machine: &Machine) -> Result<(), Refusal> {
    let by_url = machine.target().is_some_and(|t| t.by_url.is_some());
    let asked = machine.config_url.as_ref().is_some_and(|url| !url.fetched.is_empty());
    match machine.phase {
        Phase::Rebooting if by_url && asked => Ok(()),
        Phase::Installing if !by_url && machine.has_done(Step::WriteImage) => Ok(()),
        _ if by_url => not_now(machine, "nobody has asked for its config"),
        _ => not_now(machine, "its image is not on the disk yet"),
    }
}
