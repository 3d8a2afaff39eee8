//! Messages made by hand, and bytes that are none.

use super::*;
use proptest::prelude::*;

pub const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe01, 0x0203);

/// One option.
pub fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

/// A client's message of type `kind`.
pub fn message(kind: u8, options: &[Vec<u8>]) -> Vec<u8> {
    [&[kind, 1, 2, 3][..], &options.concat()].concat()
}

/// An IA_NA with these addresses.
pub fn ia(id: u32, addresses: &[Ipv6Addr]) -> Vec<u8> {
    let inside = addresses.iter().map(|ip| option(5, &[&ip.octets()[..], &[0; 8]].concat()));
    option(3, &[&id.to_be_bytes()[..], &[0; 8], &inside.collect::<Vec<_>>().concat()].concat())
}

/// A relay's envelope.
pub fn relayed(link: Ipv6Addr, peer: Ipv6Addr, more: &[Vec<u8>], inner: &[u8]) -> Vec<u8> {
    let header = [&[12, 0][..], &link.octets(), &peer.octets()].concat();
    [header, more.concat(), option(9, inner)].concat()
}

pub fn read(packet: &[u8]) -> Result<Request, Malformed> {
    Request::read(packet, CLIENT)
}

#[test]
fn a_message_is_read() {
    let addresses = [Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 5)];
    let packet =
        message(1, &[option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1]), ia(7, &addresses), option(6, &[0, 59])]);
    let request = read(&packet).unwrap();
    assert_eq!((request.message_name(), request.xid, request.peer), ("solicit", [1, 2, 3], CLIENT));
    assert_eq!(
        request.associations,
        [Association { kind: Kind::Lasting, id: 7, addresses: addresses.to_vec() }]
    );
    assert!(request.asks(code::BOOT_URL) && !request.asks(code::DNS));
}

#[test]
fn lengths_are_not_trusted() {
    let good = message(1, &[option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1]), ia(7, &[CLIENT])]);
    for (packet, expected) in [
        (&good[..3], Malformed::Short),
        (&good[..good.len() - 1], Malformed::Option),
        (&[&good[..], &[0]].concat(), Malformed::Option),
        (&message(1, &[option(3, &[0; 11])]), Malformed::Option),
        (&message(1, &[option(4, &[0; 3])]), Malformed::Option),
        (&message(1, &[option(3, &[&[0; 12][..], &option(5, &[0; 23])].concat())]), Malformed::Option),
        (&message(1, &[option(3, &[&[0; 12][..], &[0, 5, 0, 99]].concat())]), Malformed::Option),
        (&message(1, &vec![ia(1, &[]); 9]), Malformed::Associations),
        (&message(1, &[ia(1, &[CLIENT; 9])]), Malformed::Associations),
        (&relayed(CLIENT, CLIENT, &[], &[]), Malformed::EmptyRelay),
        (&relayed(CLIENT, CLIENT, &[], &good)[..33], Malformed::Short),
    ] {
        assert_eq!(read(packet), Err(expected), "{packet:?}");
    }
}

#[test]
fn what_servers_and_relays_send_is_no_request() {
    for kind in [0u8, 2, 7, 10, 13, 14, 20, 255] {
        assert_eq!(read(&message(kind, &[])), Err(Malformed::Message), "{kind}");
    }
}

#[test]
fn eight_relays_are_unwrapped_and_a_ninth_is_a_loop() {
    let mut packet = message(11, &[]);
    for nesting in 1..=9u16 {
        let link = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, nesting);
        packet = relayed(link, CLIENT, &[option(18, &nesting.to_be_bytes())], &packet);
        match read(&packet) {
            Ok(request) => {
                assert_eq!(request.relays.len(), usize::from(nesting));
                // Outermost first.
                assert_eq!(request.relays[0].interface.as_deref(), Some(&nesting.to_be_bytes()[..]));
            }
            Err(why) => assert_eq!((why, nesting), (Malformed::Relays, 9)),
        }
    }
}

#[test]
fn pieces_with_lengths_end_where_they_are_broken() {
    assert_eq!(pieces(&[0, 2, b'a', b'b', 0, 0, 0, 1, b'c']), [&b"ab"[..], b"", b"c"]);
    assert_eq!(pieces(&[0, 1, b'a', 0, 9, b'b']), [&b"a"[..]]);
    assert!(pieces(&[0]).is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }

    /// Bytes that begin as a message does get further in.
    #[test]
    fn no_options_make_it_panic(
        kind in 1u8..13,
        options in prop::collection::vec((0u16..140, prop::collection::vec(any::<u8>(), 0..60)), 0..12),
        cut in 0usize..200,
    ) {
        let options: Vec<_> = options.iter().map(|(code, value)| option(*code, value)).collect();
        let packet = message(kind, &options);
        let _ = read(&packet[..packet.len().saturating_sub(cut)]);
        let within = relayed(CLIENT, CLIENT, &[], &packet);
        if let Ok(request) = read(&within) {
            let _ = (super::super::client::of(&request), super::super::client::Traces::of(&request));
        }
    }
}
