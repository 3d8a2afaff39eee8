//! The fuzz targets for a few seconds with a small mutator, on every commit: the seeds first, then changes of them.
//! `cargo xtask fuzz` runs the same functions under libFuzzer with sanitizers, for as long as one likes.

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use fastrand::Rng;
use std::{
    fs,
    panic::catch_unwind,
    path::Path,
    time::{Duration, Instant},
};

/// Of each target. `PROVISIONER_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 3;
const INPUT_MAX: usize = 4096;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One to eight small changes: what parsers trip over are lengths, ends and doubled parts.
fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Rng) {
    for _ in 0..random.usize(1..=8) {
        let at = random.usize(0..=input.len());
        match random.u8(0..9) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
            1 if at < input.len() => input[at] = random.u8(..),
            2 if at < input.len() => input[at] = *random.choice(&[0, 1, 2, 4, 127, 128, 254, 255]).unwrap(),
            3 if at < input.len() => drop(input.drain(at..input.len().min(at + random.usize(1..16)))),
            4 => input.truncate(at),
            5 => drop(
                input.splice(at..at, (0..random.usize(1..16)).map(|_| random.u8(..)).collect::<Vec<_>>()),
            ),
            6 => {
                let part = input[at..input.len().min(at + random.usize(1..300))].to_vec();
                drop(input.splice(at..at, part));
            }
            7 => {
                let other = random.choice(others).map_or(&[][..], Vec::as_slice);
                let from = random.usize(0..=other.len());
                let part = &other[from..other.len().min(from + random.usize(1..64))];
                drop(input.splice(at..at, part.iter().copied()));
            }
            _ => input.push(random.u8(..)),
        }
        input.truncate(INPUT_MAX);
    }
}

/// Fails with the input, in a form that a test can have.
fn survives((name, run): targets::Target, input: &[u8]) {
    if catch_unwind(|| run(input)).is_err() {
        panic!("fuzz target {name} fails on {input:?}");
    }
}

fn fuzz(name: &str) {
    let target = *targets::ALL.iter().find(|(n, _)| *n == name).unwrap();
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "no seeds of {name}");
    seeds.iter().for_each(|seed| survives(target, seed));
    survives(target, &[]);
    let seconds = std::env::var("PROVISIONER_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    // A new path each time; what fails is printed whole.
    let mut random = Rng::new();
    while Instant::now() < until {
        let mut input = random.choice(&seeds).unwrap().clone();
        mutate(&mut input, &seeds, &mut random);
        survives(target, &input);
    }
}

#[test]
fn every_target_has_seeds_and_a_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for (name, _) in targets::ALL {
        assert!(!seeds(name).is_empty(), "{name}");
        assert!(root.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
        assert!(manifest.contains(&format!("fuzz_targets/{name}.rs")), "{name}");
    }
}

#[test]
fn dhcp4_answers_any_packet() {
    fuzz("dhcp4");
}

#[test]
fn dhcp6_answers_any_packet() {
    fuzz("dhcp6");
}

#[test]
fn images_of_any_format_are_bounded() {
    fuzz("format");
}

#[test]
fn a_manifest_is_consistent_or_none() {
    fuzz("manifest");
}

#[test]
fn a_partition_table_stays_on_its_disk() {
    fuzz("table");
}

#[test]
fn a_qcow2_image_ends_or_is_damaged() {
    fuzz("qcow2");
}

#[test]
fn ranges_stay_within_their_file() {
    fuzz("range");
}

#[test]
fn scripts_take_any_value() {
    fuzz("script");
}

#[test]
fn tftp_bears_any_client() {
    fuzz("tftp");
}
