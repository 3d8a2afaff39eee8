//! proxyDHCP beside a real DHCP server that knows nothing of boot files: what firmware really does with two answers. The
//! other server is a host of its own on the lab's bridge, as it is in a rack.

use super::house::{House, Ways, machine, patience};
use provisioner_lab::{
    Netboot, Vm, VmSpec,
    namespace::BRIDGE,
    process::{self, Daemon},
};
use provisioner_wire::report::Firmware;
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

const PROXY: &str = "[[dhcp]]\ninterface = \"br0\"\nmode = \"proxy\"\n[dhcp.watch]\nallow = [\"10.88.0.2\"]\n\
    [[dhcp.subnets]]\nnetwork = \"10.88.0.0/24\"\n";
/// What our script for a machine without a workflow prints.
const OUR_SCRIPT: &str = "this machine boots its own disk";

#[derive(Debug, Clone, Copy)]
enum Beside {
    Dnsmasq,
    Kea,
}

/// A host with a DHCP server. Ends with the test.
struct Other {
    host: Child,
    _server: Daemon,
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

impl Other {
    fn start(kind: Beside, folder: &Path) -> Self {
        let host = Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn();
        let host = host.unwrap();
        let id = host.id().to_string();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let there = || fs::read_link(format!("/proc/{id}/ns/net")).is_ok_and(|net| net != own);
        assert!(process::until(patience(10), || Ok(there().then_some(()))).unwrap().is_some());
        let ip = |words: &str| process::run("ip", words.split(' ')).unwrap();
        ip(&format!("link add other type veth peer name eth0 netns {id}"));
        ip(&format!("link set other master {BRIDGE} up"));
        let inside = |words: &str| {
            let command = ["--target", &id, "--net"].into_iter().chain(words.split(' '));
            process::run("nsenter", command).unwrap()
        };
        inside("ip addr add 10.88.0.2/24 dev eth0");
        inside("ip link set eth0 up");
        let mut command = Command::new("nsenter");
        command.args(["--target", &id, "--net"]);
        match kind {
            Beside::Dnsmasq => dnsmasq(&mut command, folder),
            Beside::Kea => kea(&mut command, folder),
        }
        let log = folder.join("other.log");
        let mut server = Daemon::start(&format!("{kind:?}"), &mut command, &log).unwrap();
        let listens = || {
            inside("ss --udp --listening --numeric --no-header").contains(":67")
                || inside("cat /proc/net/packet").lines().count() > 1
        };
        server.wait_ready(Duration::from_secs(20), listens).unwrap();
        Self { host, _server: server }
    }
}

fn dnsmasq(command: &mut Command, folder: &Path) {
    let leases = folder.join("dnsmasq.leases");
    command.args(["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0"]);
    command.args(["--user=root", "--dhcp-range=10.88.0.50,10.88.0.90,600", "--log-dhcp"]);
    command.arg("--dhcp-option=3,10.88.0.1").arg(format!("--dhcp-leasefile={}", leases.display()));
}

fn kea(command: &mut Command, folder: &Path) {
    let config = folder.join("kea.json");
    let leases = folder.join("kea.leases");
    let text = format!(
        r#"{{"Dhcp4": {{"interfaces-config": {{"interfaces": ["eth0"]}},
        "lease-database": {{"type": "memfile", "name": "{}"}}, "valid-lifetime": 600,
        "subnet4": [{{"subnet": "10.88.0.0/24", "pools": [{{"pool": "10.88.0.50 - 10.88.0.90"}}],
        "option-data": [{{"name": "routers", "data": "10.88.0.1"}}]}}]}}}}"#,
        leases.display()
    );
    fs::write(&config, text).unwrap();
    command.env("KEA_PIDFILE_DIR", folder).env("KEA_LOCKFILE_DIR", folder);
    command.arg("kea-dhcp4").arg("-c").arg(config);
}

