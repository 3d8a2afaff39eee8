//! A simulated BMC to talk to by hand: `cargo run -p provisioner-lab --features bmc-simulator --example bmc-simulator`.
//! With `tls` as argument it speaks HTTPS. It ends with Ctrl-C.

use provisioner_lab::bmc_simulator::{BmcSimulator, MemoryMachine, SimulatorConfig};
use std::sync::Arc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut config = SimulatorConfig::usual(Arc::new(MemoryMachine::new(false)));
    config.tls = std::env::args().any(|argument| argument == "tls");
    config.session_limit = 64;
    let (user, password) = (config.user.clone(), config.password.clone());
    let simulator = BmcSimulator::start(config, "127.0.0.1:0".parse()?).await?;
    println!("{} {user} {password}", simulator.url());
    std::future::pending().await
}
