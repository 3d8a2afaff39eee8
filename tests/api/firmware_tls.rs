//! Firmware's HTTPS with a real client that is held to what EDK2 can.

use axum::{Router, routing::get};
use provisioner::{
    clock::Clock,
    http::{firmware_tls, listen::Bound, tls},
};
use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

/// Exit code of curl.
fn curl(authority: &Path, url: &str, more: &[&str]) -> i32 {
    let mut command = Command::new("curl");
    command.args(["-s", "--max-time", "20", "--cacert"]).arg(authority).args(more).arg(url);
    command.status().unwrap().code().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_that_knows_rsa_and_dhe_only_is_served_by_its_own_authority() {
    let folder = tempfile::tempdir().unwrap();
    let make = || firmware_tls::server_config(folder.path(), "boot.example", Clock::system().now()).unwrap();
    make();
    let bound = Bound::new(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("https://{}/", bound.address());
    // Made anew at each start; the authorities are not.
    let config = make();
    let routes = Router::new().route("/", get(|| async { "ok" }));
    tokio::spawn(bound.tls(config, routes, std::future::pending()));
    let (firmware, usual) = (firmware_tls::ca_file(folder.path()), tls::ca_file(folder.path()));
    let (rsa, untrusted) = (["--tls-max", "1.2", "--ciphers"], 60);
    let results = tokio::task::spawn_blocking(move || {
        let dhe = |suite: &'static str| [&rsa[..], &[suite]].concat();
        [
            curl(&firmware, &url, &dhe("DHE-RSA-AES256-GCM-SHA384")),
            curl(&firmware, &url, &dhe("DHE-RSA-AES128-GCM-SHA256")),
            curl(&firmware, &url, &dhe("ECDHE-RSA-AES128-GCM-SHA256")),
            curl(&usual, &url, &[]),
            curl(&usual, &url, &dhe("DHE-RSA-AES128-GCM-SHA256")),
            curl(&firmware, &url, &[]),
        ]
    });
    assert_eq!(results.await.unwrap(), [0, 0, 0, 0, untrusted, untrusted]);
    for key in ["firmware-ca.key", "firmware-server.key"] {
        let mode = std::fs::metadata(folder.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}
