//! What came of each machine: the table, the JSON file.

use super::{timeline::Seconds, watch::Ended};
use crate::console::say;
use anyhow::{Context, Result};
use provisioner_lab::{LabMachine, process, serial};
use provisioner_wire::{machine::Phase, report::Firmware};
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

#[derive(Debug, Serialize)]
pub struct Report {
    pub machines: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub firmware: Firmware,
    pub result: Outcome,
    /// Why it failed; empty where it is Ready.
    pub reason: String,
    pub seconds: Seconds,
    #[serde(skip)]
    pub logs: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ready,
    Failed,
}

/// One machine's row.
pub fn of(machine: &LabMachine, ended: &Ended, server_log: &Path) -> Row {
    let ready = ended.phase == Phase::Ready;
    Row {
        name: machine.identity.name.clone(),
        firmware: machine.identity.firmware,
        result: if ready { Outcome::Ready } else { Outcome::Failed },
        reason: if ready { String::new() } else { ended.reason.clone() },
        seconds: Seconds::of(&ended.events),
        logs: vec![machine.serial_log.clone(), server_log.to_owned()],
    }
}

impl Report {
    pub fn all_ready(&self) -> bool {
        self.machines.iter().all(|row| row.result == Outcome::Ready)
    }

    /// The table on standard output; for each failure its cause, where the logs are, and the end of the console's.
    pub fn print(&self) {
        let width = self.machines.iter().map(|row| row.name.len()).max().unwrap_or(0).max(7);
        println!("\n{:width$}  firmware    dhcp  script   agent written  1stboot   ready  result", "machine");
        for row in &self.machines {
            let firmware = if row.firmware == Firmware::Uefi { "UEFI" } else { "BIOS" };
            let times: String = row
                .seconds
                .named()
                .iter()
                .map(|(_, time)| time.map_or_else(|| format!("{:>8}", "-"), |t| format!("{t:8.1}")))
                .collect();
            let result = if row.result == Outcome::Ready { "Ready" } else { "FAILED" };
            println!("{:width$}  {firmware:8}{times}  {result}", row.name);
        }
        println!("seconds from power-on");
        for row in self.machines.iter().filter(|row| row.result == Outcome::Failed) {
            println!("\n{} failed: {}", row.name, row.reason);
            for log in &row.logs {
                println!("  log: {}", log.display());
            }
            if let Some(console) = row.logs.first().and_then(|log| serial::read(log).ok()) {
                println!("  end of its console:\n{}", process::tail(&console));
            }
        }
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("JSON")?;
        fs::write(file, text + "\n").with_context(|| format!("{}: cannot be written", file.display()))?;
        say(&format!("written: {}", file.display()));
        Ok(())
    }
}
