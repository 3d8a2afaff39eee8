//! Debian's real Ignition, its own program, follows a pointer to its config over TLS, and applies it.

use super::{MAC, Server};
use provisioner_wire::machine::Phase;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

/// Where Debian's package has it, for dracut.
const PROGRAM: &str = "/usr/lib/dracut/modules.d/30ignition/ignition";
const NODE: &str = "node-1";

/// One stage, with everything it keeps in `folder`, whose `config.ign` is the config of the platform `file`. It is ended
/// after so many seconds: Ignition asks for ever where it reaches nobody that it trusts.
async fn stage(folder: &Path, stage: &str, seconds: u32) -> Output {
    let inside = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("timeout");
    command.arg(seconds.to_string()).arg(PROGRAM);
    command.current_dir(folder).args(["--platform=file", "--log-to-stdout", "--fetch-timeout=5s"]);
    command.arg(format!("--stage={stage}")).arg(format!("--root={}", inside("root")));
    command
        .arg(format!("--config-cache={}", inside("cache")))
        .arg(format!("--state-file={}", inside("state")));
    tokio::task::spawn_blocking(move || command.output().expect("the package ignition")).await.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_ignition_follows_the_pointer_once_and_trusts_only_this_site() {
    let server = Server::start().await;
    server.declare(NODE, MAC).await;
    let (agent, order) = server.ordered("by-url-ignition-tls").await;
    assert_eq!(agent.spend(1, &order).await.0, 200);
    assert_eq!(agent.done(1, "write-image").await.0, 200);
    let config = agent.config(NODE, 1).await.1.unwrap();
    assert_eq!(agent.done(1, "place-config").await.0, 200);
    assert_eq!(agent.done(1, "reboot").await.0, 200);
    let [pointer] = config.files.as_slice() else { panic!("{config:?}") };
    assert_eq!(pointer.name, "config.ign");

    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("config.ign");
    // Without the authority that the pointer brings it does not come to a request.
    let mut stranger: serde_json::Value = serde_json::from_str(&pointer.contents).unwrap();
    stranger["ignition"].as_object_mut().unwrap().remove("security");
    fs::write(&place, stranger.to_string()).unwrap();
    let refused = stage(folder.path(), "fetch", 3).await;
    assert!(!refused.status.success() && said(&refused).contains("certificate"), "{}", said(&refused));
    assert_eq!(server.machine(NODE).await.unwrap().phase, Phase::Rebooting);
    assert!(server.machine(NODE).await.unwrap().config_url.unwrap().fetched.is_empty());

    fs::write(&place, &pointer.contents).unwrap();
    let fetched = stage(folder.path(), "fetch", 60).await;
    assert!(fetched.status.success(), "{}", said(&fetched));
    fs::create_dir_all(folder.path().join("root/etc")).unwrap();
    let applied = stage(folder.path(), "files", 60).await;
    let file = folder.path().join("root/etc/node/token");
    let token = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{e}: {}", said(&applied)));
    assert!(token.starts_with("canary-token"), "{token}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);

    // Another boot with the same pointer: nothing is given out, and the first one's token is dead.
    let _ = fs::remove_file(folder.path().join("cache"));
    let again = stage(folder.path(), "fetch", 20).await;
    assert!(!again.status.success() && said(&again).contains("Gone"), "{}", said(&again));
    let failed = server.machine(NODE).await.unwrap();
    assert!(failed.reason.contains("a second time"), "{}", failed.reason);
    assert_eq!(server.shows(&token).await, 403);
}
