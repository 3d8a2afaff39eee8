//! Real clients over a real link: ISC dhclient and busybox udhcpc against the real socket.

use super::{
    house::{Declared, Ear, Journal, SERVER, serving, subnets},
    namespace::{Pair, good},
};
use provisioner::{
    clock::Clock,
    dhcp::{
        Heard, LeaseRecord, Said, Who,
        server::Server,
        sockets::{address_on, bind, serve},
    },
};
use provisioner_wire::Mac;
use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const MAC: &str = "52:54:00:00:00:42";

struct Net {
    pair: Pair,
    folder: TempDir,
    journal: Arc<Journal>,
    ear: Arc<Ear>,
}

impl Net {
    /// A server whose one declared machine is `who`.
    fn new(who: Who) -> Self {
        let (pair, folder) = (Pair::new(MAC), tempfile::tempdir().unwrap());
        let (journal, ear) = (Arc::new(Journal::default()), Arc::new(Ear::default()));
        let directory = Arc::new(Declared([(MAC.parse::<Mac>().unwrap(), who)].into()));
        let (tell, ready) = mpsc::channel();
        let (kept, heard) = (journal.clone(), ear.clone());
        pair.serve(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                assert_eq!(address_on("s0", &subnets()).unwrap(), SERVER);
                let socket = bind("s0").unwrap();
                tell.send(()).unwrap();
                let server = Server::new(subnets(), serving(), &[], directory, kept, heard);
                serve(socket, server, Clock::system()).await;
            });
        });
        ready.recv_timeout(Duration::from_secs(10)).unwrap();
        // The client's script writes down what it was told, and sets the address so that unicast works.
        let script = folder.path().join("script");
        let lines = format!(
            "#!/bin/sh\n(echo \"event $1 $reason\"; env) >> {}/told\n\
            address=${{new_ip_address:-$ip}}\n\
            case \"$1$reason\" in bound|BOUND|REBOOT) ip addr add $address/24 dev c0;; esac\nexit 0\n",
            folder.path().display()
        );
        fs::write(&script, lines).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { pair, folder, journal, ear }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn dhclient(&self, more: &str) -> String {
        let place = |name: &str| self.path(name).display().to_string();
        let config = self.path("dhclient.conf");
        if !config.exists() {
            fs::write(&config, "timeout 10;\n").unwrap();
        }
        good(self.pair.client(&format!(
            "dhclient -4 {more} -cf {} -lf {} -pf {} -sf {} c0",
            config.display(),
            place("leases"),
            place("pid"),
            place("script")
        )))
    }

    fn udhcpc(&self, more: &str) -> String {
        let script = self.path("script").display().to_string();
        good(self.pair.client(&format!("busybox udhcpc -f -q -n -t 3 -T 2 -i c0 -s {script} {more}")))
    }

    fn told(&self) -> String {
        fs::read_to_string(self.path("told")).unwrap_or_default()
    }

    /// Waits for the server to have heard something that is `wanted`.
    fn heard(&self, wanted: impl Fn(&str, &Said) -> bool) {
        for _ in 0..200 {
            if self.ear.heard.lock().unwrap().iter().any(|h| wanted(h.message, &h.said)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{:?}", self.ear.heard.lock().unwrap());
    }
}

fn reserved(last: u8) -> Who {
    let address = Some(Ipv4Addr::new(10, 88, 0, last));
    Who::Known { name: "alpha".parse().unwrap(), address, netboot: true }
}

fn exists(program: &str) {
    let there =
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|f| Path::new(f).join(program).exists());
    assert!(there, "{program} is needed by this test (Debian: isc-dhcp-client, busybox, iproute2)");
}

