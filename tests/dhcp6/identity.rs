//! Which machine a DHCPv6 client is: by the link, by its identifier, by its UUID; and what happens when they disagree.

use super::house::*;
use provisioner::dhcp::v6::{LeaseRecord, lease::Owner};
use provisioner_wire::Mac;
use std::net::Ipv6Addr;
use uuid::Uuid;

const OTHER: Mac = Mac([0x52, 0x54, 0, 9, 9, 9]);
/// Made at random: no MAC is in it.
const RANDOM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 1, 2, 3, 4);

fn named(name: &'static str, address: Option<Ipv6Addr>, uuid: Option<Uuid>) -> Declared {
    Declared { name, address, uuid }
}

fn duid_of(mac: Mac) -> Vec<u8> {
    option(1, &[&[0, 3, 0, 1][..], &mac.0].concat())
}

fn ipxe() -> Vec<u8> {
    [option(15, b"\x00\x04iPXE"), option(6, &[0, 59])].concat()
}

#[tokio::test]
async fn the_mac_on_the_link_names_the_machine_and_its_reservation() {
    let mut house = House::new([(MAC, named("alpha", Some(ip(0x42)), None))]);
    let packet = message(SOLICIT, &[option(1, &[0, 2, 0, 0, 9, 9]), ia(&[]), ipxe()]);
    assert_eq!(house.say(&packet).await.unwrap().address(), Some(ip(0x42)));
    let heard = house.ear.heard.lock().unwrap().pop().unwrap();
    assert_eq!((heard.machine.unwrap().to_string(), heard.conflict), ("alpha".to_owned(), None));
}

#[tokio::test]
async fn rfc6939_the_relays_word_names_the_machine() {
    let mut house = House::new([(MAC, named("alpha", Some(ip(0x42)), None))]);
    let seen = option(79, &[&[0, 1][..], &MAC.0].concat());
    let inner = message(SOLICIT, &[duid_of(OTHER), ia(&[])]);
    let reply = house.send(&relayed(ip(9), RANDOM, &[seen], &inner), ip(9), true).await.unwrap();
    let answer = Answer(reply.bytes[38..].to_vec());
    assert_eq!(answer.address(), Some(ip(0x42)));
}

#[tokio::test]
async fn duid_uuid_in_smbios_order_of_edk2_and_in_network_order_of_ipxe_are_one_machine() {
    let uuid = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").unwrap();
    for bytes in [uuid.to_bytes_le(), uuid.into_bytes()] {
        let mut house = House::new([(MAC, named("alpha", Some(ip(0x42)), Some(uuid)))]);
        let packet = message(SOLICIT, &[option(1, &[&[0, 4][..], &bytes].concat()), ia(&[]), ipxe()]);
        let answer = Answer(house.send(&packet, RANDOM, false).await.unwrap().bytes);
        assert_eq!(answer.address(), Some(ip(0x42)), "{bytes:?}");
        // The script is that of a declared MAC.
        assert_eq!(answer.text(59).as_deref(), Some("http://[fd88::1]:8080/boot/52-54-00-01-02-03.ipxe"));
    }
}

#[tokio::test]
async fn a_cloned_disks_identifier_is_an_alarm_and_never_a_merge() {
    let mut house = House::new([
        (MAC, named("alpha", Some(ip(0x42)), None)),
        (OTHER, named("beta", Some(ip(0x43)), None)),
    ]);
    // Alpha's wire, beta's identifier.
    let packet = message(SOLICIT, &[duid_of(OTHER), ia(&[])]);
    assert_eq!(house.say(&packet).await.unwrap().address(), Some(ip(0x42)));
    let heard = house.ear.heard.lock().unwrap().pop().unwrap();
    assert_eq!((heard.machine.as_ref().unwrap().to_string(), heard.mac), ("alpha".to_owned(), Some(MAC)));
    assert_eq!(heard.conflict.as_ref().unwrap().to_string(), "beta");
    assert!(heard.line().contains("that of beta"), "{}", heard.line());
}

#[tokio::test]
async fn firmware_ipxe_and_system_of_one_machine_share_one_lease() {
    let mut house = House::new([]);
    let mut leased = Vec::new();
    let uuid = [7; 16];
    for (identifier, id) in [
        (option(1, &[&[0, 4][..], &uuid].concat()), 0xaff2_dfdfu32),
        (duid_of(MAC), 1),
        (option(1, &[0, 2, 0, 0, 0xab, 0x11, 5]), 0x52_54_00),
    ] {
        let association = option(3, &[&id.to_be_bytes()[..], &[0; 8]].concat());
        let quick = message(SOLICIT, &[identifier, association, option(14, &[])]);
        leased.extend(house.say(&quick).await.unwrap().address());
    }
    assert!(leased.len() == 3 && leased.iter().all(|ip| *ip == leased[0]), "{leased:?}");
}

#[tokio::test]
async fn edk2_releases_one_of_its_two_associations_and_the_lease_stays_until_the_other() {
    let mut house = House::new([]);
    let association = |id: u8, address: Option<Ipv6Addr>| {
        let inside = address.map(|ip| option(5, &[&ip.octets()[..], &[0; 8]].concat())).unwrap_or_default();
        option(3, &[&[0, 0, 0, id][..], &[0; 8], &inside].concat())
    };
    let mut leased = None;
    for id in [1, 2] {
        let quick = message(SOLICIT, &[client_id(), association(id, None), option(14, &[])]);
        leased = house.say(&quick).await.unwrap().address();
    }
    let ended = |house: &House| {
        let records = house.journal.records.lock().unwrap();
        records.iter().filter(|record| matches!(record, LeaseRecord::Ended { .. })).count()
    };
    for (id, expected) in [(1, 0), (1, 0), (2, 1)] {
        let release = message(RELEASE, &[client_id(), server_id(), association(id, leased)]);
        assert_eq!(house.say(&release).await.unwrap().status(), Some(0));
        assert_eq!(ended(&house), expected, "association {id}");
    }
}

#[tokio::test]
async fn where_the_link_hides_the_mac_the_identifier_and_its_association_have_the_lease() {
    let mut house = House::new([]);
    let mut lease_of = async |id: u8| {
        let association = option(3, &[&[0, 0, 0, id][..], &[0; 8]].concat());
        let quick = message(SOLICIT, &[duid_of(MAC), association, option(14, &[])]);
        Answer(house.send(&quick, RANDOM, false).await.unwrap().bytes).address().unwrap()
    };
    // Two interfaces of one system, both with addresses made at random.
    let (first, second) = (lease_of(1).await, lease_of(2).await);
    assert_ne!(first, second);
    assert_eq!(lease_of(1).await, first);
    let records = house.journal.records.lock().unwrap();
    assert!(records.iter().all(|r| matches!(r, LeaseRecord::Bound { owner: Owner::Duid(..), .. })));
}

#[tokio::test]
async fn without_any_mac_there_is_an_address_and_no_script() {
    let mut house = House::new([]);
    let packet = message(SOLICIT, &[option(1, &[0, 2, 0, 0, 9, 9]), ia(&[]), ipxe()]);
    let answer = Answer(house.send(&packet, RANDOM, false).await.unwrap().bytes);
    assert!(answer.address().is_some() && answer.value(59).is_none());
}
