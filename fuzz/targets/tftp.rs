//! TFTP: any first packet, then a transfer that hears any packets and silences.

use bytes::Bytes;
use provisioner::tftp::{
    request::ReadRequest,
    transfer::{Begun, Next, Transfer, error},
};
use std::time::Duration;

static FILE: [u8; 100_000] = [7; 100_000];
/// What path MTU 1500 carries of a UDP payload.
const PACKET_MAX: usize = 1472;
/// In flight, at most.
const WINDOW_MAX: usize = 64;

/// The whole input is the first packet; its end, in pieces of four, is what comes afterwards.
pub fn run(data: &[u8]) {
    let request = match ReadRequest::read(data) {
        Ok(request) => request,
        Err((name, refusal)) => {
            assert!(name.is_none_or(|name| name.len() <= 1024), "a name without a bound");
            assert!(error(refusal.code, refusal.message).len() < 64, "a refusal that amplifies");
            return;
        }
    };
    let mut now = Duration::ZERO;
    let Begun::Transfer(mut transfer, first) =
        Transfer::begin(Bytes::from_static(&FILE), &request.options, now)
    else {
        return;
    };
    check(&first);
    assert!(first.len() == 1, "more than one packet before the client was heard");
    for chunk in data.rchunks(4) {
        let next = match chunk {
            [a, b, c, kind] if kind % 4 == 0 => transfer.hear(&[0, 4, a ^ c, *b], now),
            [.., kind] if kind % 4 == 1 => transfer.silence(),
            // The blocks that such a short input reaches by itself.
            [_, _, low, _] => transfer.hear(&[0, 4, 0, low % 80], now),
            other => transfer.hear(other, now),
        };
        assert!(transfer.patience() <= Duration::from_secs(60), "{:?} of patience", transfer.patience());
        match next {
            Next::Send(packets) => check(&packets),
            Next::Nothing => {}
            Next::Complete | Next::Aborted(_) | Next::Silent => return,
        }
        now += Duration::from_millis(u64::from(chunk[0]));
    }
}

fn check(packets: &[Vec<u8>]) {
    assert!(packets.len() <= WINDOW_MAX, "{} packets at once", packets.len());
    for packet in packets {
        assert!((2..=PACKET_MAX).contains(&packet.len()), "a packet of {} bytes", packet.len());
    }
}
