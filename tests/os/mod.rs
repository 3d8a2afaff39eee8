//! What each operating system takes and refuses, with its makers' own samples.

mod bottlerocket;
mod cloud_init;
mod coreos;
mod ignition;
mod ignition_rules;
mod kairos;
mod nasty;
mod netdog;
mod samples;
mod shown;
mod talos;
mod values;

use provisioner::{inventory::OperatingSystem, os::validate};
use provisioner_wire::order::{Config, ConfigFile};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn fixtures(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(below)
}

/// Every file below a folder that ends so, sorted.
fn all(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn one(name: &str, contents: &str) -> Config {
    Config { files: vec![ConfigFile { name: name.into(), contents: contents.into(), mode: 0o600 }] }
}

/// The problems as lines; empty where the system takes the file.
fn refused(os: OperatingSystem, name: &str, contents: &str) -> Vec<String> {
    let problems = validate(os, &one(name, contents)).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}
