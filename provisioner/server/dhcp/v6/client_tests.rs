//! Who asks over IPv6, by the options of real clients.

use super::{super::intake::tests as intake, *};
use crate::dhcp::client::Platform;
use intake::{message, option, relayed};

const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

fn class(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    option(16, &[&INTEL.to_be_bytes()[..], &length, text].concat())
}

fn user(text: &[u8]) -> Vec<u8> {
    option(15, &[&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat())
}

fn request(options: &[Vec<u8>]) -> Request {
    intake::read(&message(1, options)).unwrap()
}

#[test]
fn firmware_and_ipxe_are_told_apart() {
    let pxe = class(b"PXEClient:Arch:00007:UNDI:003000");
    let http = class(b"HTTPClient:Arch:00016:UNDI:003000");
    let ipxe = Program::Ipxe { ours: false, http: true };
    for (options, program, platform) in [
        (vec![pxe.clone(), option(61, &[0, 7])], Program::Pxe, Some(Platform::UefiX64)),
        (vec![pxe.clone()], Program::Pxe, Some(Platform::UefiX64)),
        (vec![http, option(61, &[0, 16])], Program::Http, Some(Platform::UefiX64)),
        (vec![pxe.clone(), user(b"iPXE"), option(61, &[0, 11])], ipxe, Some(Platform::UefiArm64)),
        (vec![pxe, user(b"provisioner")], Program::Ipxe { ours: true, http: true }, Some(Platform::UefiX64)),
        (vec![class(b"dhcpcd")], Program::System, None),
        (vec![option(16, &[0, 0])], Program::System, None),
        (vec![], Program::System, None),
    ] {
        let client = of(&request(&options));
        assert_eq!((client.program, client.platform()), (program, platform), "{options:?}");
    }
}

#[test]
fn rfc5970_option_61_is_a_list_and_the_first_known_entry_counts() {
    let client = of(&request(&[option(61, &[0, 99, 0, 11, 0, 7])]));
    assert_eq!((client.platform(), client.architectures.len()), (Some(Platform::UefiArm64), 3));
    assert_eq!(of(&request(&[option(61, &[0])])).platform(), None);
}

#[test]
fn the_mac_is_read_from_the_identifier_the_address_or_the_relay() {
    let eui = "fe80::5054:ff:fe01:203".parse().unwrap();
    let random = "fe80::1:2:3:4".parse().unwrap();
    let link: Ipv6Addr = "fd88::1".parse().unwrap();
    let ll = option(1, &[&[0, 3, 0, 1][..], &[0x52, 0x54, 0, 9, 9, 9]].concat());
    let llt = option(1, &[&[0, 1, 0, 1, 1, 2, 3, 4][..], &[0x52, 0x54, 0, 9, 9, 9]].concat());
    let infiniband = option(1, &[&[0, 3, 0, 32][..], &MAC.0].concat());
    let other = Mac([0x52, 0x54, 0, 9, 9, 9]);
    for (peer, identifier, expected) in [
        (eui, &ll, (Some(MAC), Some(other))),
        (random, &llt, (None, Some(other))),
        (random, &infiniband, (None, None)),
        (link, &ll, (None, Some(other))),
    ] {
        let traces = Traces::of(&Request::read(&message(1, std::slice::from_ref(identifier)), peer).unwrap());
        assert_eq!((traces.link, traces.duid), expected, "{peer} {identifier:?}");
    }
    // RFC 6939: the relay has seen the frame.
    let seen = option(79, &[&[0, 1][..], &MAC.0].concat());
    let plain = message(1, std::slice::from_ref(&ll));
    let by_relay = relayed(link, random, std::slice::from_ref(&seen), &plain);
    assert_eq!(Traces::of(&intake::read(&by_relay).unwrap()).link, Some(MAC));
    // Only a relay's word counts; and the address of the relay is not the client's.
    let forged = Request::read(&message(1, &[ll.clone(), seen]), random).unwrap();
    assert_eq!(Traces::of(&forged).link, None);
    let relay_eui = relayed(link, random, &[], &message(1, &[ll]));
    assert_eq!(Traces::of(&Request::read(&relay_eui, eui).unwrap()).link, None);
}

#[test]
fn duid_uuid_is_read_in_smbios_and_in_network_order() {
    let uuid = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").unwrap();
    for bytes in [uuid.into_bytes(), uuid.to_bytes_le()] {
        let traces = Traces::of(&request(&[option(1, &[&[0, 4][..], &bytes].concat())]));
        assert!(traces.uuids.contains(&uuid), "{traces:?}");
    }
    // Each client's own order, for the timeline.
    let ipxe = [option(1, &[&[0, 4][..], uuid.as_bytes()].concat()), user(b"iPXE")];
    assert_eq!(of(&request(&ipxe)).uuid, Some(uuid));
    let ovmf = [option(1, &[&[0, 4][..], &uuid.to_bytes_le()].concat()), class(b"PXEClient:")];
    assert_eq!(of(&request(&ovmf)).uuid, Some(uuid));
    for bad in [&[0u8; 16][..], &[0xff; 16], &[1; 15]] {
        assert!(Traces::of(&request(&[option(1, &[&[0, 4][..], bad].concat())])).uuids.is_empty());
    }
}
