//! Real clients over a real link: ISC dhclient, dhcpcd, and ISC dhcrelay between them and the real sockets.

use super::house::{Declared, Ear, Journal, MAC, Machines, SERVER, STATEFUL, ip, served, serving};
use crate::dhcp::namespace::{Pair, good};
use provisioner::{
    clock::Clock,
    dhcp::v6::{
        Heard, LeaseRecord, Said,
        config::Mode,
        lease::Owner,
        server::Server,
        sockets::{Sockets, address_on, serve},
    },
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tempfile::TempDir;

struct Net {
    pair: Pair,
    folder: TempDir,
    journal: Arc<Journal>,
    ear: Arc<Ear>,
}

fn here(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    good(output);
}

impl Net {
    /// A server that knows the client as `alpha`, with a reservation for fd88::42.
    fn new(mode: Mode) -> Self {
        let (pair, folder) = (Pair::new(&MAC.to_string()), tempfile::tempdir().unwrap());
        let (journal, ear) = (Arc::new(Journal::default()), Arc::new(Ear::default()));
        let alpha = Declared { name: "alpha", address: Some(ip(0x42)), uuid: None };
        let directory = Arc::new(Machines([(MAC, alpha)].into()));
        let (tell, ready) = mpsc::channel();
        let (kept, heard) = (journal.clone(), ear.clone());
        pair.serve(move || {
            here("ip addr add fd88::1/64 dev s0 nodad");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut served = served(STATEFUL);
                served.mode = mode;
                assert_eq!(address_on(&served).unwrap(), SERVER);
                let sockets = Sockets::bind("s0").unwrap();
                tell.send(()).unwrap();
                let server = Server::new(served, serving(), &[], directory, kept, heard);
                serve(sockets, server, Clock::system()).await;
            });
        });
        ready.recv_timeout(Duration::from_secs(10)).unwrap();
        let net = Self { pair, folder, journal, ear };
        net.write("told", "");
        // The client's script writes down what it was told, and sets the address as the real one does.
        let told = net.path("told").display().to_string();
        let lines = format!(
            "#!/bin/sh\n(echo \"event $reason\"; env) >> {told}\n\
             case \"$reason\" in BOUND6|REBIND6|RENEW6) ip -6 addr replace $new_ip6_address/64 dev $interface nodad;; esac\n\
             case \"$reason\" in RELEASE6|EXPIRE6) ip -6 addr del $old_ip6_address/64 dev $interface;; esac\nexit 0\n"
        );
        net.write("script", &lines);
        // Up, with its link-local address settled: nothing can be sent before.
        net.write(
            "up",
            "#!/bin/sh\nset -e\necho 0 > /proc/sys/net/ipv6/conf/$1/accept_dad\nip link set $1 down\n\
             ip link set $1 up\nfor i in $(seq 100); do\n  ip -6 addr show dev $1 scope link -tentative | grep -q fe80 \
             && exit 0\n  sleep 0.05\ndone\nexit 0\n",
        );
        net.write("dhclient.conf", "timeout 20;\nalso request dhcp6.bootfile-url;\n");
        good(net.pair.client(&format!("{} c0", net.path("up").display())));
        net
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// dhclient's command line without the interface.
    fn dhclient_line(&self, more: &str) -> String {
        let place = |name: &str| self.path(name).display().to_string();
        format!(
            "dhclient -6 {more} -cf {} -lf {} -pf {} -sf {}",
            place("dhclient.conf"),
            place("leases"),
            place("pid"),
            place("script")
        )
    }

    fn dhclient(&self, more: &str) -> String {
        good(self.pair.client(&format!("{} c0", self.dhclient_line(more))))
    }

    fn told(&self) -> String {
        fs::read_to_string(self.path("told")).unwrap_or_default()
    }

    fn heard(&self, wanted: impl Fn(&Heard) -> bool) {
        for _ in 0..200 {
            if self.ear.heard.lock().unwrap().iter().any(&wanted) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{:#?}\n{:?}", self.ear.heard.lock().unwrap(), self.ear.malformed.lock().unwrap());
    }
}

fn exists(program: &str) {
    let there =
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|f| Path::new(f).join(program).exists());
    assert!(there, "{program} is needed by this test (Debian: isc-dhcp-client, isc-dhcp-relay, dhcpcd-base)");
}

#[test]
fn dhclient_leases_confirms_and_releases() {
    exists("dhclient");
    let net = Net::new(Mode::Stateful);
    net.dhclient("-1 -v");
    let told = net.told();
    assert!(told.contains("new_ip6_address=fd88::42"), "{told}");
    assert!(told.contains("new_dhcp6_name_servers=fd88::1"), "{told}");
    net.heard(|h| h.message == "request" && matches!(h.said, Said::Reply { ip: Some(_), .. }));
    // `-x` ends the client without a word; with its lease file it then comes as CONFIRM.
    net.dhclient("-x");
    net.dhclient("-1 -v");
    net.heard(|h| h.message == "confirm" && h.machine.is_some());
    net.dhclient("-r -v");
    net.heard(|h| h.message == "release");
    let records = net.journal.records.lock().unwrap();
    assert!(
        matches!(records.last(), Some(LeaseRecord::Ended { ip, owner: Owner::Mac(MAC) }) if *ip == self::ip(0x42)),
        "{records:?}"
    );
}

#[test]
fn dhclient_that_asks_for_information_only_gets_it() {
    exists("dhclient");
    let net = Net::new(Mode::Stateless);
    net.dhclient("-1 -v -S");
    let told = net.told();
    assert!(told.contains("new_dhcp6_name_servers=fd88::1") && !told.contains("new_ip6_address"), "{told}");
    net.heard(|h| h.message == "information-request");
    assert!(net.journal.records.lock().unwrap().is_empty());
}

#[test]
fn dhcpcd_takes_the_lease_at_once() {
    exists("dhcpcd");
    let net = Net::new(Mode::Stateful);
    net.write("dhcpcd.conf", "duid\nnoipv6rs\noption rapid_commit\ninterface c0\nia_na\n");
    let script = format!(
        "#!/bin/sh\nmount -t tmpfs tmpfs /run\nmount -t tmpfs tmpfs /var/lib/dhcpcd\n\
         exec dhcpcd -6 -1 -B -d -t 20 -f {} -c /bin/true c0\n",
        net.path("dhcpcd.conf").display()
    );
    net.write("dhcpcd", &script);
    let shown = net.pair.client(&format!("unshare --mount {}", net.path("dhcpcd").display()));
    let shown = String::from_utf8_lossy(&shown.stderr).into_owned();
    net.heard(|h| h.message == "solicit" && matches!(h.said, Said::Reply { ip: Some(_), .. }));
    assert!(shown.contains("fd88::42"), "{shown}");
}

#[test]
fn dhcrelay_brings_a_machine_of_another_link() {
    exists("dhcrelay");
    let net = Net::new(Mode::Stateful);
    // c0's namespace is the relay's; behind it is a third one with the machine.
    let script = format!(
        "#!/bin/sh\nset -e\nip -6 addr add fd88::2/64 dev c0 nodad\n\
         unshare --net sleep 60 &\nmachine=$!\n\
         ip link add r0 type veth peer name e0 address 52:54:00:07:07:07\n\
         {up} r0\nip -6 addr add fd99::1/64 dev r0 nodad\n\
         for i in $(seq 100); do ip link set e0 netns $machine 2>/dev/null && break; sleep 0.02; done\n\
         nsenter --target $machine --net {up} e0\n\
         dhcrelay -6 -d -I --no-pid -l fd99::1%r0 -u fd88::1%c0 >{folder}/relay.log 2>&1 &\nrelay=$!\n\
         sleep 0.5\n\
         nsenter --target $machine --net {dhclient} e0 || {{ cat {folder}/relay.log; kill $relay $machine; exit 1; }}\n\
         kill $relay $machine\n",
        up = net.path("up").display(),
        folder = net.folder.path().display(),
        dhclient = net.dhclient_line("-1 -v"),
    );
    net.write("site", &script);
    good(net.pair.client(&net.path("site").display().to_string()));
    let told = net.told();
    assert!(told.contains("new_ip6_address=fd99::1"), "{told}");
    net.heard(|h| h.message == "request" && h.relay == Some("fd99::1".parse().unwrap()));
}
