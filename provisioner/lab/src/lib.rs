//! A whole QEMU datacentre in one network namespace: machines, BMCs, faults. Used by `cargo xtask` and by tests.
//!
//! Everything here is for the lab: no part of the server or the agent is built from it.

#[cfg(feature = "bmc-simulator")]
pub mod bmc_simulator;

pub mod accelerator;
pub mod assets;
pub mod libvirt;
pub mod machines;
pub mod namespace;
pub mod process;
pub mod qmp;
#[cfg(feature = "relay")]
pub mod relay;
pub mod serial;
pub mod sushy;
pub mod venv;
pub mod vm;

pub use assets::Assets;
pub use machines::{Identity, LabMachine, RedfishMachines};
pub use namespace::Namespace;
pub use vm::{BootOrder, Vm, VmSpec};
