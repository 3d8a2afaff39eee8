//! The command line. `serve` and `check` are handed in by `main`; every other command is a client of the REST API and
//! knows nothing of the server but its words.

mod boot_plane;
mod cache;
mod capture;
mod certificates;
mod client;
mod configs;
mod events;
mod explain;
mod images;
mod records;
mod table;
mod what_if;
mod workflows;

pub use cache::CacheArguments;

use clap::{Args, Parser, Subcommand, ValueEnum};
use client::{Client, Failure};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What the commands that are not clients do.
#[derive(Debug, Clone, Copy)]
pub struct Doors {
    /// Runs the server with this configuration file until it is told to end.
    pub serve: fn(&Path) -> anyhow::Result<()>,
    /// Runs a rack's cache until it is told to end.
    pub cache: fn(&CacheArguments) -> anyhow::Result<()>,
    /// Checks a hardware folder; what it holds in a few words, or each problem on a line.
    pub check: fn(&Path) -> Result<String, Vec<String>>,
}

/// Takes bare servers from power-on to a Ready node.
///
/// Exit codes: 0 done (with --wait: the machine is there), 1 failed, 2 wrong usage, 3 server not reached or token not
/// accepted, 4 refused by the server.
#[derive(Debug, Parser)]
#[command(name = "provisioner", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    to: To,
}

const EXAMPLES: &str = "Examples:
  provisioner serve --config server.toml
  export PROVISIONER_CA_FILE=data/ca.pem PROVISIONER_TOKEN_FILE=data/admin-token
  provisioner image add -f hardware/images/debian.yaml
  provisioner machine apply -f hardware/machines/node-1.yaml
  provisioner provision node-1 --wait
  provisioner events --follow node-1
  provisioner explain node-1
  provisioner what-if 52:54:00:12:34:56 --firmware uefi --arch x86_64
  provisioner release node-1 --wait";

/// Where the server is and who asks.
#[derive(Debug, Args)]
struct To {
    /// Base URL of the server's TLS listener.
    #[arg(
        long,
        global = true,
        env = "PROVISIONER_SERVER",
        default_value = "https://127.0.0.1:8443",
        value_name = "URL"
    )]
    server: String,
    /// The site's certificate authority: `ca.pem` in the server's data folder.
    #[arg(long, global = true, env = "PROVISIONER_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// File with the API token: `admin-token` in the server's data folder.
    #[arg(long, global = true, env = "PROVISIONER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How answers are written.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: what the API said.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a cache for a rack: pieces of images cross the uplink once.
    Cache(CacheArguments),
    /// Check a folder of machines, profiles and images without a server.
    Check {
        /// The folder with machines/, profiles/ and images/; templates/ is beside it.
        folder: PathBuf,
    },
    /// Declared machines and how they are.
    #[command(subcommand)]
    Machine(Records),
    /// What machines become.
    #[command(subcommand)]
    Profile(Records),
    /// Clusters that machines join.
    #[command(subcommand)]
    Cluster(Records),
    /// Operating system images, and how far the server is with them.
    #[command(subcommand)]
    Image(images::Images),
    /// What a machine is given, and what has changed since.
    #[command(subcommand)]
    Config(configs::Configs),
    /// Running and last workflows.
    #[command(subcommand)]
    Workflow(Workflows),
    /// Make a machine its profile. Erases its disk.
    Provision {
        machine: String,
        /// Instead of the profile in the machine's record.
        #[arg(long)]
        profile: Option<String>,
        /// Go on although another DHCP server is heard on the network.
        #[arg(long)]
        despite_rogue: bool,
        /// Stay until it is Ready or has failed.
        #[arg(long)]
        wait: bool,
    },
    /// Wipe a machine's disks and give it back.
    Release {
        machine: String,
        /// Do not wait for its node's pods: cordon it and delete it.
        #[arg(long)]
        skip_drain: bool,
        /// Do not ask its cluster at all: the node's object stays there.
        #[arg(long)]
        force: bool,
        /// Go on although another DHCP server is heard on the network.
        #[arg(long)]
        despite_rogue: bool,
        /// Stay until it is Available or has failed.
        #[arg(long)]
        wait: bool,
    },
    /// Boot the agent only to look at the hardware.
    Inspect {
        machine: String,
        /// Stay until it is Available or has failed.
        #[arg(long)]
        wait: bool,
    },
    /// Cancel a machine's running workflow.
    Cancel { machine: String },
    /// Try a machine's failed workflow again.
    Retry {
        machine: String,
        /// Go on although another DHCP server is heard on the network.
        #[arg(long)]
        despite_rogue: bool,
        /// Stay until it ends.
        #[arg(long)]
        wait: bool,
    },
    /// Approve a discovered machine.
    Approve { machine: String },
    /// Reject a machine: it boots nothing of ours.
    Reject { machine: String },
    /// Why a machine is stuck: its timeline from the first packet on, and the cause.
    Explain {
        /// A machine's name, or a MAC address, declared or not.
        subject: String,
    },
    /// What a machine would be answered, byte for byte. Sends nothing and changes nothing.
    WhatIf(what_if::Asked),
    /// What DHCP, TFTP and HTTP have heard, and other DHCP servers.
    BootPlane,
    /// Signed records of wiped disks.
    #[command(subcommand)]
    WipeCertificate(Certificates),
    /// What happened: a machine's timeline, or with --follow everything from now on.
    Events {
        machine: Option<String>,
        /// Go on showing events as they happen.
        #[arg(long, short)]
        follow: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Records {
    /// All of them.
    List,
    /// One, with everything known.
    Show { name: String },
    /// Declare what is in a YAML or JSON file; `-` reads the standard input.
    Apply {
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Forget the record. Touches no machine and no disk.
    Delete {
        name: String,
        /// Even a machine that is busy or Ready.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Certificates {
    /// All of them, the newest first.
    List {
        /// Only of this machine.
        #[arg(long)]
        machine: Option<String>,
    },
    /// One, with its signature and the key's public half.
    Show { id: String },
    /// Whether a file (of `show -o json`) was signed by this site. Asks no server.
    Verify {
        file: PathBuf,
        /// The site's public key, 64 hexadecimal digits, from a source that you trust.
        #[arg(long, value_name = "KEY")]
        public_key: String,
    },
}

#[derive(Debug, Subcommand)]
enum Workflows {
    /// The present or last workflow of each machine.
    List,
    /// The present or last workflow of one machine.
    Show { machine: String },
    /// Begin what a file asks for: {machine, kind: provision|wipe|inspect, profile?}.
    Apply {
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Cancel a machine's running workflow.
    Delete { machine: String },
}

/// Reads the command line, does it, gives the exit code.
pub fn main(doors: Doors) -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve { config } => match (doors.serve)(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(1, &format!("{error:#}")),
        },
        Command::Cache(arguments) => match (doors.cache)(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(1, &format!("{error:#}")),
        },
        Command::Check { folder } => match (doors.check)(&folder) {
            Ok(holds) => {
                println!("{holds}");
                ExitCode::SUCCESS
            }
            Err(problems) => complain(1, &problems.join("\n")),
        },
        Command::WipeCertificate(Certificates::Verify { file, public_key }) => {
            match certificates::verify(&file, &public_key) {
                Ok(good) => {
                    println!("{good}");
                    ExitCode::SUCCESS
                }
                Err(failure) => complain(failure.code(), &failure.to_string()),
            }
        }
        command => match as_client(command, cli.to) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => complain(failure.code(), &failure.to_string()),
        },
    }
}

fn complain(code: u8, text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}

fn as_client(command: Command, to: To) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Failed(format!("no async runtime: {e}")))?;
    runtime.block_on(async {
        let client = Client::new(&to)?;
        tokio::select! {
            done = dispatch(&client, command) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::Failed("stopped; the server goes on".to_owned())),
        }
    })
}

