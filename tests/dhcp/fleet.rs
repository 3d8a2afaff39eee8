//! Two hundred machines powered on at once, against the real server program: DHCP, TFTP, boot script, claim; none is
//! lost. `cargo xtask bench storm` does the same with a thousand.

use super::namespace::{Pair, good};
use provisioner_lab::{
    fleet::{self, Plan, Site},
    process::Daemon,
};
use std::{net::Ipv4Addr, path::Path, time::Duration};

const MACHINES: u16 = 200;
/// What the machines may be leased, which the clients' namespace takes for its own.
const LOCAL: [&str; 4] = ["10.88.0.32/27", "10.88.0.64/26", "10.88.0.128/26", "10.88.0.192/26"];

#[test]
fn two_hundred_machines_at_once_all_claim() {
    let pair = Pair::new("52:54:00:fe:00:01");
    good(pair.client("ip addr add 10.88.0.2/24 dev c0"));
    good(pair.client("ip route add default dev c0"));
    good(pair.client("ip link set lo up"));
    for network in LOCAL {
        good(pair.client(&format!("ip route add local {network} dev lo")));
    }
    let folder = tempfile::tempdir().unwrap();
    let site = Site::write(
        folder.path(),
        &Plan {
            machines: MACHINES,
            interface: "s0",
            server: Ipv4Addr::new(10, 88, 0, 1),
            network: "10.88.0.0/24",
            pool: [Ipv4Addr::new(10, 88, 0, 32), Ipv4Addr::new(10, 88, 0, 254)],
            templates: &Path::new(env!("CARGO_MANIFEST_DIR")).join("templates"),
        },
    )
    .unwrap();
    let program = || pair.in_server(env!("CARGO_BIN_EXE_provisioner"));
    let mut server =
        Daemon::start("provisioner serve", &mut site.serving(program()), &folder.path().join("log")).unwrap();
    server.wait_ready(Duration::from_secs(60), || site.answers(&program)).unwrap();
    site.provision_all(&program).unwrap();
    let ended = pair.among_clients(|| fleet::boot(MACHINES, "c0")).unwrap();
    let lost: Vec<String> =
        ended.iter().filter_map(|end| end.as_ref().err().map(|e| format!("{e:#}"))).collect();
    let log = std::fs::read_to_string(server.log()).unwrap_or_default();
    assert!(lost.is_empty(), "{} of {MACHINES} lost: {:?}\n{log}", lost.len(), lost.first());
    assert_eq!(ended.len(), usize::from(MACHINES));
    server.must_run().unwrap();
}
