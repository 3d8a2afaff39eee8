//! libFuzzer's door to the target `dhcp6`.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::dhcp6::run(data));
