//! RFC 2131 and its companions in whole packets, one named test for each rule. What concerns the lease table alone is in
//! `dhcp/lease_tests.rs`, one answer's bytes in `dhcp/answer_tests.rs`, broken packets in `dhcp/intake.rs`.

use super::house::{Declared, House, NOW, SERVER, option, packet, subnets};
use provisioner::dhcp::{Who, intake::Malformed, subnet::Subnet};
use provisioner_wire::Mac;
use std::net::{Ipv4Addr, SocketAddrV4};

const MAC: Mac = Mac([0x52, 0x54, 0, 9, 9, 9]);
const RELAY: [u8; 4] = [10, 99, 0, 1];
const ID: (u8, &[u8]) = (54, &[10, 88, 0, 1]);

/// `packet` with one header field written over.
fn at(offset: usize, bytes: &[u8], mut packet: Vec<u8>) -> Vec<u8> {
    packet[offset..offset + bytes.len()].copy_from_slice(bytes);
    packet
}

fn from(own: [u8; 4], packet: Vec<u8>) -> Vec<u8> {
    at(12, &own, packet)
}

fn by_relay(packet: Vec<u8>) -> Vec<u8> {
    at(24, &RELAY, packet)
}

/// DISCOVER and REQUEST; the address.
async fn lease(house: &mut House) -> [u8; 4] {
    let offer = house.say(&packet(MAC, &[(53, &[1])])).await.unwrap();
    let address: [u8; 4] = offer[16..20].try_into().unwrap();
    let ack = house.say(&packet(MAC, &[(53, &[3]), ID, (50, &address)])).await.unwrap();
    assert_eq!((option(&ack, 53), &ack[16..20]), (Some(&[5][..]), &address[..]));
    address
}

async fn sent(house: &mut House, packet: Vec<u8>) -> Option<(u8, SocketAddrV4)> {
    let reply = house.server.answer(&[packet], NOW).await.pop()?;
    Some((option(&reply.bytes, 53)?[0], reply.to))
}

const ACK: u8 = 5;
const NAK: u8 = 6;
const EVERYONE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);

#[tokio::test]
async fn rfc2131_4_3_2_init_reboot_is_acknowledged_by_broadcast() {
    let mut house = House::new([]);
    let address = lease(&mut house).await;
    let asked = packet(MAC, &[(53, &[3]), (50, &address)]);
    assert_eq!(sent(&mut house, asked).await, Some((ACK, EVERYONE)));
}

#[tokio::test]
async fn rfc2131_4_3_2_init_reboot_of_another_network_is_refused_by_broadcast() {
    let mut house = House::new([]);
    let asked = packet(MAC, &[(53, &[3]), (50, &[192, 168, 1, 7])]);
    assert_eq!(sent(&mut house, asked).await, Some((NAK, EVERYONE)));
}

#[tokio::test]
async fn rfc2131_4_3_2_init_reboot_without_a_record_is_not_answered() {
    let mut house = House::new([]);
    assert_eq!(sent(&mut house, packet(MAC, &[(53, &[3]), (50, &[10, 88, 0, 150])])).await, None);
}

#[tokio::test]
async fn rfc2131_4_3_2_renewing_is_acknowledged_by_unicast() {
    let mut house = House::new([]);
    let address = lease(&mut house).await;
    let asked = from(address, packet(MAC, &[(53, &[3])]));
    assert_eq!(sent(&mut house, asked).await, Some((ACK, SocketAddrV4::new(address.into(), 68))));
}

#[tokio::test]
async fn rfc2131_4_3_2_renewing_through_a_relays_network_finds_its_own_subnet() {
    // A renewal comes by unicast and without a relay, from a network that is not the server's.
    let mut house = House::new([]);
    let offer = house.say(&by_relay(packet(MAC, &[(53, &[1])]))).await.unwrap();
    let address: [u8; 4] = offer[16..20].try_into().unwrap();
    house.say(&by_relay(packet(MAC, &[(53, &[3]), ID, (50, &address)]))).await.unwrap();
    let asked = from(address, packet(MAC, &[(53, &[3])]));
    assert_eq!(sent(&mut house, asked).await, Some((ACK, SocketAddrV4::new(address.into(), 68))));
}