#[test]
fn dhclient_leases_reboots_and_releases() {
    exists("dhclient");
    let net = Net::new(reserved(42));
    net.dhclient("-1 -v");
    let told = net.told();
    assert!(
        told.contains("new_ip_address=10.88.0.42") && told.contains("new_subnet_mask=255.255.255.0"),
        "{told}"
    );
    assert!(told.contains("new_dhcp_lease_time=3600"), "{told}");
    // `-x` ends the client without a word; with its lease file it then comes as INIT-REBOOT.
    net.dhclient("-x");
    let before = net.ear.heard.lock().unwrap().len();
    net.dhclient("-1 -v");
    let again = net.ear.heard.lock().unwrap()[before..].to_vec();
    let acknowledged = |h: &&Heard| h.message == "request" && matches!(h.said, Said::Ack { .. });
    assert!(!again.is_empty() && again.iter().filter(acknowledged).count() == again.len(), "{again:?}");
    net.dhclient("-r");
    net.heard(|message, _| message == "release");
    let records = net.journal.records.lock().unwrap();
    assert!(
        matches!(records.last(), Some(LeaseRecord::Ended { ip, .. }) if ip.octets()[3] == 42),
        "{records:?}"
    );
}

#[test]
fn udhcpc_as_a_boot_rom_is_told_its_boot_file() {
    exists("busybox");
    let net = Net::new(reserved(42));
    net.udhcpc("-V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007 -O bootfile -O tftp");
    let told = net.told();
    for line in
        ["ip=10.88.0.42", "boot_file=snponly.efi", "siaddr=10.88.0.1", "tftp=10.88.0.1", "serverid=10.88.0.1"]
    {
        assert!(told.lines().any(|l| l == line), "{line} in {told}");
    }
    net.heard(|message, said| message == "request" && matches!(said, Said::Ack { .. }));
}

#[test]
fn udhcpc_unknown_gets_a_pool_address_and_nothing_to_boot() {
    exists("busybox");
    let net = Net::new(Who::Unknown { netboot: false });
    net.udhcpc("-V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007 -O bootfile");
    let told = net.told();
    assert!(told.lines().any(|l| l.starts_with("ip=10.88.0.1")), "{told}");
    assert!(!told.contains("boot_file=") && !told.contains("siaddr=10"), "{told}");
}

#[test]
fn a_client_that_asks_for_an_address_of_elsewhere_is_corrected() {
    exists("busybox");
    let net = Net::new(reserved(42));
    net.udhcpc("-r 192.168.77.5");
    assert!(net.told().lines().any(|l| l == "ip=10.88.0.42"));
}

/// A DISCOVER as a frame, with the flags that are given; prints where the answer's frame and packet are addressed to, and
/// whether the server asked for the client by ARP.
const FRAMES: &str = r#"
import socket, struct, sys
mac = bytes.fromhex("525400000042")
bootp = struct.pack("!4BIHH", 1, 1, 6, 0, 7, 0, int(sys.argv[1], 16)) + bytes(16) + mac + bytes(202)
bootp += bytes([99, 130, 83, 99, 53, 1, 1, 255])
udp = struct.pack("!4H", 68, 67, 8 + len(bootp), 0) + bootp
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
total = sum(struct.unpack("!10H", head))
total = (total & 0xffff) + (total >> 16)
head = head[:10] + struct.pack("!H", 0xffff - total) + head[12:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("c0", 0))
s.settimeout(10)
s.send(b"\xff" * 6 + mac + b"\x08\x00" + head + udp)
asked = 0
while True:
    frame, sender = s.recvfrom(2000)
    if sender[2] == 4:
        continue
    asked += frame[12:14] == b"\x08\x06"
    if frame[12:14] == b"\x08\x00" and frame[36:38] == b"\x00\x44":
        print(frame[:6].hex(), socket.inet_ntoa(frame[30:34]), asked)
        break
"#;

#[test]
fn a_client_without_an_address_is_answered_by_unicast_without_arp() {
    let net = Net::new(reserved(42));
    let script = net.path("frames.py");
    fs::write(&script, FRAMES).unwrap();
    let told = |flags: &str| {
        let line = format!("python3 {} {flags}", script.display());
        good(net.pair.client(&line)).trim().to_owned()
    };
    assert_eq!(told("0"), "525400000042 10.88.0.42 0");
    assert_eq!(told("8000"), "ffffffffffff 255.255.255.255 0", "it wants a broadcast");
}