async fn dispatch(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { .. } | Command::Cache(_) | Command::Check { .. } => Ok(()),
        Command::Machine(what) => records::run(client, records::Kind::Machine, what).await,
        Command::Profile(what) => records::run(client, records::Kind::Profile, what).await,
        Command::Cluster(what) => records::run(client, records::Kind::Cluster, what).await,
        Command::Image(what) => images::run(client, what).await,
        Command::Config(what) => configs::run(client, what).await,
        Command::Workflow(what) => workflows::run(client, what).await,
        Command::Provision { machine, profile, despite_rogue, wait } => {
            let body = serde_json::json!({ "profile": profile });
            workflows::begin(client, &machine, "provision", &body, (despite_rogue, wait)).await
        }
        Command::Release { machine, skip_drain, force, despite_rogue, wait } => {
            let what = match (force, skip_drain) {
                (true, _) => "release?force=true",
                (_, true) => "release?skip_drain=true",
                _ => "release",
            };
            workflows::begin(client, &machine, what, &Value::Null, (despite_rogue, wait)).await
        }
        Command::Inspect { machine, wait } => workflows::ask(client, &machine, "inspect", wait).await,
        Command::Retry { machine, despite_rogue, wait } => {
            workflows::begin(client, &machine, "retry", &Value::Null, (despite_rogue, wait)).await
        }
        Command::Cancel { machine } => workflows::ask(client, &machine, "cancel", false).await,
        Command::Approve { machine } => workflows::ask(client, &machine, "approve", false).await,
        Command::Reject { machine } => workflows::ask(client, &machine, "reject", false).await,
        Command::Explain { subject } => explain::run(client, &subject).await,
        Command::WhatIf(asked) => what_if::run(client, asked).await,
        Command::BootPlane => boot_plane::run(client).await,
        Command::WipeCertificate(what) => certificates::run(client, what).await,
        Command::Events { machine, follow } => events::run(client, machine.as_deref(), follow).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
