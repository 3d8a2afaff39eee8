//! DMTF's own protocol validator against our simulator: a simulator that is not honest makes its tests worthless.

use super::simulated;
use std::{collections::BTreeSet, path::Path, process::Command};

/// What the simulator does not do, on purpose: here it speaks plain HTTP (the validator refuses a self-signed
/// certificate at some of its own steps), and it has no accounts and so no roles.
const ACCEPTED: [&str; 2] = ["SEC_BASIC_AUTH_OVER_HTTPS", "SEC_PRIV_SUPPORT_PREDEFINED_ROLES"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulator_keeps_the_protocol() {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bmc/requirements-validator.txt");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("redfish-validator");
    let bin = provisioner_lab::venv::ensure(&place, &pins).unwrap();
    let (sim, _) = simulated(false, |config| {
        config.session_limit = 64;
        config.basic = true;
    })
    .await;
    let reports = tempfile::tempdir().unwrap();
    let mut validator = Command::new(bin.join("rf_protocol_validator"));
    validator.args(["-r", &sim.url(), "-u", "admin", "-p", "secret-canary-bmc"]);
    validator.args(["--no-cert-check", "--avoid-http-redirect", "--report-type", "tsv", "--report-dir"]);
    validator.arg(reports.path()).current_dir(reports.path());
    let output = tokio::task::spawn_blocking(move || validator.output()).await.unwrap().unwrap();

    let report = std::fs::read_dir(reports.path()).unwrap().map(|entry| entry.unwrap().path());
    let report = report.into_iter().find(|path| path.extension().is_some_and(|end| end == "tsv"));
    let report = report.unwrap_or_else(|| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)));
    let report = std::fs::read_to_string(report).unwrap();
    let rows: Vec<Vec<&str>> = report.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let with =
        |result: &str| rows.iter().filter(|row| row.get(4) == Some(&result)).cloned().collect::<Vec<_>>();
    let failed: BTreeSet<&str> = with("FAIL").iter().map(|row| row[0]).collect();
    assert!(with("PASS").len() > 100, "{report}");
    assert_eq!(failed, BTreeSet::from(ACCEPTED), "{:#?}", with("FAIL"));
}
