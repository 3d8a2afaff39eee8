//! What is fuzzed: functions that take any bytes, and fail when something that must hold does not. libFuzzer calls them
//! (`cargo xtask fuzz`), and the test `fuzz` with a mutator of its own, for each commit.
#![allow(dead_code, reason = "each of libFuzzer's programs uses one of them")]

pub mod dhcp4;
pub mod dhcp6;
pub mod format;
pub mod manifest;
pub mod qcow2;
pub mod range;
pub mod script;
pub mod table;
pub mod tftp;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; its seeds are in the folder of its name in `fuzz/seeds`.
pub const ALL: &[Target] = &[
    ("dhcp4", dhcp4::run),
    ("dhcp6", dhcp6::run),
    ("format", format::run),
    ("manifest", manifest::run),
    ("qcow2", qcow2::run),
    ("range", range::run),
    ("script", script::run),
    ("table", table::run),
    ("tftp", tftp::run),
];

/// Nothing here waits for the world: it is ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("an answer waits for something"),
    }
}