#[tokio::test]
async fn rfc2131_4_3_2_rebinding_of_somebody_elses_lease_is_not_answered() {
    let mut house = House::new([]);
    let asked = from([10, 88, 0, 150], packet(MAC, &[(53, &[3])]));
    assert_eq!(sent(&mut house, asked).await, None);
}

#[tokio::test]
async fn rfc2131_4_3_2_a_temporary_lease_of_a_machine_that_became_known_is_refused() {
    let mut house = House::new([]);
    let address = lease(&mut house).await;
    let kept = house.journal.records.lock().unwrap().clone();
    let reserved = Some(Ipv4Addr::new(10, 88, 0, 20));
    let who = Who::Known { name: "alpha".parse().unwrap(), address: reserved, netboot: true };
    let mut known = House::of(Declared([(MAC, who)].into()), subnets(), &kept);
    assert_eq!(sent(&mut known, from(address, packet(MAC, &[(53, &[3])]))).await, Some((NAK, EVERYONE)));
    let offer = known.say(&packet(MAC, &[(53, &[1])])).await.unwrap();
    assert_eq!(offer[16..20], [10, 88, 0, 20]);
}

#[tokio::test]
async fn rfc2131_4_3_3_a_declined_address_is_reported_and_given_to_nobody() {
    let mut house = House::new([]);
    let address = lease(&mut house).await;
    assert_eq!(house.say(&packet(MAC, &[(53, &[4]), ID, (50, &address)])).await, None);
    assert!(house.said().contains("in use by another host"), "{}", house.said());
    let other = Mac([0x52, 0x54, 0, 9, 9, 8]);
    let offer = house.say(&packet(other, &[(53, &[1]), (50, &address)])).await.unwrap();
    assert_ne!(offer[16..20], address);
}

#[tokio::test]
async fn rfc2131_4_3_5_inform_is_acknowledged_without_address_or_lease_time() {
    let mut house = House::new([]);
    let ack = house.say(&from([10, 88, 0, 77], packet(MAC, &[(53, &[8])]))).await.unwrap();
    assert_eq!((option(&ack, 53), &ack[16..20]), (Some(&[ACK][..]), &[0; 4][..]));
    assert_eq!((option(&ack, 51), option(&ack, 58), option(&ack, 59)), (None, None, None));
    assert_eq!(option(&ack, 1), Some(&[255, 255, 255, 0][..]));
}

#[tokio::test]
async fn rfc2131_table_3_nothing_of_a_client_comes_back() {
    let asked: &[(u8, &[u8])] = &[
        (53, &[1]),
        (50, &[10, 88, 0, 150]),
        (55, &[1]),
        (57, &[5, 0xdc]),
        (77, b"x"),
        (93, &[0, 0]),
        (94, &[1, 2, 1]),
    ];
    let mut house = House::new([]);
    let offer = house.say(&packet(MAC, asked)).await.unwrap();
    for code in [50, 55, 57, 77, 93, 94] {
        assert_eq!(option(&offer, code), None, "{code}");
    }
    assert_eq!(offer[8..10], [0, 0], "secs");
}

#[tokio::test]
async fn rfc6842_option_61_comes_back_as_it_was_in_every_answer() {
    let mut house = House::new([]);
    let id: (u8, &[u8]) = (61, b"\xffan identifier of any length \0");
    for message in [
        packet(MAC, &[(53, &[1]), id]),
        packet(MAC, &[(53, &[3]), (50, &[192, 168, 1, 7]), id]),
        from([10, 88, 0, 77], packet(MAC, &[(53, &[8]), id])),
    ] {
        assert_eq!(option(&house.say(&message).await.unwrap(), 61), Some(id.1));
    }
}

