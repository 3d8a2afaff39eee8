//! The real server program on a bridge in a network namespace, with hosts of their own on it: a machine, and another DHCP
//! server. Needs root. The kernel removes all of it when the processes that hold the namespaces end.

use provisioner_wire::ids::hex;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs,
    net::{SocketAddrV6, UdpSocket},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

pub const SERVER: &str = "10.88.0.1";
pub const MAC: &str = "52:54:00:00:00:42";
pub const ROGUE: &str = "10.88.0.66";
pub const ROGUE_MAC: &str = "52:54:00:66:66:66";

/// A network namespace, with what runs in it.
struct Host(Child);

impl Host {
    fn new() -> Self {
        let child =
            Command::new("unshare").args(["--net", "sleep", "300"]).stdin(Stdio::null()).spawn().unwrap();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let there = || fs::read_link(format!("/proc/{}/ns/net", child.id())).is_ok_and(|net| net != own);
        wait("a namespace: these tests need root", || there().then_some(()));
        Self(child)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.0.id().to_string(), "--net"])
            .args(line.split(' '))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap_or_else(|e| panic!("nsenter {line}: {e}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends with the test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Site {
    folder: tempfile::TempDir,
    server: Host,
    machine: Host,
    other: Host,
    program: Option<Running>,
}

impl Site {
    /// `files`: boot files beside kernel and initramfs. `dhcp`: lines of the one `[[dhcp]]`, after its interface.
    pub fn new(files: &[(&str, Vec<u8>)], dhcp: &str, machine: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server, inside, other) = (Host::new(), Host::new(), Host::new());
        for line in [
            "ip link set lo up",
            "ip link add br0 type bridge",
            "ip addr add 10.88.0.1/24 dev br0",
            "ip addr add fd88::1/64 dev br0 nodad",
            "ip link set br0 up",
        ] {
            good(server.run(line));
        }
        for (host, port, mac) in [(&inside, "machine", MAC), (&other, "other", ROGUE_MAC)] {
            let id = host.0.id();
            good(
                server.run(&format!("ip link add {port} type veth peer name eth0 address {mac} netns {id}")),
            );
            good(server.run(&format!("ip link set {port} master br0 up")));
            good(host.run("ip link set lo up"));
            good(host.run("ip link set eth0 up"));
        }
        let mut site = Self { folder, server, machine: inside, other, program: None };
        site.write_files(files, dhcp, machine);
        site.start();
        site
    }

    fn write_files(&self, files: &[(&str, Vec<u8>)], dhcp: &str, machine: Option<&str>) {
        let put = |name: &str, bytes: &[u8]| {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("boot/vmlinuz", b"kernel");
        put("boot/initramfs.img", b"initramfs");
        put("images/tiny.raw", &[7; 4096]);
        for (name, bytes) in files {
            put(&format!("boot/{name}"), bytes);
        }
        let hash = hex(&Sha256::digest([7; 4096]));
        put(
            "hardware/images/tiny.yaml",
            format!("name: tiny\nsource: {{file: tiny.raw}}\nformat: raw\nsha256: {hash}\n").as_bytes(),
        );
        let profile = fs::read_to_string(root().join("hardware/profiles/tiny-node.yaml")).unwrap();
        let profile: String = profile
            .lines()
            .map(|l| if l.starts_with("image:") { "image: tiny\n".to_owned() } else { format!("{l}\n") })
            .collect();
        put("hardware/profiles/tiny.yaml", profile.as_bytes());
        fs::create_dir_all(self.path("hardware/machines")).unwrap();
        if let Some(text) = machine {
            put("hardware/machines/node.yaml", text.as_bytes());
        }
        let templates = root().join("templates");
        put("server.toml", format!(
            "data_dir = \"data\"\nhardware_dir = \"hardware\"\ntemplates_dir = {templates:?}\nimages_dir = \"images\"\n\
             [http]\nlisten = \"0.0.0.0:8080\"\ntls_listen = \"0.0.0.0:8443\"\npublic_host = \"{SERVER}\"\n\
             [[dhcp]]\ninterface = \"br0\"\n{dhcp}\n[tftp]\nlisten = \"{SERVER}:69\"\n\
             [boot]\nipxe_dir = \"boot\"\nkernel = \"boot/vmlinuz\"\ninitramfs = \"boot/initramfs.img\"\n").as_bytes());
    }

    fn start(&mut self) {
        let line = format!(
            "{} serve --config {}",
            env!("CARGO_BIN_EXE_provisioner"),
            self.path("server.toml").display()
        );
        let log = fs::File::create(self.path("server.log")).unwrap();
        let mut command = self.server.command(&line);
        let child =
            command.env("PROVISIONER_LOG", "debug,sqlx=warn,hyper=warn").stderr(log).stdout(Stdio::null());
        self.program = Some(Running(child.spawn().unwrap()));
        wait("the server's first answer", || self.cli("boot-plane").status.success().then_some(()));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command line, as an operator on the server's host.
    pub fn cli(&self, line: &str) -> Output {
        let (data, program) = (self.path("data"), env!("CARGO_BIN_EXE_provisioner"));
        let mut command = self.server.command(&format!("{program} {line}"));
        command.env("PROVISIONER_CA_FILE", data.join("ca.pem"));
        command.env("PROVISIONER_TOKEN_FILE", data.join("admin-token"));
        command.output().unwrap()
    }

    pub fn said(&self, line: &str) -> String {
        good(self.cli(line))
    }

    pub fn json(&self, line: &str) -> Value {
        let text = self.said(&format!("{line} --output json"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Waits until `explain` names this cause; its sentence.
    pub fn cause(&self, subject: &str, rule: &str) -> String {
        let mut last = Value::Null;
        let found = until(Duration::from_secs(60), || {
            last = self.json(&format!("explain {subject}"));
            let found = last["findings"].as_array().unwrap().iter().find(|f| f["rule"] == rule)?;
            Some(found["cause"].as_str().unwrap().to_owned())
        });
        found.unwrap_or_else(|| panic!("no {rule}: {last:#}\n{}", self.log()))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// A command line (words without spaces) on the machine.
    pub fn machine(&self, line: &str) -> Output {
        self.machine.run(&format!("timeout 40 {line}"))
    }

    /// A boot ROM's DHCP by busybox's client; its address is set on the interface.
    pub fn rom(&self, architecture: u16, more: &str) -> Output {
        let script = self.path("udhcpc");
        let lines = "#!/bin/sh\ncase $1 in bound) ip addr flush dev eth0; ip addr add $ip/24 dev eth0;; esac\nexit 0\n";
        fs::write(&script, lines).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        self.machine(&format!(
            "busybox udhcpc -f -q -n -t 3 -T 2 -i eth0 -s {} -V PXEClient:Arch:{architecture:05}:UNDI:003016 -x 0x5d:{architecture:04x} {more}",
            script.display()
        ))
    }

    /// Has the machine send a message to all DHCPv6 servers on the link, from where firmware does.
    pub fn solicit(&self, message: &[u8]) {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.machine.0.id())).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                let index = rustix::net::netdevice::name_to_index(UdpSocket::bind("[::]:0").unwrap(), "eth0");
                let servers = SocketAddrV6::new("ff02::1:2".parse().unwrap(), 547, 0, index.unwrap());
                // Until the link-local address is settled.
                let sent = || {
                    let socket = UdpSocket::bind("[::]:546").ok()?;
                    socket.send_to(message, servers).ok()
                };
                until(Duration::from_secs(10), sent).expect("a link-local address");
            });
        });
    }

    /// A real dnsmasq on a host of its own, that gives addresses and names a boot file.
    pub fn rogue(&self) -> Running {
        good(self.other.run(&format!("ip addr add {ROGUE}/24 dev eth0")));
        let line = format!(
            "dnsmasq --no-daemon --port=0 --interface=eth0 --bind-interfaces --dhcp-range=10.88.0.30,10.88.0.39,1h \
             --dhcp-boot=evil.efi --dhcp-authoritative --no-ping --conf-file=/dev/null --user=root --dhcp-leasefile={}",
            self.path("rogue.leases").display()
        );
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let log = fs::File::create(self.path("rogue.log")).unwrap();
        let child = self.other.command(&line).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let running = Running(child);
        wait("dnsmasq", || {
            let log = fs::read_to_string(self.path("rogue.log")).unwrap();
            log.contains("DHCP, IP range").then_some(())
        });
        running
    }

    /// On the server's host, which is the switch, too.
    pub fn here(&self, line: &str) -> Output {
        self.server.run(line)
    }

    /// On the host of the other DHCP server.
    pub fn other(&self, line: &str) -> Output {
        self.other.run(line)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Waits for `done`.
pub fn until<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = done() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn wait(what: &str, done: impl FnMut() -> Option<()>) {
    assert!(until(Duration::from_secs(60), done).is_some(), "{what} did not come");
}

pub fn good(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
