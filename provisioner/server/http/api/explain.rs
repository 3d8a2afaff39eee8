//! `GET /api/v1/explain/{machine or MAC}`: the timeline of one machine, and why it is stuck.

use super::{
    boot_plane::{ForeignView, foreign_views},
    view,
    waits::waits_for,
};
use crate::{
    doctor::{
        Case, Entry, Sign,
        case::State,
        diagnose,
        sign::{Boots, Outcome},
    },
    http::{
        App,
        error::{ApiError, Path, Result},
    },
    machine::{Act, ActResult, Event, Machine, Time, Verdict},
    store::{self, Tx, events::Stored},
};
use axum::{Json, extract};
use provisioner_wire::{Mac, machine::Phase, order::Outcome as StepOutcome};
use serde::Serialize;
use utoipa::ToSchema;

/// Newest events of a machine that are looked at.
const EVENTS_MAX: i64 = 1000;

/// What is known of one machine's way, and what is wrong with it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Explanation {
    /// Absent for a MAC that no machine has.
    pub machine: Option<String>,
    pub macs: Vec<String>,
    pub phase: Option<Phase>,
    pub reason: Option<String>,
    /// How far the image is that the machine waits for.
    pub waits_for: Option<String>,
    /// Causes, the most likely first. Empty where it gets on.
    pub findings: Vec<FindingView>,
    /// Other DHCP servers that are heard now and are not allowed.
    pub foreign: Vec<ForeignView>,
    /// Oldest first.
    pub timeline: Vec<TimelineLine>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FindingView {
    /// `rogue-dhcp`, `tftp-mtu`, …; docs/troubleshooting.md has them all.
    pub rule: String,
    pub cause: String,
    /// What to do about it.
    pub todo: String,
    /// Epoch milliseconds of the sign that shows it.
    pub at_ms: Option<i64>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TimelineLine {
    /// Epoch milliseconds.
    pub at_ms: i64,
    /// `dhcp`, `tftp`, `http`, `script`, `bmc`, `agent`, …
    pub kind: String,
    pub text: String,
    /// Everything that was heard, by field.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// Why a machine is stuck
#[utoipa::path(get, path = "/api/v1/explain/{subject}", tag = "server",
    params(("subject" = String, Path, description = "A machine's name, or a MAC address")),
    responses((status = 200, description = "Its timeline, and the causes found", body = Explanation)))]
pub async fn explain(
    extract::State(app): extract::State<App>,
    Path(subject): Path<String>,
) -> Result<Json<Explanation>> {
    let mut tx = app.db().read().await?;
    let (machine, macs) = subject_of(&mut tx, &subject).await?;
    let mut entries = Vec::new();
    for mac in &macs {
        for row in store::heard::of(&mut tx, *mac).await? {
            // A sign of a newer or older version of the server is left out, not the whole answer.
            match serde_json::from_str(&row.sign) {
                Ok(sign) => entries.push(Entry { at: Time(row.at), sign }),
                Err(error) => tracing::debug!(%mac, "a sign cannot be read: {error}"),
            }
        }
    }
    if let Some(machine) = &machine {
        let events = store::events::newest_of(&mut tx, machine.id, EVENTS_MAX).await?;
        entries.extend(events.iter().filter_map(entry));
    }
    entries.sort_by_key(|entry| entry.at);
    let foreign = foreign_views(&mut tx, app.engine().now()).await?;
    let blocking: Vec<_> = foreign.into_iter().filter(|f| f.blocks).collect();
    let case = Case {
        now: app.engine().now(),
        entries,
        machine: machine.as_ref().map(state),
        discovery: app.settings().discovery,
        foreign: blocking.iter().map(|f| f.ip.clone()).collect(),
    };
    let waits_for = match &machine {
        Some(machine) => waits_for(&app, &mut tx, machine).await?,
        None => None,
    };
    let answer = answer(machine.as_ref(), &macs, &case, blocking);
    Ok(Json(Explanation { waits_for, ..answer }))
}

