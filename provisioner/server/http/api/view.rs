//! What the API shows: no secret, no hash of one.

use super::waits::waits_for;
use crate::{
    http::{App, error::Result},
    machine::{Act, ActResult, Event, Machine, Verdict, state::Leaving},
    store::{self, Tx, audit, declared::Kind, events::Stored},
};
use provisioner_wire::{
    MachineName,
    machine::MachineView,
    order::{LogLine, Outcome},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// One line of a machine's timeline.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventView {
    /// Counts over all machines; `after` of the next page.
    pub seq: i64,
    /// Epoch milliseconds.
    pub at_ms: i64,
    #[schema(value_type = String)]
    pub machine: MachineName,
    /// `script-served`, `claimed`, `step-ended`, …
    pub kind: String,
    /// What happened, for a person.
    pub text: String,
    /// `accepted` or `refused`; absent until the engine has taken it up.
    pub verdict: Option<&'static str>,
    /// Why it was refused.
    pub refusal: Option<String>,
}

/// One row of the trail.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditView {
    pub seq: i64,
    pub at_ms: i64,
    pub generation: i64,
    /// `transition` or `alarm`.
    pub kind: String,
    pub before: String,
    pub after: String,
    /// Kind of the event that caused it.
    pub cause: String,
    pub reason: String,
    /// Each row's hash covers the one before.
    pub hash: String,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogView {
    /// Milliseconds since the agent's kernel started.
    pub uptime_ms: u64,
    pub text: String,
}

/// One machine with everything there is to know.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MachineDetails {
    #[serde(flatten)]
    pub machine: MachineView,
    /// The declared hardware, as stored; absent for a discovered machine.
    #[schema(value_type = Option<Object>)]
    pub hardware: Option<Value>,
    /// What the agent saw last.
    #[schema(value_type = Option<Object>)]
    pub report: Option<Value>,
}

impl From<LogLine> for LogView {
    fn from(line: LogLine) -> Self {
        Self { uptime_ms: line.uptime_ms, text: line.text }
    }
}

impl From<audit::Row> for AuditView {
    fn from(row: audit::Row) -> Self {
        Self {
            seq: row.seq,
            at_ms: row.at,
            generation: row.generation,
            kind: row.kind,
            before: row.before,
            after: row.after,
            cause: row.cause,
            reason: row.reason,
            hash: row.hash,
        }
    }
}

impl EventView {
    pub fn new(machine: &MachineName, stored: &Stored) -> Self {
        let (verdict, refusal) = match &stored.verdict {
            None => (None, None),
            Some(Verdict::Accepted) => (Some("accepted"), None),
            Some(Verdict::Refused(refusal)) => (Some("refused"), Some(refusal.reason.clone())),
        };
        Self {
            seq: stored.seq,
            at_ms: stored.at.0,
            machine: machine.clone(),
            kind: stored.event.kind().to_owned(),
            text: text(&stored.event),
            verdict,
            refusal,
        }
    }
}

