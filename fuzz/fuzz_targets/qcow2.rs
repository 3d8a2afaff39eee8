//! libFuzzer's door to the target `qcow2`.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::qcow2::run(data));
