//! The client against sushy-tools' Redfish emulator: an implementation that is not ours, with no session service, no
//! "Once", no ETags, and power states that take seconds.

use super::{FAST, LONG, target};
use provisioner::bmc::{
    Bmc, BmcError, Cause, NetBoot, OverrideSet, Power, PowerChange, redfish::Redfish, session::Limits,
};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A running emulator with one fake machine.
struct Emulator {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts it; with `account` it demands HTTP Basic.
fn start(account: Option<(&str, &str)>) -> Emulator {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bmc/requirements.txt");
    let bin =
        provisioner_lab::venv::ensure(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("sushy"), &pins).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = format!("SUSHY_EMULATOR_STATE_DIR = {:?}\n", folder.path());
    if let Some((user, password)) = account {
        let script =
            "import bcrypt,sys; print(bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt(4)).decode())";
        let hash = Command::new(bin.join("python")).args(["-c", script, password]).output().unwrap();
        let accounts = folder.path().join("accounts");
        std::fs::write(&accounts, format!("{user}:{}", String::from_utf8(hash.stdout).unwrap())).unwrap();
        config += &format!("SUSHY_EMULATOR_AUTH_FILE = {accounts:?}\n");
    }
    let file = folder.path().join("sushy.conf");
    std::fs::write(&file, config).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let process = Command::new(bin.join("sushy-emulator"))
        .args(["--fake", "-i", "127.0.0.1", "-p", &port.to_string(), "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Emulator { process, url: format!("http://127.0.0.1:{port}"), _folder: folder }
}

/// Opens it; the client's own patience waits for the emulator to be up.
async fn open(emulator: &Emulator, user: &str, password: &str) -> Result<Redfish, BmcError> {
    let mut limits = Limits { settle: Duration::from_secs(15), ..FAST };
    limits.patience.attempts = 60;
    limits.patience.cap = Duration::from_millis(500);
    Redfish::open(target(&emulator.url, user, password, None), limits, LONG).await
}

#[tokio::test]
async fn the_whole_client() {
    let emulator = start(None);
    let bmc = open(&emulator, "", "").await.unwrap();
    let identity = bmc.identity(LONG).await.unwrap();
    assert_eq!(identity.manufacturer.as_deref(), Some("Sushy Emulator"));
    assert_eq!(identity.uuid.unwrap().to_string(), "27946b59-9e44-4fa7-8e91-f3527a1ef094");
    assert_eq!(identity.macs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["00:5c:52:31:3a:9c"]);
    assert_eq!(identity.power, Power::Off);
    assert_eq!(bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap(), OverrideSet::Continuous);
    bmc.set_power(PowerChange::On, LONG).await.unwrap();
    assert_eq!(bmc.power(LONG).await.unwrap(), Power::On);
    bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
    bmc.clear_boot_override(LONG).await.unwrap();
    bmc.set_power(PowerChange::ForceOff, LONG).await.unwrap();
    assert_eq!(bmc.power(LONG).await.unwrap(), Power::Off);
    Box::new(bmc).close(LONG).await.unwrap();
}

#[tokio::test]
async fn basic_where_there_are_no_sessions() {
    let emulator = start(Some(("admin", "right")));
    let error = open(&emulator, "admin", "wrong").await.unwrap_err();
    assert_eq!(error.cause, Cause::Unauthorized);
    let bmc = open(&emulator, "admin", "right").await.unwrap();
    assert_eq!(bmc.power(LONG).await.unwrap(), Power::Off);
    Box::new(bmc).close(LONG).await.unwrap();
}