/// The event in words.
/// What happened, for a person.
pub fn text(event: &Event) -> String {
    match event {
        Event::Declared { .. } => "declared".to_owned(),
        Event::Provision { profile, .. } => format!("asked to provision as {profile}"),
        Event::Release { .. } => "asked to release".to_owned(),
        Event::ReleaseBy { how: Leaving::Drained, .. } => "asked to release".to_owned(),
        Event::ReleaseBy { how: Leaving::Undrained, .. } => {
            "asked to release; its node's pods are not waited for".to_owned()
        }
        Event::ReleaseBy { how: Leaving::Forced, .. } => {
            "asked to release by force; its cluster is not asked".to_owned()
        }
        Event::Minting { owed, .. } => {
            format!("a token is asked for: {} in the cluster {}", owed.minter.issuer, owed.minter.cluster)
        }
        Event::IssuerDown { reason, .. } => format!("no token yet: {reason}"),
        Event::Inspect { .. } => "asked to inspect".to_owned(),
        Event::Retry { .. } => "asked to try again".to_owned(),
        Event::Cancel => "asked to cancel".to_owned(),
        Event::DespiteRogue => "asked to go on although another DHCP server is heard".to_owned(),
        Event::Held { reason, .. } => format!("waits: {reason}"),
        Event::Approve => "approved".to_owned(),
        Event::Reject => "rejected".to_owned(),
        Event::Heard { what } => what.clone(),
        Event::ScriptServed { .. } => "boot script served: the agent".to_owned(),
        Event::Claimed { report, .. } => {
            format!("agent claims; sees {} disks, {} NICs", report.disks.len(), report.nics.len())
        }
        Event::SpendLicence { disks, .. } => {
            let disks: Vec<String> = disks.iter().map(ToString::to_string).collect();
            format!("agent spends its licence on {}", disks.join(", "))
        }
        Event::Challenged { .. } => "image on the medium; the server asks for pieces of it".to_owned(),
        Event::ReadBack { .. } => "agent shows what it read back".to_owned(),
        Event::NetbootServed { .. } => "boot script served: its operating system's own kernel".to_owned(),
        Event::ConfigUrlMade { .. } => "one-shot URL of its config made, to be placed".to_owned(),
        Event::ConfigAsked { file, .. } => format!("{file} of its config asked for by its URL"),
        Event::ConfigReturned { file, .. } => format!("{file} of its config could not be given out yet"),
        Event::ConfigRendered { .. } => "config rendered, token minted".to_owned(),
        Event::ConfigRefused { reason, .. } => format!("config not rendered: {reason}"),
        Event::StepEnded { step, outcome: Outcome::Done { .. }, .. } => format!("{step} done"),
        Event::StepEnded { step, outcome: Outcome::Failed { reason }, .. } => {
            format!("{step} failed: {reason}")
        }
        Event::AgentHeard { .. } => "agent at work".to_owned(),
        Event::Listening => "server started".to_owned(),
        Event::PhonedHome { .. } => "node phones home".to_owned(),
        Event::Tried { act, .. } => format!("{act} begins"),
        Event::Acted { act: Act::AwaitReady, result: ActResult::Failed { reason }, .. } => {
            format!("not ready yet: {reason}")
        }
        Event::Acted { result: ActResult::IsReady { how, missing }, .. } if missing.is_empty() => how.clone(),
        Event::Acted { result: ActResult::IsReady { how, missing }, .. } => {
            format!("{how}; it joined without {}", missing.join(", "))
        }
        Event::Acted { act, result: ActResult::Failed { reason }, .. } => format!("{act} failed: {reason}"),
        Event::Acted { act, result: ActResult::Refused { reason }, .. } => format!("{act} refused: {reason}"),
        Event::Acted { act, .. } => format!("{act} done"),
        Event::DeadlinePassed { reason, .. } => format!("deadline: {reason}"),
    }
}

/// The machine as lists show it.
pub async fn machine(app: &App, tx: &mut Tx, machine: &Machine) -> Result<MachineView> {
    let spec: Option<Value> = store::declared::get(tx, Kind::Machine, machine.name.as_str()).await?;
    let facts = spec.map(|s| app.content().facts(&s)).unwrap_or_default();
    let macs = store::machines::macs(tx, machine.id).await?;
    let stand = app.live().stand(machine.id, machine.generation).filter(|_| machine.is_busy());
    let waits_for = waits_for(app, tx, machine).await?;
    let running = machine.workflow.as_ref().and_then(|w| w.profile.clone());
    Ok(MachineView {
        name: machine.name.clone(),
        phase: machine.phase,
        reason: machine.reason.clone(),
        generation: machine.generation,
        workflow: machine.kind(),
        profile: running.or(facts.profile),
        macs,
        uuid: facts.uuid,
        secure_boot: machine.report.as_ref().and_then(|report| report.secure_boot),
        bmc: facts.bmc,
        labels: facts.labels,
        progress: stand.map(|s| (s.done_bytes, s.total_bytes)),
        waits_for,
        changed_at_ms: machine.since.0,
    })
}

pub async fn details(app: &App, tx: &mut Tx, of: &Machine) -> Result<MachineDetails> {
    Ok(MachineDetails {
        machine: machine(app, tx, of).await?,
        hardware: store::declared::get(tx, Kind::Machine, of.name.as_str()).await?,
        report: of.report.as_ref().and_then(|r| serde_json::to_value(r).ok()),
    })
}
