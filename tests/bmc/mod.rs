//! The BMC client against BMCs: our simulator, sushy-emulator, and the recorded trees of real vendors.

mod faults;
mod hostile;
mod simulator;
mod sushy;
mod tree;
mod validator;
mod vendors;

use provisioner::bmc::{Bmc, BmcError, BmcTarget, Pin, redfish::Redfish, retry::Patience, session::Limits};
use provisioner_lab::bmc_simulator::{BmcSimulator, MemoryMachine, SimulatorConfig};
use std::{sync::Arc, time::Duration};

/// Long enough for anything that ends at all on a loaded machine.
pub const LONG: Duration = Duration::from_secs(60);

/// The usual limits, a hundred times faster.
pub const FAST: Limits = Limits {
    answer: Duration::from_secs(10),
    patience: Patience { base: Duration::from_millis(5), cap: Duration::from_millis(50), attempts: 8 },
    poll: Duration::from_millis(10),
    settle: Duration::from_millis(300),
};

pub fn target(url: &str, user: &str, password: &str, pin: Option<Pin>) -> BmcTarget {
    BmcTarget { address: url.parse().unwrap(), user: user.into(), password: password.to_owned().into(), pin }
}

pub async fn simulator(config: SimulatorConfig) -> BmcSimulator {
    BmcSimulator::start(config, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// A simulator in front of a machine in memory.
pub async fn simulated(
    on: bool,
    change: impl FnOnce(&mut SimulatorConfig),
) -> (BmcSimulator, Arc<MemoryMachine>) {
    let machine = Arc::new(MemoryMachine::new(on));
    let mut config = SimulatorConfig::usual(machine.clone());
    change(&mut config);
    (simulator(config).await, machine)
}

pub async fn open(simulator: &BmcSimulator) -> Result<Redfish, BmcError> {
    open_pinned(simulator, None).await
}

pub async fn open_pinned(simulator: &BmcSimulator, pin: Option<Pin>) -> Result<Redfish, BmcError> {
    let target = target(&simulator.url(), "admin", "secret-canary-bmc", pin);
    Redfish::open(target, FAST, LONG).await
}

pub async fn close(redfish: Redfish) {
    Box::new(redfish).close(LONG).await.unwrap();
}