async fn subject_of(tx: &mut Tx, subject: &str) -> Result<(Option<Machine>, Vec<Mac>)> {
    let machine = match subject.parse::<Mac>() {
        Ok(mac) => match store::machines::by_mac(tx, mac).await? {
            Some(machine) => machine,
            None => return Ok((None, vec![mac])),
        },
        Err(_) => super::machines::find(tx, subject).await.map_err(|error| match error {
            ApiError::NotFound(what) => {
                ApiError::NotFound(format!("{what}; give a machine's name or a MAC address"))
            }
            other => other,
        })?,
    };
    let macs = store::machines::macs(tx, machine.id).await?;
    Ok((Some(machine), macs))
}

fn state(machine: &Machine) -> State {
    State {
        name: machine.name.to_string(),
        phase: machine.phase,
        reason: machine.reason.clone(),
        since: machine.since,
        busy: machine.is_busy(),
        bmc: machine.bmc,
        secure_boot: machine.report.as_ref().and_then(|report| report.secure_boot),
    }
}

fn answer(machine: Option<&Machine>, macs: &[Mac], case: &Case, foreign: Vec<ForeignView>) -> Explanation {
    let finding = |f: crate::doctor::Finding| FindingView {
        rule: f.rule.to_owned(),
        cause: f.cause,
        todo: f.todo,
        at_ms: f.at.map(|at| at.0),
    };
    let line = |entry: &Entry| TimelineLine {
        at_ms: entry.at.0,
        kind: entry.sign.kind().to_owned(),
        text: entry.sign.to_string(),
        detail: serde_json::to_value(&entry.sign).unwrap_or_default(),
    };
    Explanation {
        machine: machine.map(|m| m.name.to_string()),
        macs: macs.iter().map(ToString::to_string).collect(),
        phase: machine.map(|m| m.phase),
        reason: machine.map(|m| m.reason.clone()),
        waits_for: None,
        findings: diagnose(case).into_iter().map(finding).collect(),
        foreign,
        timeline: case.entries.iter().map(line).collect(),
    }
}

/// An event as a sign. What the recorder wrote into the timeline is there already, with its details.
fn entry(stored: &Stored) -> Option<Entry> {
    let text = view::text(&stored.event);
    if let Some(Verdict::Refused(refusal)) = &stored.verdict {
        let what = format!("{text} (refused: {refusal})");
        return Some(Entry { at: stored.at, sign: Sign::Note { what } });
    }
    let is_power = |act: &Act| matches!(act, Act::NetworkBoot | Act::PowerOff);
    let sign = match &stored.event {
        Event::Heard { what } if what.starts_with("boots its disk") => Sign::Script { boots: Boots::Disk },
        Event::Heard { what } => {
            let kinds = ["dhcp ", "tftp ", "http ", "foreign-server ", "unkept "];
            if kinds.iter().any(|kind| what.starts_with(kind)) {
                return None;
            }
            Sign::Note { what: text }
        }
        Event::ScriptServed { .. } => Sign::Script { boots: Boots::Agent },
        Event::AgentHeard { .. } | Event::Listening => return None,
        Event::Claimed { .. }
        | Event::SpendLicence { .. }
        | Event::Challenged { .. }
        | Event::ReadBack { .. }
        | Event::ConfigRendered { .. } => Sign::Agent { what: text },
        Event::StepEnded { outcome: StepOutcome::Done { .. }, .. } => Sign::Agent { what: text },
        Event::StepEnded { .. } | Event::ConfigRefused { .. } | Event::DeadlinePassed { .. } => {
            Sign::Refused { what: text }
        }
        Event::Tried { act, .. } if is_power(act) => {
            Sign::Bmc { what: act.to_string(), outcome: Outcome::Begun }
        }
        Event::Acted { act, result, .. } if is_power(act) => {
            let outcome = match result {
                ActResult::Failed { reason } | ActResult::Refused { reason } => {
                    Outcome::Failed(reason.clone())
                }
                _ => Outcome::Done,
            };
            Sign::Bmc { what: act.to_string(), outcome }
        }
        Event::Acted { result: ActResult::Failed { .. } | ActResult::Refused { .. }, .. } => {
            Sign::Refused { what: text }
        }
        _ => Sign::Note { what: text },
    };
    Some(Entry { at: stored.at, sign })
}
