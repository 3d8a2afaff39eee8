//! `explain`, `what-if` and the watch for other DHCP servers, on the real program: real clients on a real link.

mod causes;
mod hold;
mod site;
mod what_if;

use site::{MAC, Site};

const SERVING: &str =
    "[[dhcp.subnets]]\nnetwork = \"10.88.0.0/24\"\npools = [[\"10.88.0.100\", \"10.88.0.199\"]]";

/// The machine as declared: without a BMC, so that it waits for somebody to power it on.
fn declared() -> String {
    format!("name: node-1\nnics:\n  - mac: {MAC}\n    address: 10.88.0.11/24\nprofile: tiny-node\n")
}

/// A PE program of `machine` with something in it.
fn program(machine: u16) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c..0x40].copy_from_slice(&0x80u32.to_le_bytes());
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
    bytes
}

const X64: u16 = 0x8664;
const ARM64: u16 = 0xaa64;
