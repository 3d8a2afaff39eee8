//! The server under test, and its command line as the lab's way to speak with it.

use super::site::{PASSWORD_VARIABLE, Site};
use crate::project::Project;
use anyhow::{Context, Result};
use provisioner_lab::{
    namespace::ADDRESS,
    process::{self, Daemon},
};
use provisioner_wire::machine::MachineView;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A running server.
#[derive(Debug)]
pub struct Server {
    daemon: Daemon,
    program: PathBuf,
    ca: PathBuf,
    token: PathBuf,
}

impl Server {
    pub fn start(project: &Project, site: &Site, folder: &Path, release: bool) -> Result<Self> {
        let program = project.target.join(if release { "release" } else { "debug" }).join("provisioner");
        let mut command = Command::new(&program);
        command.arg("serve").arg("--config").arg(&site.config);
        command.env(PASSWORD_VARIABLE, "password");
        let daemon = Daemon::start("provisioner serve", &mut command, &folder.join("logs/server.log"))?;
        let mut this =
            Self { daemon, program, ca: site.data.join("ca.pem"), token: site.data.join("admin-token") };
        let client = this.client();
        this.daemon.wait_ready(Duration::from_secs(60), || client.machines().is_ok())?;
        Ok(this)
    }

    pub fn log(&self) -> &Path {
        self.daemon.log()
    }

    pub fn address(&self) -> String {
        format!("https://{ADDRESS}:8443")
    }

    pub fn client(&self) -> Client {
        Client {
            program: self.program.clone(),
            server: self.address(),
            ca: self.ca.clone(),
            token: self.token.clone(),
        }
    }
}

/// `provisioner` as an operator uses it.
#[derive(Debug, Clone)]
pub struct Client {
    program: PathBuf,
    server: String,
    ca: PathBuf,
    token: PathBuf,
}

impl Client {
    pub fn provision(&self, machine: &str, profile: &str) -> Result<()> {
        self.run(&["provision", machine, "--profile", profile]).map(|_| ())
    }

    pub fn machines(&self) -> Result<Vec<MachineView>> {
        read(&self.run(&["machine", "list"])?)
    }

    /// The machine's timeline, oldest first.
    pub fn events(&self, machine: &str) -> Result<Vec<Value>> {
        self.run(&["events", machine])?.lines().map(read).collect()
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["--server", &self.server, "--output", "json", "--ca-file"]).arg(&self.ca);
        command.arg("--token-file").arg(&self.token).args(arguments);
        process::output(&mut command)
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).with_context(|| format!("not what was expected: {text}"))
}