fn declared(spec: &VmSpec, pxe: Option<&str>) -> String {
    let quirk = pxe.map(|pxe| format!("quirks:\n  pxe: {pxe}\n")).unwrap_or_default();
    format!("name: node\nuuid: {}\n{quirk}nics:\n  - mac: {}\n", spec.uuid, spec.mac)
}

/// Boots `firmware` beside `kind`; what the server wrote.
fn boots_our_script(kind: Beside, firmware: Firmware, pxe: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    boots(kind, folder.path(), machine(folder.path(), firmware), pxe)
}

fn boots(kind: Beside, folder: &Path, spec: VmSpec, pxe: Option<&str>) -> String {
    let firmware = spec.firmware;
    let more = vec![("node.yaml", declared(&spec, pxe))];
    let house = House::open(None, Ways { more, dhcp: Some(PROXY), ..Ways::default() });
    let _other = Other::start(kind, folder);
    let mut vm = Vm::start(spec).unwrap();
    let log = || String::from_utf8_lossy(&house.server_log()).into_owned();
    let other = || fs::read_to_string(folder.join("other.log")).unwrap_or_default();
    let came = vm.wait_for(OUR_SCRIPT, patience(60));
    let heard: Vec<String> = log().lines().filter(|l| l.contains("dhcp")).map(str::to_owned).collect();
    assert!(came.is_ok(), "{came:?}\n{}\n{}", heard.join("\n"), process::tail(&other()));
    eprintln!("{kind:?} {firmware:?} {pxe:?} after {:?}", came.unwrap());
    let told = house.rows("SELECT event FROM events WHERE kind = 'heard' ORDER BY seq").join("\n");
    assert!(!told.contains("offered") && !told.contains("acknowledged"), "an address was given:\n{told}");
    told
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn bios_boots_beside_dnsmasq() {
    let told = boots_our_script(Beside::Dnsmasq, Firmware::Bios, None);
    assert!(told.contains("told on port 67"), "{told}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn bios_boots_beside_kea() {
    let told = boots_our_script(Beside::Kea, Firmware::Bios, None);
    assert!(told.contains("told on port 67"), "{told}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn uefi_boots_beside_dnsmasq() {
    let told = boots_our_script(Beside::Dnsmasq, Firmware::Uefi, None);
    assert!(told.contains("told on port 67"), "{told}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn uefi_boots_beside_kea() {
    let told = boots_our_script(Beside::Kea, Firmware::Uefi, None);
    assert!(told.contains("told on port 67"), "{told}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn uefi_that_is_told_to_skip_discovery_boots() {
    let told = boots_our_script(Beside::Dnsmasq, Firmware::Uefi, Some("skip"));
    assert!(told.contains("told on port 67") && !told.contains("4011"), "{told}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn uefi_that_is_told_nothing_asks_port_4011_and_boots() {
    let told = boots_our_script(Beside::Dnsmasq, Firmware::Uefi, Some("ask"));
    assert!(told.contains("told on port 4011"), "{told}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn uefi_that_is_told_option_60_by_its_dhcp_server_asks_port_4011() {
    let folder = tempfile::tempdir().unwrap();
    let spec = machine(folder.path(), Firmware::Uefi);
    let more = vec![("node.yaml", declared(&spec, Some("ask")))];
    let house = House::open(None, Ways { more, ..Ways::default() });
    let mut vm = Vm::start(spec).unwrap();
    vm.wait_for(OUR_SCRIPT, patience(60)).unwrap();
    let told = house.rows("SELECT event FROM events WHERE kind = 'heard' ORDER BY seq").join("\n");
    assert!(told.contains("acknowledged") && told.contains("told on port 4011"), "{told}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn uefi_boots_by_http_beside_dnsmasq() {
    let folder = tempfile::tempdir().unwrap();
    let spec = VmSpec { netboot: Netboot::Http, ..machine(folder.path(), Firmware::Uefi) };
    let told = boots(Beside::Dnsmasq, folder.path(), spec, None);
    assert!(told.contains("boot/files/snponly.efi"), "{told}");
}
