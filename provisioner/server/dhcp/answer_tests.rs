//! Table of answers: where they go and what must and must not be in them (RFC 2131 §4.1, table 3).

use super::{
    super::{config::SubnetConfig, intake::tests as intake},
    *,
};
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const GIVEN: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 20);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 254);

fn subnet() -> Subnet {
    let config = SubnetConfig {
        router: Some(SERVER),
        dns: vec![SERVER],
        ..SubnetConfig::of("10.88.0.0/24".parse().unwrap())
    };
    Subnet { lease: Duration::from_secs(3600), ..Subnet::new(0, &config).unwrap() }
}

fn tftp_file() -> BootFile {
    BootFile { file: "undionly.kpxe".to_owned(), class: Some("PXEClient"), lead: Lead::Skip, no_proxy: false }
}

fn bytes(flags: u16, ciaddr: Ipv4Addr, giaddr: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = intake::packet(intake::MAC, options);
    bytes[10..12].copy_from_slice(&flags.to_be_bytes());
    bytes[12..16].copy_from_slice(&ciaddr.octets());
    bytes[24..28].copy_from_slice(&giaddr.octets());
    bytes
}

const NONE: &OptionSet = &OptionSet::new();

fn answer<'a>(
    request: &'a Request,
    decision: Decision,
    subnet: &'a Subnet,
    boot: Option<&'a BootFile>,
) -> Answer<'a> {
    Answer { request, decision, subnet, identifier: SERVER, tftp: SERVER, boot, name: None, own: NONE }
}

fn reply(packet: &[u8], decision: Decision, boot: Option<&BootFile>) -> Reply {
    let (request, subnet) = (Request::read(packet).unwrap(), subnet());
    answer(&request, decision, &subnet, boot).packet().unwrap()
}

/// Options in the order they stand in the packet.
fn options(reply: &Reply) -> Vec<(u8, Vec<u8>)> {
    let (mut found, mut rest) = (Vec::new(), &reply.bytes[240..]);
    while rest[0] != 255 {
        let length = usize::from(rest[1]);
        found.push((rest[0], rest[2..2 + length].to_vec()));
        rest = &rest[2 + length..];
    }
    found
}

fn option(reply: &Reply, code: u8) -> Option<Vec<u8>> {
    options(reply).into_iter().find(|(c, _)| *c == code).map(|(_, value)| value)
}

const DISCOVER: &[(u8, &[u8])] = &[(53, &[1])];
const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn rfc2131_4_1_where_answers_go() {
    let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
    let relay = SocketAddrV4::new(RELAY, 67);
    let own = SocketAddrV4::new(GIVEN, 68);
    let nak = Decision::Nak("no");
    for (flags, ciaddr, giaddr, decision, to) in [
        (0x8000, NOWHERE, NOWHERE, Decision::Offer(GIVEN), everyone),
        (0, NOWHERE, NOWHERE, Decision::Offer(GIVEN), everyone),
        (0, NOWHERE, RELAY, Decision::Offer(GIVEN), relay),
        (0x8000, NOWHERE, RELAY, Decision::Ack(GIVEN), relay),
        (0, GIVEN, NOWHERE, Decision::Ack(GIVEN), own),
        (0, GIVEN, NOWHERE, Decision::Inform, own),
        (0, GIVEN, NOWHERE, nak, everyone),
        (0, GIVEN, RELAY, nak, relay),
    ] {
        let reply = reply(&bytes(flags, ciaddr, giaddr, DISCOVER), decision, None);
        assert_eq!(reply.to, to, "{flags:x} {ciaddr} {giaddr} {decision:?}");
        let broadcast = reply.bytes[10] & 0x80 != 0;
        assert_eq!(broadcast, flags != 0 || (decision == nak && giaddr == RELAY));
    }
}

