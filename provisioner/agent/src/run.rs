//! The story: look at the hardware, claim, then do one order after the other until one says to leave.

mod disks;

use crate::{
    cmdline::{Cmdline, CmdlineError, PINNED_KEY},
    disk::{find::FindError, wipe::WipeError, write::WriteError},
    hardware,
    log::Log,
    patience::Patience,
    place::{self, KernelMounts, Mounts, PlaceError},
    report::{self, Reporter},
    server::{Server, ServerError},
};
use provisioner_wire::{
    Generation, MachineName,
    channel::{Channel, ChannelError, PrivateKey, config_context},
    order::{Claim, ClaimAnswer, Config, ConfigRequest, HandOver, Order, Outcome, PlaceConfig, StepResult},
    report::HardwareReport,
    wipe::Wiped,
};
use std::{io, path::PathBuf, sync::Arc, time::Duration};

/// Longest pause that an order may ask for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Where and how the agent works; all of it replaceable in tests.
pub struct Settings {
    pub cmdline: Cmdline,
    /// `/`; a made tree with `sys`, `proc` and `dev` in tests.
    pub root: PathBuf,
    pub patience: Patience,
    pub report_every: Duration,
    pub mounts: Arc<dyn Mounts>,
    /// Called after a failed step was reported: the rescue shell.
    pub on_failure: Box<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Settings({:?})", self.cmdline)
    }
}

impl Settings {
    /// For the machine that this runs on, as its kernel command line says.
    pub fn of_this_machine() -> Result<Self, CmdlineError> {
        let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let pinned = std::fs::read_to_string(PINNED_KEY).ok();
        let cmdline = Cmdline::parse(&text)?.of_pinned_server(pinned.as_deref())?;
        let shell = cmdline.shell_on_failure;
        Ok(Self {
            cmdline,
            root: "/".into(),
            patience: Patience::default(),
            report_every: Duration::from_secs(1),
            mounts: Arc::new(KernelMounts),
            on_failure: Box::new(move |reason| {
                if shell {
                    crate::boot::rescue_shell(reason);
                }
            }),
        })
    }
}

