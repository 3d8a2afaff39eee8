//! What is fuzzed: functions that take any bytes, and fail when something that must hold does not. libFuzzer calls them
//! (`cargo xtask fuzz`), and the test `fuzz` with a mutator of its own, for each commit.
#![allow(dead_code, reason = "each of libFuzzer's programs uses one of them")]

pub mod dhcp4;
pub mod range;
pub mod script;
pub mod tftp;

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; its seeds are in the folder of its name in `fuzz/seeds`.
pub const ALL: &[Target] =
    &[("dhcp4", dhcp4::run), ("range", range::run), ("script", script::run), ("tftp", tftp::run)];
