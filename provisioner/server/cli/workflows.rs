//! Asking for workflows, and waiting for their end.

use super::{
    Output, Workflows,
    client::{Client, Failure, segment},
    records, table,
};
use indicatif::{ProgressBar, ProgressStyle};
use provisioner_wire::machine::{MachineView, Phase};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Between two looks at a machine that is waited for.
const LOOK: Duration = Duration::from_millis(500);
/// Between two lines about what a machine waits for.
const SAY_EVERY: Duration = Duration::from_secs(10);
const REASON_MAX: usize = 500;
/// A server that restarts is waited for this long.
const AWAY_MAX: Duration = Duration::from_secs(120);

pub async fn run(client: &Client, what: Workflows) -> Result<(), Failure> {
    match what {
        Workflows::List => {
            let all: Vec<Value> = client.get("/api/v1/workflows").await?;
            let columns = [
                ("MACHINE", "machine"),
                ("KIND", "kind"),
                ("PROFILE", "profile"),
                ("GENERATION", "generation"),
                ("RUNNING", "running"),
                ("PHASE", "phase"),
                ("REASON", "reason"),
            ];
            records::show_list(client, &columns, &all)
        }
        Workflows::Show { machine } => {
            let one: Value = client.get(&format!("/api/v1/workflows/{}", segment(&machine))).await?;
            records::show(client, &one)
        }
        Workflows::Apply { file } => {
            let asked = records::read(&file)?;
            let word = |key| asked.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (machine, kind) = (word("machine"), word("kind"));
            match kind.as_str() {
                "provision" => {
                    let body = json!({ "profile": asked.get("profile") });
                    begin(client, &machine, "provision", &body, (false, false)).await
                }
                "wipe" => ask(client, &machine, "release", false).await,
                "inspect" => ask(client, &machine, "inspect", false).await,
                _ => {
                    let file = file.display();
                    Err(Failure::Usage(format!(
                        "{file}: kind must be provision, wipe or inspect, not {kind:?}"
                    )))
                }
            }
        }
        Workflows::Delete { machine } => ask(client, &machine, "cancel", false).await,
    }
}

pub async fn ask(client: &Client, machine: &str, what: &str, wait: bool) -> Result<(), Failure> {
    begin(client, machine, what, &Value::Null, (false, wait)).await
}

/// Asks, says what came of it, and waits where that is wanted.
pub async fn begin(
    client: &Client,
    name: &str,
    what: &str,
    body: &Value,
    (despite_rogue, wait): (bool, bool),
) -> Result<(), Failure> {
    let path = format!("/api/v1/machines/{}/{what}", segment(name));
    let body = Some(body).filter(|b| !b.is_null());
    let response = client.send(Method::POST, &path, body).await?;
    let mut begun: MachineView = client.read(response).await?;
    if despite_rogue {
        let path = format!("/api/v1/machines/{}/despite-rogue", segment(name));
        let response = client.send(Method::POST, &path, None).await?;
        begun = client.read(response).await?;
    }
    let machine = if wait { until_end(client, begun).await? } else { begun };
    match client.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&machine).map_err(|e| Failure::Failed(e.to_string()))?;
            println!("{text}");
        }
        Output::Table => {
            println!("{}: {}: {}", machine.name, machine.phase, machine.reason);
            if let Some(image) = &machine.waits_for {
                println!("waits for {}", provisioner_wire::report::clean_to(image, REASON_MAX));
            }
        }
    }
    match machine.phase {
        Phase::Failed if wait => Err(Failure::Failed(format!("{name} failed: {}", machine.reason))),
        _ => Ok(()),
    }
}

/// Looks until the workflow that `begun` shows has ended.
async fn until_end(client: &Client, begun: MachineView) -> Result<MachineView, Failure> {
    let path = format!("/api/v1/machines/{}", segment(begun.name.as_str()));
    let (generation, kind) = (begun.generation, begun.workflow);
    let mut shown = Shown::new();
    let mut machine = begun;
    let mut heard = Instant::now();
    loop {
        shown.update(&machine);
        if machine.generation != generation {
            return Err(Failure::Failed(format!("{}: another workflow has begun", machine.name)));
        }
        match machine.phase {
            Phase::Ready | Phase::Failed => return Ok(machine),
            Phase::Available if kind == Some(provisioner_wire::machine::WorkflowKind::Provision) => {
                return Err(Failure::Failed(format!("{}: {}", machine.name, machine.reason)));
            }
            Phase::Available => return Ok(machine),
            _ => {}
        }
        tokio::time::sleep(LOOK).await;
        match client.get(&path).await {
            Ok(next) => (machine, heard) = (next, Instant::now()),
            Err(Failure::Unreachable(_)) if heard.elapsed() < AWAY_MAX => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// The progress bar; lines of phases where there is no terminal.
struct Shown {
    bar: Option<ProgressBar>,
    last: Option<(Phase, String)>,
    /// When a line was last written.
    told: Instant,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, last: None, told: Instant::now() }
    }

    fn update(&mut self, machine: &MachineView) {
        let now = Some((machine.phase, machine.reason.clone()));
        let said = machine.waits_for.as_ref().unwrap_or(&machine.reason);
        let reason = provisioner_wire::report::clean_to(said, REASON_MAX);
        // What is waited for changes all the time.
        let again = machine.waits_for.is_some() && self.told.elapsed() >= SAY_EVERY;
        match &self.bar {
            Some(bar) => {
                let template = if machine.progress.is_some_and(|(_, total)| total > 0) {
                    "{elapsed_precise} {prefix:12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}"
                } else {
                    "{elapsed_precise} {prefix:12} {spinner} {wide_msg}"
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                let (done, total) = machine.progress.unwrap_or_default();
                bar.set_length(total);
                bar.set_position(done);
                bar.set_prefix(machine.phase.to_string());
                bar.set_message(reason);
            }
            None if now != self.last || again => {
                self.told = Instant::now();
                let at = table::time(machine.changed_at_ms);
                eprintln!("{at} {}: {}: {reason}", machine.name, machine.phase);
            }
            None => {}
        }
        self.last = now;
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
