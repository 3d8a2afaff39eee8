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

#[tokio::test]
async fn offers_do_not_wait_for_the_commit_of_acknowledgements() {
    let mut house = House::new([]);
    let discover = |n| relayed(packet(mac(n), &[(53, &[1])]));
    let offer = house.server.answer(&[discover(1)], NOW).await.remove(0);
    let options: &[(u8, &[u8])] = &[(53, &[3]), (54, &SERVER.octets()), (50, &offer.bytes[16..20])];
    let request = relayed(packet(mac(1), options));
    let decided = house.server.decide(&[request, discover(2)], NOW).await;
    let kinds: Vec<_> = decided.at_once.iter().map(|reply| option(&reply.bytes, 53).unwrap()[0]).collect();
    assert_eq!(kinds, [2], "the offer leaves, the acknowledgement does not");
    assert!(house.journal.records.lock().unwrap().is_empty());

    // Two batches that waited become one commit.
    let options: &[(u8, &[u8])] =
        &[(53, &[3]), (54, &SERVER.octets()), (50, &decided.at_once[0].bytes[16..20])];
    let later = house.server.decide(&[relayed(packet(mac(2), options))], NOW).await;
    let mut promise = decided.promise;
    promise.and(later.promise);
    let kept = house.server.keeper().keep(promise).await;
    let macs: Vec<_> = kept.iter().map(|reply| reply.bytes[28..34].to_vec()).collect();
    assert_eq!(macs, [mac(1).0, mac(2).0], "in their order");
    assert_eq!(*house.journal.commits.lock().unwrap(), 1);
}
