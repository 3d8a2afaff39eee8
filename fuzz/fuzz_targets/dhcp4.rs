//! libFuzzer's door to the target `dhcp4`.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::dhcp4::run(data));