/// How it ended, with the reason for the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Reboot(String),
    PowerOff(String),
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Cmdline(#[from] CmdlineError),
    #[error("the channel to the server: {0}")]
    Channel(#[from] ChannelError),
    #[error("{0}")]
    Server(ServerError),
}

/// Why a step failed; its text is the reason that the operator reads.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("{0}")]
    Find(#[from] FindError),
    #[error("opening /dev/{disk}: {error}")]
    Open { disk: String, error: io::Error },
    #[error("image {image} to {disk}: {error}")]
    Write { image: String, disk: String, error: Box<WriteError> },
    #[error("wiping {disk}: {error}")]
    Wipe { disk: String, error: WipeError },
    #[error("image {image} unpacks to {need} bytes, but {disk} has {size}")]
    TooSmall { image: String, disk: String, need: u64, size: u64 },
    #[error("placing the config: {0}")]
    Place(#[from] PlaceError),
    #[error("the config: {0}")]
    Config(String),
    #[error("{0}")]
    Server(#[from] ServerError),
}

/// Runs until an order, or the end of the generation, says to leave.
pub fn run(settings: &Settings, log: &Arc<Log>) -> Result<Ended, RunError> {
    let report = settled_report(settings);
    describe(&report, log);
    let key = PrivateKey::generate()?;
    let boot_id = &settings.cmdline.boot_id;
    let channel = Channel::new(&key, &settings.cmdline.server_key, &boot_id.hash())?;
    let proof = channel.proof(boot_id);
    let server = Arc::new(Server::new(&settings.cmdline.server, channel, settings.patience, Arc::clone(log)));
    let claim = Claim { boot_id: boot_id.clone(), public_key: key.public(), proof, report, evidence: None };
    let ClaimAnswer { machine, generation } = match server.claim(&claim) {
        Ok(answer) => answer,
        Err(error) => return over(error),
    };
    log.say(format_args!("claimed machine {machine}, generation {generation}"));
    let _reporter = Reporter::start(Arc::clone(&server), Arc::clone(log), generation, settings.report_every);
    let agent = Agent { settings, log, server: &server, machine, generation };
    agent.obey().or_else(over)
}

/// A generation that is over is no failure of the agent: it reboots, and the server decides what then.
fn over(error: ServerError) -> Result<Ended, RunError> {
    match error {
        ServerError::Over { .. } => Ok(Ended::Reboot(error.to_string())),
        other => Err(RunError::Server(other)),
    }
}

/// Disks appear for a while after their driver was loaded: looks until two looks are the same.
fn settled_report(settings: &Settings) -> HardwareReport {
    let look = || hardware::inspect(&settings.root, settings.cmdline.boot_mac);
    let mut last = look();
    for _ in 0..40 {
        std::thread::sleep(settings.patience.settle);
        let now = look();
        if now.disks == last.disks && !now.disks.is_empty() {
            return now;
        }
        last = now;
    }
    last
}

fn describe(report: &HardwareReport, log: &Log) {
    log.say(format_args!(
        "{} {}, {} x {}, {} MiB, {:?}",
        report.dmi.manufacturer.as_deref().unwrap_or("unknown"),
        report.dmi.product.as_deref().unwrap_or("machine"),
        report.cpu.cores,
        report.cpu.model,
        report.memory_bytes >> 20,
        report.firmware,
    ));
    for disk in &report.disks {
        log.say(format_args!("disk {}: {}", disk.name, disk.identity()));
    }
    for nic in &report.nics {
        log.say(format_args!("nic {}: {} link {}", nic.name, nic.mac, if nic.link { "up" } else { "down" }));
    }
}

/// What a step that is done has to tell.
#[derive(Default)]
struct Facts {
    read_back_sha256: Option<String>,
    wiped: Vec<Wiped>,
}

impl Facts {
    fn of_write(read_back_sha256: Option<String>) -> Self {
        Self { read_back_sha256, wiped: Vec::new() }
    }

    fn of_wipe(wiped: Vec<Wiped>) -> Self {
        Self { read_back_sha256: None, wiped }
    }
}

struct Agent<'a> {
    settings: &'a Settings,
    log: &'a Arc<Log>,
    server: &'a Server,
    machine: MachineName,
    generation: Generation,
}

impl Agent<'_> {
    fn obey(&self) -> Result<Ended, ServerError> {
        let mut last_wait = String::new();
        let mut last_order = None;
        loop {
            match self.server.order()? {
                Order::Wait { reason, seconds } => {
                    if reason != last_wait {
                        self.log.say(format_args!("waiting: {reason}"));
                        last_wait = reason;
                    }
                    std::thread::sleep(Duration::from_secs(seconds.max(1)).min(WAIT_MAX));
                }
                order @ Order::Reboot { .. } => return self.leave(&order, Ended::Reboot),
                order @ Order::PowerOff { .. } => return self.leave(&order, Ended::PowerOff),
                order => {
                    if last_order.as_ref() == Some(&order) {
                        // A server that does not get on must not be asked as fast as the network can.
                        std::thread::sleep(self.settings.patience.longest_pause);
                    }
                    self.step(&order)?;
                    last_order = Some(order);
                }
            }
        }
    }

    /// The server hears that the agent leaves before it leaves.
    fn leave(&self, order: &Order, ended: fn(String) -> Ended) -> Result<Ended, ServerError> {
        let (Order::Reboot { reason } | Order::PowerOff { reason }) = order else {
            return Ok(ended(String::new()));
        };
        report::send_lines(self.server, self.log, self.generation);
        self.tell(order, Outcome::Done { read_back_sha256: None }, Vec::new())?;
        rustix::fs::sync();
        Ok(ended(reason.clone()))
    }

    /// Does one step and reports it. Only the server being lost, or the generation being over, is an error here.
    fn step(&self, order: &Order) -> Result<(), ServerError> {
        let Some(name) = order.step() else { return Ok(()) };
        self.log.say(format_args!("{name}: begins"));
        self.log.begin(Some(name), 0);
        let done = match order {
            Order::Wipe(wipe) => self.wipe(wipe).map(Facts::of_wipe),
            Order::WriteImage(write) => self.write_image(write).map(Facts::of_write),
            Order::PlaceConfig(place) => self.place_config(place).map(|()| Facts::default()),
            Order::HandOver(over) => self.hand_over(over).map(|()| Facts::default()),
            Order::Wait { .. } | Order::Reboot { .. } | Order::PowerOff { .. } => Ok(Facts::default()),
        };
        match done {
            Ok(facts) => {
                self.log.say(format_args!("{name}: done"));
                self.tell(order, Outcome::Done { read_back_sha256: facts.read_back_sha256 }, facts.wiped)
            }
            Err(StepError::Server(error @ ServerError::Over { .. })) => Err(error),
            Err(error) => {
                let reason = error.to_string();
                self.log.say(format_args!("{name}: failed: {reason}"));
                self.tell(order, Outcome::Failed { reason: reason.clone() }, Vec::new())?;
                (self.settings.on_failure)(&reason);
                Ok(())
            }
        }
    }

    fn tell(&self, order: &Order, outcome: Outcome, wiped: Vec<Wiped>) -> Result<(), ServerError> {
        let Some(step) = order.step() else { return Ok(()) };
        self.server.result(&StepResult { generation: self.generation, step, outcome, wiped })
    }

    /// Another installer will write the disk: the licence is spent here, before that could begin (I3).
    fn hand_over(&self, order: &HandOver) -> Result<(), StepError> {
        let disk = self.disk(&order.disk)?;
        let _held = self.open(&disk)?;
        self.spend(order.licence, &[&disk])?;
        self.log.say(format_args!("/dev/{} is handed to the operating system's own installer", disk.name));
        Ok(())
    }

    fn place_config(&self, order: &PlaceConfig) -> Result<(), StepError> {
        let disk = self.disk(&order.disk)?;
        let sealed = self.server.config(&ConfigRequest { generation: self.generation })?.sealed;
        let context = config_context(&self.machine, self.generation);
        let opened =
            self.server.channel().open(&sealed, &context).map_err(|e| StepError::Config(e.to_string()))?;
        // Only the place of a mistake is told: the text holds secrets.
        let config: Config = serde_json::from_slice(&opened).map_err(|e| {
            StepError::Config(format!("not understood at line {}, column {}", e.line(), e.column()))
        })?;
        Ok(place::place(&self.settings.root, &disk, &order.place, &config, &*self.settings.mounts, self.log)?)
    }
}
