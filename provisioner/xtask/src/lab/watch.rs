//! Asks for the workflows and shows how they go: one bar a machine.

use super::server::{Client, Server};
use anyhow::{Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use provisioner_lab::Identity;
use provisioner_wire::machine::{MachineView, Phase};
use serde_json::Value;
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// How a machine ended.
#[derive(Debug)]
pub struct Ended {
    pub phase: Phase,
    pub reason: String,
    /// Its timeline.
    pub events: Vec<Value>,
}

/// Provisions all of `identities` at once and waits until each is Ready or has failed, at most for `limit`.
pub fn provision(
    server: &Server,
    profile: &str,
    identities: &[Identity],
    limit: Duration,
) -> Result<Vec<Ended>> {
    let client = server.client();
    for identity in identities {
        client.provision(&identity.name, profile)?;
    }
    let bars = Bars::new(identities);
    let began = Instant::now();
    let last = loop {
        let views = look(&client, identities)?;
        bars.show(&views);
        if views.iter().all(|view| matches!(view.phase, Phase::Ready | Phase::Failed))
            || began.elapsed() > limit
        {
            break views;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    };
    bars.end();
    last.iter()
        .map(|view| {
            let over = matches!(view.phase, Phase::Ready | Phase::Failed);
            let reason = if over {
                view.reason.clone()
            } else {
                format!("still {} after {} s: {}", view.phase, limit.as_secs(), view.reason)
            };
            Ok(Ended { phase: view.phase, reason, events: client.events(view.name.as_str())? })
        })
        .collect()
}

/// The machines in the order of `identities`.
fn look(client: &Client, identities: &[Identity]) -> Result<Vec<MachineView>> {
    let all = client.machines()?;
    identities
        .iter()
        .map(|identity| match all.iter().find(|view| view.name.as_str() == identity.name) {
            Some(view) => Ok(view.clone()),
            None => bail!("the server does not know {}", identity.name),
        })
        .collect()
}

/// The bars; lines of changes where there is no terminal.
struct Bars {
    bars: Vec<ProgressBar>,
    began: Instant,
    said: std::cell::RefCell<Vec<String>>,
}

impl Bars {
    fn new(identities: &[Identity]) -> Self {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:12} {bar:30} {elapsed:>4} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = if std::io::stderr().is_terminal() {
            let one = |identity: &Identity| {
                let bar = all.add(ProgressBar::new(100)).with_style(style.clone());
                bar.with_prefix(identity.name.clone())
            };
            identities.iter().map(one).collect()
        } else {
            Vec::new()
        };
        Self { bars, began: Instant::now(), said: vec![String::new(); identities.len()].into() }
    }

    fn show(&self, views: &[MachineView]) {
        for (bar, view) in self.bars.iter().zip(views) {
            bar.set_position(position(view));
            bar.set_message(words(view));
        }
        if self.bars.is_empty() {
            for (said, view) in self.said.borrow_mut().iter_mut().zip(views) {
                let now = format!("{}: {}", view.phase, view.reason);
                if *said != now {
                    eprintln!("{:7.1} s  {}  {now}", self.began.elapsed().as_secs_f64(), view.name);
                    *said = now;
                }
            }
        }
    }

    fn end(&self) {
        self.bars.iter().for_each(ProgressBar::abandon);
    }
}

fn words(view: &MachineView) -> String {
    match view.progress {
        Some((done, total)) if total > 0 => {
            format!("{}: {} of {} MiB", view.phase, done >> 20, total >> 20)
        }
        _ => format!("{}: {}", view.phase, view.reason),
    }
}

/// Of 100. Writing the image is where most of the time goes, so most of the bar is its.
fn position(view: &MachineView) -> u64 {
    match view.phase {
        Phase::Assigned => 2,
        Phase::Powering => 5,
        Phase::Booting => 10,
        Phase::Inspected => 25,
        Phase::Installing | Phase::Wiping => match view.progress {
            Some((done, total)) if total > 0 => 30 + (done.saturating_mul(40) / total).min(40),
            _ => 30,
        },
        Phase::Placed | Phase::Netbooting => 72,
        Phase::Rebooting | Phase::PoweringOff => 80,
        Phase::Ready => 100,
        Phase::Discovered | Phase::Rejected | Phase::Available | Phase::Failed => 0,
    }
}
