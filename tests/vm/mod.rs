//! The whole server, the whole agent, real firmware. Each test runs in a lab namespace of its own and holds the power
//! of its machines itself: `cargo xtask test`.

mod canaries;
mod cuts;
mod house;
mod proxy;
mod ready;
mod stuck;
mod unknown;
