//! stub
#[cfg(feature = "bmc-simulator")]
pub mod bmc_simulator;
pub mod venv;