#[test]
fn header_fields_are_echoed_and_the_rest_is_clean() {
    let reply = reply(&bytes(0x8000, NOWHERE, RELAY, DISCOVER), Decision::Offer(GIVEN), None);
    let header = &reply.bytes;
    assert_eq!(header[..4], [2, 1, 6, 0]);
    assert_eq!(header[4..8], [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(header[8..10], [0, 0], "secs");
    assert_eq!(header[16..20], GIVEN.octets());
    assert_eq!(header[20..24], [0; 4], "no next server without a boot file");
    assert_eq!(header[24..28], RELAY.octets());
    assert_eq!(header[28..44], [0x52, 0x54, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(header[44..236].iter().all(|b| *b == 0));
}

#[test]
fn an_offer_has_the_lease_the_network_and_nothing_of_a_client() {
    let packet = bytes(
        0,
        NOWHERE,
        NOWHERE,
        &[(53, &[1]), (50, &[1, 2, 3, 4]), (55, &[1, 3]), (57, &[5, 0xc0]), (61, &[1, 9]), (77, b"iPXE")],
    );
    let reply = reply(&packet, Decision::Offer(GIVEN), None);
    let codes: Vec<u8> = options(&reply).iter().map(|(c, _)| *c).collect();
    assert_eq!(codes, [53, 54, 51, 1, 3, 61, 58, 59, 6, 28], "the exchange, what 55 lists, the rest");
    assert_eq!(option(&reply, 51), Some(3600u32.to_be_bytes().to_vec()));
    assert_eq!(option(&reply, 58), Some(1800u32.to_be_bytes().to_vec()));
    assert_eq!(option(&reply, 59), Some(3150u32.to_be_bytes().to_vec()));
    assert_eq!(option(&reply, 61), Some(vec![1, 9]), "RFC 6842");
    assert!(reply.bytes.len() >= 300);
}

#[test]
fn a_bios_rom_is_told_its_file_three_times_and_to_look_no_further() {
    let mut uuid = vec![0; 17];
    uuid[16] = 7;
    let packet = bytes(0, NOWHERE, NOWHERE, &[(53, &[1]), (97, &uuid)]);
    let reply = reply(&packet, Decision::Offer(GIVEN), Some(&tftp_file()));
    assert_eq!(reply.bytes[20..24], SERVER.octets());
    assert_eq!(&reply.bytes[108..122], b"undionly.kpxe\0");
    assert_eq!(option(&reply, 67).unwrap(), b"undionly.kpxe");
    assert_eq!(option(&reply, 66).unwrap(), b"10.88.0.1");
    assert_eq!(option(&reply, 60).unwrap(), b"PXEClient");
    assert_eq!(option(&reply, 43).unwrap(), [6, 1, 8, 255]);
    assert_eq!(option(&reply, 97).unwrap(), uuid);
    assert_eq!(option(&reply, 175), None);
}

#[test]
fn ipxe_gets_a_url_and_need_not_wait_for_a_proxy() {
    let file = format!("http://10.88.0.1:8080/{}", "x".repeat(120));
    let boot = BootFile { file: file.clone(), class: None, lead: Lead::Bare, no_proxy: true };
    let packet = bytes(0, NOWHERE, NOWHERE, &[(53, &[1]), (97, &[0; 3])]);
    let reply = reply(&packet, Decision::Offer(GIVEN), Some(&boot));
    assert_eq!(option(&reply, 175).unwrap(), [176, 1, 1]);
    assert_eq!(option(&reply, 67).unwrap(), file.as_bytes());
    assert_eq!(option(&reply, 66), None);
    assert_eq!(option(&reply, 97), None, "not 17 bytes, not echoed, not dropped");
    assert!(reply.bytes[108..236].iter().all(|b| *b == 0), "too long for the field");
}

#[test]
fn rfc3046_relay_information_comes_back_byte_for_byte_and_last() {
    // Sub-options out of order and one twice: a codec that sorts them would show.
    let relay = [9, 1, 1, 2, 3, b'r', b'a', b'w', 1, 2, 7, 7, 1, 1, 8];
    let packet = bytes(0, NOWHERE, RELAY, &[(53, &[1]), (82, &relay), (61, &[1, 2])]);
    for decision in [Decision::Offer(GIVEN), Decision::Ack(GIVEN), Decision::Nak("no")] {
        let reply = reply(&packet, decision, Some(&tftp_file()));
        assert_eq!(options(&reply).last(), Some(&(82, relay.to_vec())), "{decision:?}");
    }
    let long = [7; 300];
    let split = bytes(0, NOWHERE, RELAY, &[(53, &[1]), (82, &long[..200]), (82, &long[200..])]);
    let parts = options(&reply(&split, Decision::Offer(GIVEN), None));
    let joined: Vec<u8> = parts.iter().filter(|(c, _)| *c == 82).flat_map(|(_, v)| v.clone()).collect();
    assert_eq!(joined, long);
}

#[test]
fn a_nak_has_no_address_no_lease_no_boot() {
    let packet = bytes(0, GIVEN, NOWHERE, &[(53, &[3]), (61, &[1, 2])]);
    let reply = reply(&packet, Decision::Nak("the address is not of this network"), Some(&tftp_file()));
    let codes: Vec<u8> = options(&reply).iter().map(|(c, _)| *c).collect();
    assert_eq!(codes, [53, 54, 61, 56]);
    assert!(reply.bytes[12..24].iter().all(|b| *b == 0));
    assert!(reply.bytes[108..236].iter().all(|b| *b == 0));
}

#[test]
fn inform_has_no_address_and_no_lease_time() {
    let reply = reply(&bytes(0, GIVEN, NOWHERE, &[(53, &[8])]), Decision::Inform, None);
    assert_eq!(reply.bytes[12..16], GIVEN.octets());
    assert_eq!(reply.bytes[16..20], [0; 4]);
    for code in [51, 58, 59] {
        assert_eq!(option(&reply, code), None, "{code}");
    }
    assert_eq!(option(&reply, 53), Some(vec![5]));
}

#[test]
fn option_57_is_honoured_and_clamped() {
    let long = BootFile { file: format!("http://10.88.0.1/{}", "y".repeat(220)), ..tftp_file() };
    let relay = [5; 120];
    for (size, fits) in [(576u16, 548), (1472, 1444), (65280, 1472), (0, 548)] {
        let packet = bytes(0, NOWHERE, RELAY, &[(53, &[1]), (57, &size.to_be_bytes()), (82, &relay)]);
        let reply = reply(&packet, Decision::Offer(GIVEN), Some(&long));
        let trimmed = option(&reply, 28).is_none();
        assert_eq!(trimmed, fits == 548, "{size}: {} bytes", reply.bytes.len());
        assert!(option(&reply, 67).is_some());
    }
}

#[test]
fn silence_has_no_packet() {
    let (request, subnet) = (Request::read(&bytes(0, NOWHERE, NOWHERE, DISCOVER)).unwrap(), subnet());
    for decision in [Decision::Silent("x"), Decision::Conflict(GIVEN)] {
        let answer = answer(&request, decision, &subnet, None);
        assert_eq!(answer.packet(), None);
    }
}
