//! Every integration test, in one binary: one link instead of a dozen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod api;
mod bmc;
mod boot_contract;
mod clusters;
mod content;
mod crash;
mod dhcp;
mod dhcp6;
mod docs;
mod doctor;
mod fleet;
mod fuzz;
mod install;
mod os;
mod place;
mod postgres;
mod refusals;
mod sources;
mod tftp;
mod tidy;
mod trust;
mod vm;
mod world;
