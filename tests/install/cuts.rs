//! A connection may be cut anywhere, as often as it likes: the disk ends byte-identical and little is sent twice.

use super::{
    machine::{DISK_BYTES, Machine, disk_image},
    server::{Lie, Plan, Server, write_order},
};
use proptest::prelude::*;
use provisioner_agent::run::Ended;
use provisioner_wire::order::{ImageFormat, Outcome};

const IMAGE_BYTES: usize = DISK_BYTES;

/// Installs through `lies`, then the truth; the disk must be the image to the last byte. Returns bytes sent.
fn install(lies: Vec<Lie>, raw: &[u8], format: ImageFormat) -> u64 {
    let served = match format {
        ImageFormat::Zst => zstd::encode_all(raw, 1).unwrap(),
        _ => raw.to_vec(),
    };
    let machine = Machine::new();
    let order = write_order(raw, &served, format);
    let plan = Plan { orders: vec![order], image: served, lies, ..Plan::default() };
    let server = Server::start(plan);
    let ended = machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    assert_eq!(ended, Ended::Reboot("the plan is done".into()));
    let seen = server.seen.lock().unwrap();
    let Outcome::Done { read_back_sha256 } = &seen.results[0].outcome else { panic!("{:?}", seen.results) };
    assert_eq!(read_back_sha256.as_deref(), Some(super::server::sha256(raw).as_str()));
    assert!(machine.disk() == raw, "the disk is not the image");
    assert_eq!(seen.unsigned, 0);
    seen.image_bytes
}

#[test]
fn two_hundred_cuts_in_one_image() {
    let raw = disk_image(IMAGE_BYTES, 1);
    let lies = (1..=200).map(|n| Lie::CutAt(n * 83_886 + n % 7)).collect();
    let sent = install(lies, &raw, ImageFormat::Raw);
    // What was in the sockets' buffers when a connection was cut may be lost, no more.
    assert!(sent < 3 * IMAGE_BYTES as u64, "{sent} bytes sent for {IMAGE_BYTES}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 8, ..ProptestConfig::default() })]

    /// Cuts, silences, ignored ranges and refusals at random places.
    #[test]
    fn cuts_at_random_places(
        places in proptest::collection::vec((0u8..6, 0..IMAGE_BYTES as u64), 1..16),
        packed: bool,
    ) {
        let raw = disk_image(IMAGE_BYTES, 2);
        let format = if packed { ImageFormat::Zst } else { ImageFormat::Raw };
        let lies = places.iter().map(|(kind, at)| match kind {
            0 => Lie::Whole(*at),
            1 => Lie::Status(503),
            2 => Lie::Silent,
            _ => Lie::CutAt(*at),
        }).collect();
        install(lies, &raw, format);
    }
}
