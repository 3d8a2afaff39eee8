//! A BMC of ours that keeps Redfish's word where emulators do not: sessions with a limit and an expiry, a boot
//! override that is really consumed by the next boot, ETags, paging, states that lag; and that fails on demand at the
//! n-th call. It drives anything that can be switched on and off ([`PowerBackend`]): memory in tests, QEMU in the lab.
//!
//! Its documents are redfish-codegen's models, so what it says is what DSP8010 allows.

mod auth;
mod backend;
mod documents;
mod fault;
mod protocol;
mod routes;
mod server;
mod state;

pub use backend::{BootFrom, Done, MemoryMachine, PowerBackend};
pub use fault::{Fault, FaultKind};
pub use server::BmcSimulator;

use std::{sync::Arc, time::Duration};

/// How the simulated BMC behaves.
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    pub user: String,
    pub password: String,
    /// HTTPS with a self-signed certificate, or plain HTTP.
    pub tls: bool,
    pub systems: Vec<SimulatedSystem>,
    /// Members per page of the systems collection.
    pub page_size: usize,
    /// `false`: no SessionService and no Links, like sushy-emulator; HTTP Basic only.
    pub session_service: bool,
    /// Also takes HTTP Basic beside sessions.
    pub basic: bool,
    pub session_limit: usize,
    /// A session not used for so long is gone.
    pub session_expiry: Duration,
    pub etags: Etags,
    pub reset_types: ResetTypes,
    /// How long a power state takes to show.
    pub power_lag: Duration,
    /// Takes "Once" and keeps "Continuous" until it is changed, like sushy-emulator.
    pub never_once: bool,
    /// Says when the last reset was; many BMCs do not.
    pub last_reset_time: bool,
    /// Answers a login without `Location` (the body names the session).
    pub session_without_location: bool,
    /// Answers changes with 202 and a task monitor that ends after this time.
    pub tasks: Option<Duration>,
    /// The root's and the systems' `Vendor`/`Manufacturer`.
    pub vendor: String,
}

/// What it says of ETags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Etags {
    None,
    /// Shown; a wrong `If-Match` is 412.
    Checked,
    /// Besides, none at all is 428.
    Required,
    /// Shown weak, taken only strong: 412 for its own words, as some BMCs do.
    StrongOnly,
}

/// Where it says which resets it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResetTypes {
    Unsaid,
    AllowableValues(Vec<String>),
    ActionInfo(Vec<String>),
}

/// One computer behind the BMC.
#[derive(Debug, Clone)]
pub struct SimulatedSystem {
    pub id: String,
    pub uuid: String,
    pub serial: String,
    pub macs: Vec<String>,
    pub machine: Arc<dyn PowerBackend>,
}

impl SimulatorConfig {
    /// A well-behaved BMC over plain HTTP: one system in memory, `admin`/`secret-canary-bmc`.
    pub fn usual(machine: Arc<dyn PowerBackend>) -> Self {
        let types = ["On", "ForceOff", "ForceRestart", "GracefulShutdown", "GracefulRestart"];
        Self {
            user: "admin".to_owned(),
            password: "secret-canary-bmc".to_owned(),
            tls: false,
            systems: vec![SimulatedSystem {
                id: "1".to_owned(),
                uuid: "38947555-7742-3448-3784-823347823834".to_owned(),
                serial: "SIM0001".to_owned(),
                macs: vec!["52:54:00:00:00:01".to_owned(), "52:54:00:00:00:02".to_owned()],
                machine,
            }],
            page_size: 100,
            session_service: true,
            basic: false,
            session_limit: 4,
            session_expiry: Duration::from_secs(300),
            etags: Etags::Checked,
            reset_types: ResetTypes::AllowableValues(types.map(str::to_owned).to_vec()),
            power_lag: Duration::ZERO,
            never_once: false,
            last_reset_time: true,
            session_without_location: false,
            tasks: None,
            vendor: "Simulated".to_owned(),
        }
    }
}