#[tokio::test]
async fn rfc3046_2_1_option_82_without_a_relay_is_dropped_unless_trusted() {
    let asked = packet(MAC, &[(53, &[1]), (82, &[1, 2, 9, 9])]);
    let mut house = House::new([]);
    assert_eq!(house.say(&asked).await, None);
    assert_eq!(*house.ear.malformed.lock().unwrap(), [Malformed::RelayInformation]);
    let trusting = subnets().into_iter().map(|subnet| Subnet { trusts: true, ..subnet }).collect();
    let mut house = House::of(Declared::default(), trusting, &[]);
    let offer = house.say(&asked).await.unwrap();
    assert_eq!(option(&offer, 82), Some(&[1, 2, 9, 9][..]));
    assert_eq!(offer[16..19], [10, 88, 0], "its own link, whatever the option says");
}

#[tokio::test]
async fn rfc1542_4_1_1_sixteen_relays_are_a_loop() {
    let mut house = House::new([]);
    let through = |hops: u8| at(3, &[hops], by_relay(packet(MAC, &[(53, &[1])])));
    assert!(house.say(&through(15)).await.is_some());
    assert_eq!(house.say(&through(16)).await, None);
    assert_eq!(*house.ear.malformed.lock().unwrap(), [Malformed::Hops]);
}

#[tokio::test]
async fn rfc3527_and_rfc5107_a_relay_that_is_taken_for_the_server() {
    let mut house = House::new([]);
    let information: (u8, &[u8]) = (82, &[5, 4, 10, 88, 0, 0, 11, 4, 10, 99, 0, 1]);
    let offer = house.say(&by_relay(packet(MAC, &[(53, &[1]), information]))).await.unwrap();
    assert_eq!((&offer[16..19], option(&offer, 54)), (&[10, 88, 0][..], Some(&RELAY[..])));
    // The client names the relay as its server: that is us.
    let address: [u8; 4] = offer[16..20].try_into().unwrap();
    let select = by_relay(packet(MAC, &[(53, &[3]), (54, &RELAY), (50, &address), information]));
    let relay = SocketAddrV4::new(RELAY.into(), 67);
    assert_eq!(sent(&mut house, select).await, Some((ACK, relay)));
    let foreign = by_relay(packet(MAC, &[(53, &[3]), (54, &[10, 99, 0, 2]), (50, &address), information]));
    assert_eq!(sent(&mut house, foreign).await, None);
}

#[tokio::test]
async fn rfc2132_9_3_a_request_with_overloaded_fields_is_answered_without_overload() {
    let mut house = House::new([]);
    let class = b"\x3c\x20PXEClient:Arch:00007:UNDI:003016\x5d\x02\x00\x07\xff";
    let asked = at(108, class, packet(MAC, &[(53, &[1]), (52, &[1])]));
    let offer = house.say(&asked).await.unwrap();
    assert_eq!(option(&offer, 67), Some(&b"snponly.efi"[..]));
    assert_eq!(option(&offer, 52), None, "PXE clients cannot read overloaded fields");
    assert_eq!(&offer[108..120], b"snponly.efi\0");
}

#[tokio::test]
async fn rfc951_no_answer_is_shorter_than_300_bytes() {
    let mut house = House::new([]);
    let address = lease(&mut house).await;
    for message in [
        packet(MAC, &[(53, &[1])]),
        packet(MAC, &[(53, &[3]), ID, (50, &address)]),
        packet(MAC, &[(53, &[3]), (50, &[192, 168, 1, 7])]),
    ] {
        assert!(house.say(&message).await.unwrap().len() >= 300);
    }
}

#[tokio::test]
async fn rfc4388_a_leasequery_is_no_request() {
    let mut house = House::new([]);
    assert_eq!(house.say(&packet(MAC, &[(53, &[10])])).await, None);
    assert_eq!(*house.ear.malformed.lock().unwrap(), [Malformed::Message]);
    assert_eq!(SERVER.octets(), ID.1);
}
