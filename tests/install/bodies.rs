//! Every other fault of an image body: the step fails with that reason, and the disk cannot boot.

use super::{
    machine::{DISK_BYTES, Machine, could_boot, disk_image},
    server::{Lie, Plan, Server, write_order},
};
use provisioner_agent::run::Ended;
use provisioner_wire::order::{ImageFormat, Order, Outcome};
use std::io::Write;

/// Runs to the end and gives the reason of the failure. The disk must not be able to boot.
fn failure(plan: Plan) -> String {
    let machine = Machine::new();
    let server = Server::start(Plan { disk: Some(machine.root.path().join("dev/vda")), ..plan });
    assert!(could_boot(&machine.disk()), "the test needs an old system");
    let ended = machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    assert!(matches!(ended, Ended::Reboot(_)));
    let seen = server.seen.lock().unwrap();
    let Outcome::Failed { reason } = &seen.results[0].outcome else { panic!("{:?}", seen.results) };
    assert_eq!(machine.failures.lock().unwrap().as_slice(), std::slice::from_ref(reason));
    assert!(!could_boot(&machine.disk()), "it could boot after: {reason}");
    assert!(could_boot(seen.at_licence.as_ref().unwrap()), "written to before the licence was spent");
    reason.clone()
}

fn plan(lie: Lie) -> Plan {
    let raw = disk_image(DISK_BYTES / 2, 3);
    Plan { orders: vec![write_order(&raw, &raw, ImageFormat::Raw)], image: raw, then: lie, ..Plan::default() }
}

#[test]
fn a_lying_body_fails_with_its_reason() {
    let half = DISK_BYTES as u64 / 4;
    for (lies, then, reason) in [
        (vec![], Lie::CutAt(half), "Peer disconnected"),
        (vec![], Lie::StallAt(half), "timeout"),
        (vec![], Lie::Flip(half), "its SHA-256 is"),
        (vec![], Lie::Longer(1), "it has 8388609 bytes, but the image is declared with 8388608"),
        (vec![], Lie::Shorter(1), "it has 8388607 bytes, but the image is declared with 8388608"),
        (vec![], Lie::Status(404), "status 404"),
        (vec![], Lie::Status(500), "status 500"),
        (vec![], Lie::Encoded, "re-encoded as gzip"),
        (vec![], Lie::NoLength, "no Content-Length"),
        (vec![], Lie::Silent, "no byte after 0 of 8388608"),
        (vec![Lie::CutAt(half)], Lie::Shifted(512), "it sent the range"),
        (vec![Lie::CutAt(half)], Lie::Changed, "was changed while it was fetched"),
    ] {
        let failed = failure(Plan { lies, ..plan(then) });
        assert!(failed.contains(reason), "{then:?}: {failed}");
        assert!(failed.contains("/image/debian") && failed.contains("lab-disk-1"), "{failed}");
    }
}

#[test]
fn what_does_not_fit_its_declaration_is_refused() {
    let raw = disk_image(DISK_BYTES / 2, 4);
    let packed = zstd::encode_all(raw.as_slice(), 1).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&raw).unwrap();
    let gz = gz.finish().unwrap();
    let appended = [packed.as_slice(), b"tail"].concat();
    let cut = &packed[..packed.len() / 2];
    let changed = |change: fn(&mut provisioner_wire::order::Image)| {
        let mut order = write_order(&raw, &packed, ImageFormat::Zst);
        if let Order::WriteImage(write) = &mut order {
            change(&mut write.image);
        }
        order
    };
    for (order, image, reason) in [
        (
            write_order(&raw, &packed, ImageFormat::Gz),
            packed.clone(),
            "declared as gz but its first bytes are zst's",
        ),
        (
            write_order(&raw, &gz, ImageFormat::Raw),
            gz.clone(),
            "declared as raw but its first bytes are gz's",
        ),
        (write_order(&raw, &appended, ImageFormat::Zst), appended.clone(), "the zst stream is damaged"),
        (write_order(&raw, cut, ImageFormat::Zst), cut.to_vec(), "the zst stream is damaged"),
        (changed(|i| i.raw_sha256 = Some("00".repeat(32))), packed.clone(), "unpacked its SHA-256 is"),
        (changed(|i| i.raw_size_bytes = Some(512)), packed.clone(), "larger than 512 bytes"),
        (changed(|i| i.raw_size_bytes = Some(9 << 20)), packed.clone(), "declared with 9437184"),
        (changed(|i| i.sha256 = "00".repeat(32)), packed.clone(), "its SHA-256 is"),
    ] {
        let failed = failure(Plan { orders: vec![order], image, ..Plan::default() });
        assert!(failed.contains(reason), "{failed}");
    }
}

#[test]
fn an_image_that_unpacks_past_the_disk_is_stopped() {
    let raw = vec![9; DISK_BYTES + 512];
    let packed = zstd::encode_all(raw.as_slice(), 1).unwrap();
    let mut order = write_order(&raw, &packed, ImageFormat::Zst);
    if let Order::WriteImage(write) = &mut order {
        write.image.raw_size_bytes = None;
        write.image.raw_sha256 = None;
    }
    let failed = failure(Plan { orders: vec![order], image: packed, ..Plan::default() });
    assert!(failed.contains("larger than 16777216 bytes"), "{failed}");
}
