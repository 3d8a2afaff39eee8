//! `provisioner`: from power-on to a Ready node. The rooms and who may import whom stand in ARCHITECTURE.md;
//! `tests/tidy.rs` holds them.

pub mod bmc;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crash;
pub mod dhcp;
pub mod doctor;
pub mod http;
pub mod image;
pub mod inventory;
pub mod machine;
pub mod os;
pub mod pull_through;
pub mod reach;
pub mod render;
pub mod secret;
pub mod serve;
pub mod store;
pub mod tftp;
pub mod token;
pub mod workflow;
