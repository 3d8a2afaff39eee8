//! An image in chunks, through every fault of the network: the disk ends byte-identical, or cannot boot.

use super::{
    machine::{DISK_BYTES, Machine, could_boot, disk_image},
    server::{Lie, Plan, Server, write_order},
};
use provisioner_agent::run::Ended;
use provisioner_wire::{
    chunks::{Chunk, Chunks, Manifest, Sha},
    order::{ImageFormat, Order, Outcome, ReadBack, path},
};
use std::collections::HashMap;

const CHUNK: u32 = 64 << 10;

/// The manifest, and everything that is served, by path.
fn taken_apart(raw: &[u8]) -> (Manifest, HashMap<String, Vec<u8>>) {
    let mut pieces = HashMap::new();
    let chunks = raw.chunks(CHUNK as usize).map(|piece| {
        piece.iter().any(|b| *b != 0).then(|| {
            let bytes = zstd::bulk::compress(piece, 1).unwrap();
            let (packed, packed_bytes) = (Sha::of(&bytes), u32::try_from(bytes.len()).unwrap());
            pieces.insert(format!("/images/chunks/{packed}"), bytes);
            Chunk { packed, packed_bytes, raw: Sha::of(piece) }
        })
    });
    let manifest = Manifest { raw_bytes: raw.len() as u64, chunk_bytes: CHUNK, chunks: chunks.collect() };
    pieces.insert(format!("/images/manifests/{}", manifest.root()), manifest.to_bytes());
    (manifest, pieces)
}

fn order(raw: &[u8], manifest: &Manifest) -> Order {
    let Order::WriteImage(mut write) = write_order(raw, raw, ImageFormat::Raw) else { unreachable!() };
    write.image.chunks =
        Some(Chunks { root: manifest.root().to_string(), base: "/images".into(), caches: vec![] });
    Order::WriteImage(write)
}

pub(super) fn plan(raw: &[u8]) -> Plan {
    let (manifest, pieces) = taken_apart(raw);
    Plan { orders: vec![order(raw, &manifest)], pieces, ..Plan::default() }
}

/// Installs; the disk must be the image to the last byte. Returns requests answered and bytes sent.
fn install(raw: &[u8], plan: Plan) -> (usize, u64) {
    let machine = Machine::new();
    let server = Server::start(plan);
    let ended = machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    assert_eq!(ended, Ended::Reboot("the plan is done".into()));
    let seen = server.seen.lock().unwrap();
    assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
    assert!(machine.disk() == raw, "the disk is not the image");
    assert_eq!((seen.spent.len(), seen.unsigned), (1, 0));
    (seen.image_requests, seen.image_bytes)
}

/// The reason of the failure; the disk must not boot then.
fn fails(plan: Plan) -> (String, usize) {
    let machine = Machine::new();
    let server = Server::start(plan);
    machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    let seen = server.seen.lock().unwrap();
    let Outcome::Failed { reason } = &seen.results[0].outcome else { panic!("{:?}", seen.results) };
    assert!(seen.spent.is_empty() || !could_boot(&machine.disk()), "{reason}");
    (reason.clone(), seen.spent.len())
}

#[test]
fn a_thousand_cuts_at_random_places() {
    let raw = disk_image(DISK_BYTES, 1);
    let mut random = fastrand::Rng::with_seed(1000);
    let whole = plan(&raw);
    let total: u64 = whole.pieces.values().map(|bytes| bytes.len() as u64).sum();
    let lies = (0..1000).map(|_| Lie::CutAfter(random.u64(1..u64::from(CHUNK / 8)))).collect();
    let (requests, sent) = install(&raw, Plan { lies, ..whole });
    assert!(requests > 1000, "{requests}: not every cut was made");
    // What was in the sockets' buffers when a connection was cut may be sent again, and nothing else.
    assert!(sent < 2 * total, "{sent} bytes sent for {total}");
}

#[test]
fn other_faults_that_pass_are_borne() {
    let raw = disk_image(DISK_BYTES, 2);
    let mut random = fastrand::Rng::with_seed(7);
    let lies = (0..300).map(|_| match random.u8(0..12) {
        0 => Lie::Status(503),
        1 => Lie::Silent,
        2 => Lie::Flip(random.u64(0..20_000)),
        3 => Lie::Whole(random.u64(0..u64::from(CHUNK))),
        4 => Lie::CutAt(0),
        _ => Lie::None,
    });
    let lies = lies.collect();
    install(&raw, Plan { lies, ..plan(&raw) });
}

#[test]
fn faults_that_do_not_pass_are_told_and_the_disk_does_not_boot() {
    let raw = disk_image(DISK_BYTES, 3);
    let after = |count: usize, then| Plan { lies: vec![Lie::None; count], then, ..plan(&raw) };
    for (plan, expected) in [
        (after(9, Lie::Flip(100)), "its SHA-256 is"),
        (after(9, Lie::Status(404)), "status 404"),
        (after(9, Lie::Silent), "no byte after"),
        (after(9, Lie::Longer(5)), "bytes, but the image is declared with"),
        (after(9, Lie::Encoded), "re-encoded"),
    ] {
        let (reason, spent) = fails(plan);
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(spent, 1);
    }
}

