//! TFTP: any first packet, then a transfer that hears any packets and silences.

use bytes::Bytes;
use provisioner::tftp::{
    request::Asked,
    transfer::{Burst, Next, Transfer, WINDOW_MAX},
};
use std::time::Duration;

static FILE: [u8; 100_000] = [7; 100_000];
const BLOCK_SIZE_MAX: u16 = 1468;
/// What path MTU 1500 carries of a UDP payload.
const PACKET_MAX: usize = 1472;

/// The whole input is the first packet; its end, in pieces of four, is what comes afterwards.
pub fn run(data: &[u8]) {
    let request = match Asked::read(data) {
        Asked::Read(request) => request,
        Asked::Refuse(name, refusal) => {
            assert!(name.is_none_or(|name| name.len() <= 1024), "a name without a bound");
            let told = Burst::error(refusal.code, refusal.message);
            assert!(told.bytes.len() < 64, "a refusal that amplifies");
            return;
        }
        Asked::Nothing => return,
    };
    let mut now = Duration::ZERO;
    let (mut transfer, first) = Transfer::begin(Bytes::from_static(&FILE), &request, BLOCK_SIZE_MAX, now);
    check(&first);
    assert!(first.packets().count() == 1, "more than one packet before the client was heard");
    for chunk in data.rchunks(4) {
        let next = match chunk {
            [a, b, c, kind] if kind % 4 == 0 => transfer.hear(&[0, 4, a ^ c, *b], now),
            [.., kind] if kind % 4 == 1 => {
                now = now.max(transfer.due());
                transfer.silence(now)
            }
            // The blocks that such a short input reaches by itself.
            [_, _, low, _] => transfer.hear(&[0, 4, 0, low % 80], now),
            other => transfer.hear(other, now),
        };
        match next {
            Next::Send(burst) => check(&burst),
            Next::Nothing => {}
            Next::Complete | Next::Aborted(_) | Next::Silent => return,
        }
        let wait = transfer.due().saturating_sub(now);
        assert!(wait <= Duration::from_secs(3600), "a client that is waited for {wait:?}");
        now += Duration::from_millis(u64::from(chunk[0]));
    }
}

fn check(burst: &Burst) {
    assert!(burst.packets().count() <= usize::from(WINDOW_MAX), "{} packets", burst.packets().count());
    for packet in burst.packets() {
        assert!((2..=PACKET_MAX).contains(&packet.len()), "a packet of {} bytes", packet.len());
    }
}
