//! The whole server, the whole agent, real firmware. Each test runs in a lab namespace of its own and holds the power
//! of its machines itself: `cargo xtask test`.

mod arm64;
mod canaries;
mod cuts;
mod disks;
mod house;
mod https_boot;
mod ipv6;
mod proxy;
mod ready;
mod secure_boot;
mod stuck;
mod unknown;
