//! Router advertisements over a real link: a solicitation is answered at once, with nothing to configure
//! but what DHCPv6 needs.

use super::namespace::{Pair, good};
use provisioner::dhcp::advertise::{Advertised, serve, serve_as};
use std::{future::Future, sync::mpsc, time::Duration};

/// Sends a router solicitation and prints the first advertisement: who from, hop limit, bytes.
const SOLICIT: &str = r#"
import socket, struct, sys, time
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex("c0")
s.settimeout(0.5)
end = time.time() + 15
while time.time() < end:
    try:
        # Until the link-local addresses are confirmed as unique, nothing can be sent.
        s.sendto(bytes([133, 0, 0, 0, 0, 0, 0, 0]), ("ff02::2", 0, 0, index))
        while True:
            data, more, _, sender = s.recvmsg(1500, 100)
            if data[0] == 134:
                print(sender[0].split("%")[0][:4], struct.unpack("i", more[0][2])[0], data[:2].hex(), data[4:].hex())
                sys.exit(0)
    except OSError:
        time.sleep(0.1)
sys.exit("no advertisement")
"#;

/// The first advertisement to a solicitation on a link where `serve` runs.
fn advertised<F: Future<Output = ()>>(serve: impl FnOnce() -> F + Send + 'static) -> String {
    let pair = Pair::new("52:54:00:00:00:43");
    let (tell, ready) = mpsc::channel();
    pair.serve(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tell.send(()).unwrap();
        runtime.block_on(serve());
    });
    ready.recv_timeout(Duration::from_secs(10)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("solicit.py");
    std::fs::write(&script, SOLICIT).unwrap();
    good(pair.client(&format!("python3 {}", script.display()))).trim().to_owned()
}

#[test]
fn a_solicitation_is_answered_with_an_advertisement_of_nothing() {
    // From a link-local address, one hop, type 134 code 0; hop limit, flags, lifetime and timers all zero.
    assert_eq!(advertised(|| serve("s0".to_owned())), "fe80 255 8600 000000000000000000000000");
}

#[test]
fn where_dhcpv6_is_served_the_flags_say_so_and_the_prefix_is_on_the_link() {
    let said = Advertised { managed: true, other: true, on_link: Some("fd88::/64".parse().unwrap()) };
    let told = advertised(move || serve_as("s0".to_owned(), said));
    // Flags M and O, router lifetime 0; prefix: L without A, an hour, fd88::/64.
    let expected = "fe80 255 8600 00c000000000000000000000\
                    0304408000000e1000000e1000000000fd880000000000000000000000000000";
    assert_eq!(told, expected);
}
