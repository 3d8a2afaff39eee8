//! The real agent with caches before its server: honest, dead, and lying ones. The disk is the image in any case.

use super::{
    chunks::plan,
    machine::{DISK_BYTES, Machine, disk_image},
    server::{Lie, Plan, Server},
};
use crate::fleet::cache_before;
use provisioner_agent::run::Ended;
use provisioner_wire::order::{Order, Outcome};

/// The plan with these caches in its order.
fn through(raw: &[u8], caches: &[&str]) -> Plan {
    let mut plan = plan(raw);
    let Some(Order::WriteImage(write)) = plan.orders.first_mut() else { unreachable!() };
    write.image.chunks.as_mut().unwrap().caches = caches.iter().map(|c| format!("{c}/images")).collect();
    plan
}

/// Installs; requests that the server itself answered.
fn install(raw: &[u8], plan: Plan) -> usize {
    let machine = Machine::new();
    let server = Server::start(plan);
    let ended = machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    assert_eq!(ended, Ended::Reboot("the plan is done".into()));
    let seen = server.seen.lock().unwrap();
    assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
    assert!(machine.disk() == raw, "the disk is not the image");
    seen.image_requests
}

fn requests(server: &Server) -> usize {
    server.seen.lock().unwrap().image_requests
}

#[test]
fn two_machines_behind_a_cache_cost_the_server_one_image() {
    let raw = disk_image(DISK_BYTES, 21);
    let upstream = Server::start(plan(&raw));
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cache = runtime.block_on(cache_before(&upstream.address, folder.path(), 1 << 30));
    // This server closes each connection after its answer and does not say so: the cache asks again.
    assert_eq!(install(&raw, through(&raw, &[&cache])), 0);
    let once = requests(&upstream);
    assert!(once >= plan(&raw).pieces.len());
    assert_eq!(install(&raw, through(&raw, &[&cache])), 0);
    assert_eq!(requests(&upstream), once, "the second machine cost the server something");
    // The server goes away; what the cache has is enough for a third.
    drop(upstream);
    assert_eq!(install(&raw, through(&raw, &[&cache])), 0);
}

#[test]
fn a_cache_that_lies_is_left_out_and_the_server_asked() {
    let raw = disk_image(DISK_BYTES, 22);
    let whole = plan(&raw).pieces.len();
    for lie in [Lie::Flip(20), Lie::Status(404), Lie::Silent, Lie::Longer(5), Lie::CutAfter(10), Lie::Encoded]
    {
        let liar = Server::start(Plan { then: lie, ..plan(&raw) });
        assert_eq!(install(&raw, through(&raw, &[&liar.address])), whole, "{lie:?}");
        // Sixteen workers may be on their way to it when it fails for the third time.
        assert!(requests(&liar) <= 3 + 16, "{lie:?}: {} requests", requests(&liar));
    }
    // Nobody listens there.
    assert_eq!(install(&raw, through(&raw, &["http://127.0.0.1:9"])), whole);
}

#[test]
fn a_good_cache_behind_a_bad_one_is_used() {
    let raw = disk_image(DISK_BYTES, 23);
    let liar = Server::start(Plan { then: Lie::Flip(20), ..plan(&raw) });
    let good = Server::start(plan(&raw));
    assert_eq!(install(&raw, through(&raw, &[&liar.address, &good.address])), 0);
    assert_eq!(requests(&good), plan(&raw).pieces.len());
}
