//! A lab leaves nothing behind, however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What `/proc/PID/ns/KIND` says of each process here.
fn namespaces(kind: &str) -> Vec<(u32, PathBuf)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            Some((id, fs::read_link(entry.path().join("ns").join(kind)).ok()?))
        })
        .collect()
}

/// A lab with a daemon, a mount and a tap in it, all of it up.
fn open(folder: &Path) -> Child {
    let busy = "ip tuntap add tap0 mode tap; ip link set tap0 master br0 up; mount -t tmpfs lab-test-mount /mnt; \
                setsid sleep 7777 & touch $0/up; sleep 7777";
    let child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["namespace", "--", "sh", "-c", busy])
        .arg(folder)
        .stdin(Stdio::null())
        // As a shell starts a command: Ctrl-C goes to the whole group.
        .process_group(0)
        .spawn()
        .unwrap();
    wait_until("the lab to be up", || folder.join("up").exists());
    child
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ends_without_a_trace(signal: &str, to_group: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut child = open(folder.path());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let below = |child: &Child| {
        let all = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
        all.split_whitespace().next().unwrap().to_owned()
    };
    // caller → unshare → PID 1
    let unshare = below(&child);
    let init = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    let init = init.split_whitespace().next().unwrap().to_owned();
    let link = |kind: &str| fs::read_link(format!("/proc/{init}/ns/{kind}")).unwrap();
    let (net, mnt) = (link("net"), link("mnt"));
    assert_ne!(net, own);
    assert!(
        namespaces("net").iter().filter(|(_, n)| *n == net).count() >= 4,
        "worker and daemons are inside"
    );
    let target = if to_group { format!("-{}", child.id()) } else { child.id().to_string() };
    // The shell's own: procps takes a small group for a signal.
    assert!(
        Command::new("sh").args(["-c", &format!("kill -s {signal} -- {target}")]).status().unwrap().success()
    );
    child.wait().unwrap();
    wait_until("every process of the lab to be gone", || {
        namespaces("net").iter().all(|(_, n)| *n != net) && namespaces("mnt").iter().all(|(_, n)| *n != mnt)
    });
    // A namespace that no process, mount or file holds is gone, and bridge, taps and mounts with it.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("lab-test-mount"), "{mounts}");
    assert!(!mounts.lines().any(|line| line.contains("nsfs")), "a namespace is pinned by a mount:\n{mounts}");
    assert!(fs::read_dir("/sys/class/net").unwrap().flatten().all(|e| e.file_name() != "tap0"));
}

#[test]
#[ignore = "needs root: run by `cargo xtask test`"]
fn vm_lab_is_gone_after_ctrl_c() {
    ends_without_a_trace("INT", true);
}

#[test]
#[ignore = "needs root: run by `cargo xtask test`"]
fn vm_lab_is_gone_after_sigterm() {
    ends_without_a_trace("TERM", false);
}

#[test]
#[ignore = "needs root: run by `cargo xtask test`"]
fn vm_lab_is_gone_after_sigkill() {
    ends_without_a_trace("KILL", false);
}

#[test]
#[ignore = "needs root: run by `cargo xtask test`"]
fn vm_exit_code_comes_through() {
    let code = |command: &str| {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.args(["namespace", "--", "sh", "-c", command]).status().unwrap().code()
    };
    assert_eq!(code("exit 7"), Some(7));
    assert_eq!(code("ip -br addr show br0 | grep -q 10.88.0.1/24"), Some(0));
    assert_eq!(code("kill -9 $$"), Some(137));
}