#[test]
fn a_manifest_that_is_not_the_ordered_one_costs_no_licence() {
    let raw = disk_image(DISK_BYTES, 4);
    let (manifest, mut pieces) = taken_apart(&raw);
    let path = format!("/images/manifests/{}", manifest.root());
    let other = taken_apart(&disk_image(DISK_BYTES, 5)).0;
    for bytes in [other.to_bytes(), b"nothing of the kind".to_vec(), Vec::new()] {
        pieces.insert(path.clone(), bytes);
        let plan = Plan { orders: vec![order(&raw, &manifest)], pieces: pieces.clone(), ..Plan::default() };
        let machine = Machine::new();
        let old = machine.disk();
        let server = Server::start(plan);
        machine.run(&server.address, &server.key, &server.boot_id).unwrap();
        let seen = server.seen.lock().unwrap();
        assert!(matches!(&seen.results[0].outcome, Outcome::Failed { .. }), "{:?}", seen.results);
        assert!(seen.spent.is_empty() && machine.disk() == old, "the disk was touched");
    }
}

#[test]
fn a_second_boot_fetches_what_is_missing() {
    let raw = disk_image(DISK_BYTES, 6);
    let machine = Machine::new();
    let whole = plan(&raw);
    let total: u64 = whole.pieces.values().map(|bytes| bytes.len() as u64).sum();
    // The first boot ends in the middle; its licence was spent.
    let first = Plan { lies: vec![Lie::None; 60], then: Lie::Status(404), ..plan(&raw) };
    let server = Server::start(first);
    machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    drop(server);
    let server = Server::start(whole);
    server.seen.lock().unwrap().spent.push(provisioner_wire::order::SpendLicence {
        generation: super::server::GENERATION,
        licence: provisioner_wire::order::LicenceId(uuid::Uuid::from_u128(1)),
        disks: vec![Machine::identity()],
    });
    machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
    assert!(machine.disk() == raw && seen.image_bytes < total * 3 / 4, "{} of {total}", seen.image_bytes);
}

/// Sampled or full, with the server's challenge.
fn proven(raw: &[u8], read_back: ReadBack) -> Plan {
    let (manifest, pieces) = taken_apart(raw);
    let Order::WriteImage(mut write) = order(raw, &manifest) else { unreachable!() };
    write.read_back = Some(read_back);
    let proven = Some((raw.to_vec(), manifest));
    Plan { orders: vec![Order::WriteImage(write)], pieces, proven, ..Plan::default() }
}

#[test]
fn the_server_asks_before_the_disk_can_boot() {
    for read_back in [ReadBack::Sampled, ReadBack::Full] {
        let raw = disk_image(DISK_BYTES, 6);
        let machine = Machine::new();
        let disk = Some(machine.root.path().join("dev/vda"));
        let server = Server::start(Plan { disk, ..proven(&raw, read_back) });
        machine.run(&server.address, &server.key, &server.boot_id).unwrap();
        let seen = server.seen.lock().unwrap();
        assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
        assert!(machine.disk() == raw, "the disk is not the image");
        let then = seen.at_challenge.as_ref().unwrap();
        assert!(!could_boot(then), "it could boot before it was proven");
        let body = 1 << 20..DISK_BYTES - (1 << 20);
        assert!(then[body.clone()] == raw[body], "it was not all there when the server asked");
        assert_eq!(seen.proofs.len(), 1);
    }
}

#[test]
fn what_the_server_does_not_accept_does_not_boot() {
    let raw = disk_image(DISK_BYTES, 7);
    let mut plan = proven(&raw, ReadBack::Sampled);
    // As far as the agent can tell nothing is wrong: the server has another image under this name.
    if let Some((known, _)) = &mut plan.proven {
        known[1 << 20..DISK_BYTES / 2].fill(0xaa);
    }
    let (reason, spent) = fails(plan);
    assert!(reason.contains("not accepted") && reason.contains("the disk lies"), "{reason}");
    assert_eq!(spent, 1);
}

#[test]
fn a_server_that_is_away_when_it_should_ask_is_waited_for() {
    let raw = disk_image(DISK_BYTES, 8);
    let mut plan = proven(&raw, ReadBack::Sampled);
    plan.refuse = HashMap::from([(path::CHALLENGE, (3, 503)), (path::READ_BACK, (2, 0))]);
    install(&raw, plan);
    let mut over = proven(&raw, ReadBack::Sampled);
    over.refuse = HashMap::from([(path::CHALLENGE, (usize::MAX, 410))]);
    let machine = Machine::new();
    let server = Server::start(over);
    let ended = machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    assert!(matches!(&ended, Ended::Reboot(why) if why.contains("410")), "{ended:?}");
    assert!(!could_boot(&machine.disk()));
}
