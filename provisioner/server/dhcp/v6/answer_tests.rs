//! Answers as bytes.

use super::{
    super::{
        config::Subnet6Config,
        intake::{pieces, scan, tests as intake},
    },
    *,
};
use intake::{CLIENT, ia, message, option, relayed};

const SERVER: &[u8] = &[0, 4, 1, 2, 3];

fn subnet() -> Subnet {
    Subnet::new(&Subnet6Config {
        network: "fd88::/64".parse().unwrap(),
        pool: None,
        dns: vec!["fd88::1".parse().unwrap()],
        lease_seconds: 4000,
    })
    .unwrap()
}

fn boot(class: Option<&'static str>) -> BootUrl {
    let parameters = vec!["one".to_owned(), String::new(), "three".to_owned()];
    BootUrl { url: "http://[fd88::1]:8080/x.efi".to_owned(), parameters, class }
}

fn answered(request: &[u8], decision: &Decision, boot: Option<&BootUrl>) -> Reply {
    let sender = SocketAddrV6::new(CLIENT, 1234, 0, 7);
    let (request, subnet) = (intake::read(request).unwrap(), subnet());
    let subnet = Some(&subnet);
    Answer { request: &request, sender, decision, subnet, server: SERVER, sole_server: true, boot }
        .packet()
        .unwrap()
}

fn options(packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
    scan(packet).unwrap().into_iter().map(|(code, value)| (code, value.to_vec())).collect()
}

fn value(reply: &Reply, code: u16) -> Option<Vec<u8>> {
    options(&reply.bytes[4..]).into_iter().find(|(c, _)| *c == code).map(|(_, value)| value)
}

fn given(address: Option<&str>) -> Vec<Given> {
    let address = address.map(|a| a.parse().unwrap());
    vec![Given { kind: Kind::Lasting, id: 9, address, dead: vec![CLIENT], status: None }]
}

#[test]
fn an_advertisement_has_the_address_with_its_lifetimes() {
    let solicit = message(1, &[option(1, &[0, 3, 0, 1, 2]), ia(9, &[])]);
    let reply = answered(&solicit, &Decision::Advertise(given(Some("fd88::64"))), None);
    assert_eq!(reply.bytes[..4], [2, 1, 2, 3]);
    assert_eq!((reply.to.port(), reply.to.scope_id(), *reply.to.ip()), (546, 7, CLIENT));
    assert_eq!(
        (value(&reply, 1).unwrap(), value(&reply, 2).unwrap()),
        (vec![0, 3, 0, 1, 2], SERVER.to_vec())
    );
    assert_eq!(value(&reply, 7), Some(vec![255]));
    let association = value(&reply, 3).unwrap();
    let words: Vec<u32> =
        association[..12].as_chunks::<4>().0.iter().map(|w| u32::from_be_bytes(*w)).collect();
    // T1 and T2: half and four fifths of the preferred lifetime, which is three quarters of the valid one.
    assert_eq!(words, [9, 1500, 2400]);
    let inside = options(&association[12..]);
    let lifetimes = |at: usize| {
        let (_, value) = &inside[at];
        (
            u32::from_be_bytes(value[16..20].try_into().unwrap()),
            u32::from_be_bytes(value[20..24].try_into().unwrap()),
        )
    };
    let mut both = [lifetimes(0), lifetimes(1)];
    both.sort_unstable();
    assert_eq!(both, [(0, 0), (3000, 4000)]);
}

#[test]
fn options_only_when_asked_for() {
    let decision = Decision::Reply { given: Vec::new(), rapid: false };
    let asks = |codes: &[u16]| {
        let list: Vec<u8> = codes.iter().flat_map(|c| c.to_be_bytes()).collect();
        answered(&message(11, &[option(6, &list), option(62, &[1, 3, 16])]), &decision, Some(&boot(None)))
    };
    for (code, there) in [(23u16, 16), (32, 4), (60, 3 * 2 + 3 + 5), (62, 3)] {
        assert_eq!(value(&asks(&[code]), code).map(|v| v.len()), Some(there), "{code}");
        assert_eq!(value(&asks(&[]), code), None, "{code}");
    }
    assert_eq!(value(&asks(&[32]), 32).unwrap(), 4000u32.to_be_bytes());
    // An answer to a message without identifier has none.
    assert_eq!(value(&asks(&[]), 1), None);
}

