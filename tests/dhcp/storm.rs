//! Ten thousand machines at once, in memory: none lost, no address twice, few commits.

use super::house::{House, NOW, SERVER, option, packet};
use provisioner_wire::Mac;
use std::collections::HashSet;

fn mac(n: u32) -> Mac {
    let [_, a, b, c] = n.to_be_bytes();
    Mac([0x52, 0x54, 7, a, b, c])
}

/// Through a relay of the large subnet.
fn relayed(mut packet: Vec<u8>) -> Vec<u8> {
    packet[24..28].copy_from_slice(&[10, 99, 0, 1]);
    packet
}

#[tokio::test]
async fn ten_thousand_clients_all_get_their_own_address() {
    const CLIENTS: u32 = 10_000;
    let mut house = House::new([]);
    let mut addresses = HashSet::new();
    for first in (0..CLIENTS).step_by(250) {
        let batch = first..first + 250;
        let discovers: Vec<_> = batch.clone().map(|n| relayed(packet(mac(n), &[(53, &[1])]))).collect();
        let offers = house.server.answer(&discovers, NOW).await;
        assert_eq!(offers.len(), 250);
        let requests: Vec<_> = batch
            .zip(&offers)
            .map(|(n, offer)| {
                let options: &[(u8, &[u8])] =
                    &[(53, &[3]), (54, &SERVER.octets()), (50, &offer.bytes[16..20])];
                relayed(packet(mac(n), options))
            })
            .collect();
        for ack in house.server.answer(&requests, NOW).await {
            assert_eq!(option(&ack.bytes, 53), Some(&[5][..]));
            assert!(addresses.insert(ack.bytes[16..20].to_vec()), "an address twice");
        }
    }
    assert_eq!(addresses.len(), CLIENTS as usize);
    assert_eq!(*house.journal.commits.lock().unwrap(), CLIENTS as usize / 250, "one commit a batch");
}