#[test]
fn rfc5970_each_parameter_has_its_length_before_it() {
    let decision = Decision::Reply { given: Vec::new(), rapid: false };
    let reply = answered(&message(11, &[option(6, &[0, 59, 0, 60])]), &decision, Some(&boot(None)));
    assert_eq!(pieces(&value(&reply, 60).unwrap()), [&b"one"[..], b"", b"three"]);
    assert_eq!(value(&reply, 59).unwrap(), b"http://[fd88::1]:8080/x.efi");
    assert_eq!(value(&reply, 16), None);
}

#[test]
fn http_boot_is_told_its_own_class_under_number_343() {
    let decision = Decision::Reply { given: Vec::new(), rapid: false };
    let reply = answered(&message(11, &[option(6, &[0, 59])]), &decision, Some(&boot(Some("HTTPClient"))));
    assert_eq!(value(&reply, 16).unwrap(), b"\0\0\x01\x57\0\x0aHTTPClient");
}

#[test]
fn envelopes_go_back_in_their_order_with_their_interface_ids() {
    let (link, peer) = ("fd88::5".parse().unwrap(), "fe80::5".parse().unwrap());
    let inner = relayed(link, CLIENT, &[option(18, b"port 7"), option(37, b"not echoed")], &message(11, &[]));
    let outer = relayed(link, peer, &[], &inner);
    let decision = Decision::Reply { given: Vec::new(), rapid: false };
    let reply = answered(&outer, &decision, None);
    assert_eq!(reply.to.port(), 547);
    let envelope = |bytes: &[u8]| {
        assert_eq!(bytes[0], 13);
        assert_eq!(bytes[2..18], link.octets());
        (bytes[18..34].to_vec(), options(&bytes[34..]))
    };
    let (heard, first) = envelope(&reply.bytes);
    assert_eq!((heard, first.len()), (peer.octets().to_vec(), 1));
    let (heard, second) = envelope(&first[0].1);
    assert_eq!((heard, second.len()), (CLIENT.octets().to_vec(), 2));
    assert_eq!(second[0], (18, b"port 7".to_vec()));
    assert_eq!((second[1].0, &second[1].1[..4]), (9, &[7, 1, 2, 3][..]));
}

#[test]
fn rfc8357_a_relay_on_another_port_is_answered_there() {
    let link = "fd88::5".parse().unwrap();
    let packet = relayed(link, CLIENT, &[option(135, &[0, 0])], &message(11, &[]));
    let reply = answered(&packet, &Decision::Reply { given: Vec::new(), rapid: false }, None);
    assert_eq!(reply.to.port(), 1234);
    assert!(options(&reply.bytes[34..]).contains(&(135, vec![0, 0])));
}

#[test]
fn what_was_told_wrongly_is_named_and_nothing_else() {
    let mut wrong = given(None);
    wrong[0].dead.clear();
    wrong[0].status = Some((Status::NoBinding, "why"));
    let mut right = wrong[0].clone();
    right.status = None;
    wrong.push(right);
    let release = message(8, &[option(1, &[0, 3, 0, 1, 2]), option(6, &[0, 23])]);
    let reply = answered(&release, &Decision::Noted(wrong), Some(&boot(None)));
    let codes: Vec<u16> = options(&reply.bytes[4..]).iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [1, 2, 3, 13]);
    assert_eq!(value(&reply, 13).unwrap()[..2], [0, 0]);
    assert_eq!(value(&reply, 3).unwrap()[12..18], [0, 13, 0, 5, 0, 3]);
}
