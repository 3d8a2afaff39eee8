//! Declared options, and clients that differ, in whole packets.

use super::house::{Ear, House, Journal, NOW, option, packet, serving, subnets};
use provisioner::{
    dhcp::{Directory, Particulars, Who, bootfile::Lead, options::encoded, server::Server},
    inventory::{PxeLead, Quirks},
};
use provisioner_wire::Mac;
use std::{collections::HashSet, net::Ipv4Addr, sync::Arc};

const MAC: Mac = Mac([0x52, 0x54, 0, 9, 9, 9]);

fn known() -> Who {
    Who::Known { name: "alpha".parse().unwrap(), address: Some(Ipv4Addr::new(10, 88, 0, 20)), netboot: true }
}

fn options(text: &str) -> provisioner::dhcp::options::OptionSet {
    encoded(&toml::from_str(text).unwrap())
}

/// One declared machine that says something.
struct One(Arc<Particulars>);

impl Directory for One {
    async fn who(&self, mac: Mac) -> Who {
        if mac == MAC { known() } else { Who::Unknown { netboot: true } }
    }

    async fn particulars(&self, mac: Mac) -> Arc<Particulars> {
        if mac == MAC { self.0.clone() } else { Arc::default() }
    }

    async fn reserved(&self) -> Arc<HashSet<Ipv4Addr>> {
        Arc::default()
    }
}

struct Small(Server<One, Journal, Ear>);

impl Small {
    async fn say(&mut self, packet: &[u8]) -> Vec<u8> {
        self.0.answer(&[packet.to_vec()], NOW).await.remove(0).bytes
    }
}

/// A server whose near subnet and whose machine say something.
fn house(subnet: &str, particulars: Particulars) -> Small {
    let mut all = subnets();
    all[0].options = options(subnet);
    let directory = Arc::new(One(Arc::new(particulars)));
    Small(Server::new(all, serving(), &[], directory, Arc::default(), Arc::default()))
}

#[tokio::test]
async fn the_machines_word_goes_before_the_subnets() {
    let own =
        Particulars { options: options("mtu = 9000\nrouter = \"10.88.0.9\""), ..Particulars::default() };
    let mut house = house("mtu = 1500\nntp = [\"10.88.0.1\"]\nraw = [{ code = 224, text = \"site\" }]", own);
    let offer = house.say(&packet(MAC, &[(53, &[1])])).await;
    for (code, value) in
        [(26, &[0x23, 0x28][..]), (3, &[10, 88, 0, 9]), (42, &[10, 88, 0, 1]), (224, b"site"), (12, b"alpha")]
    {
        assert_eq!(option(&offer, code), Some(value), "{code}");
    }
}

#[tokio::test]
async fn option_12_is_the_name_of_a_known_machine_only() {
    let mut house = house("", Particulars::default());
    let other = Mac([0x52, 0x54, 0, 9, 9, 8]);
    let offer = house.say(&packet(other, &[(53, &[1]), (55, &[1, 12])])).await;
    assert_eq!(option(&offer, 12), None);
    let offer = house.say(&packet(MAC, &[(53, &[1]), (55, &[1, 3])])).await;
    assert_eq!(option(&offer, 12), None, "it did not ask for it");
}

#[tokio::test]
async fn rfc8925_option_108_only_where_it_is_asked_for() {
    let mut house = house("ipv6_only = 1800", Particulars::default());
    for (listed, given) in [(&[(53u8, &[1u8][..])][..], false), (&[(53, &[1]), (55, &[1, 108])], true)] {
        let offer = house.say(&packet(MAC, listed)).await;
        assert_eq!(option(&offer, 108).is_some(), given);
    }
}

#[tokio::test]
async fn an_answer_that_would_not_fit_leaves_out_what_is_not_needed() {
    let long = format!(
        "raw = [{{ code = 224, text = \"{}\" }}, {{ code = 225, text = \"{}\" }}]",
        "x".repeat(250),
        "y".repeat(250)
    );
    let mut house = house(&long, Particulars::default());
    let class: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007"), (93, &[0, 7])];
    let discover: Vec<_> = [(53u8, &[1u8][..])].into_iter().chain(class.iter().copied()).collect();
    let offer = house.say(&packet(MAC, &discover)).await;
    assert!(offer.len() <= 548, "{}", offer.len());
    for code in [1, 51, 53, 54, 67] {
        assert!(option(&offer, code).is_some(), "{code}");
    }
    let roomy: Vec<_> = discover.into_iter().chain([(57, &[5, 0xdc][..])]).collect();
    let offer = house.say(&packet(MAC, &roomy)).await;
    assert!(option(&offer, 224).is_some() && option(&offer, 225).is_some());
}

#[tokio::test]
async fn a_raspberry_pi_gets_the_menu_it_looks_for_and_tftp() {
    let pi = Mac([0xdc, 0xa6, 0x32, 1, 2, 3]);
    let discover: &[(u8, &[u8])] =
        &[(53, &[1]), (60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0]), (94, &[1, 2, 1])];
    let mut house = House::new([]);
    let offer = house.say(&packet(pi, discover)).await.unwrap();
    assert_eq!(
        option(&offer, 43).unwrap(),
        b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff"
    );
    assert_eq!(option(&offer, 60), Some(&b"PXEClient"[..]));
    assert_eq!(option(&offer, 66), Some(&b"10.88.0.1"[..]));
    assert_eq!(offer[20..24], [10, 88, 0, 1], "it asks TFTP there for its own names");
    assert_eq!(option(&offer, 67), None);
}

#[tokio::test]
async fn u_boot_finds_its_file_in_the_header() {
    let mut house = House::new([]);
    for (class, architecture) in
        [(&b"U-Boot.armv8"[..], &[0u8, 22][..]), (b"U-Boot.armv8", &[]), (b"PXEClient:Arch:00022", &[0, 22])]
    {
        let discover = packet(MAC, &[(53, &[1]), (60, class), (93, architecture)]);
        let offer = house.say(&discover).await.unwrap();
        assert_eq!(&offer[108..123], b"ipxe-arm64.efi\0", "{class:?} {architecture:?}");
        assert_eq!(offer[20..24], [10, 88, 0, 1]);
    }
    let unknown = packet(MAC, &[(53, &[1]), (60, b"U-Boot.mips")]);
    assert_eq!(option(&house.say(&unknown).await.unwrap(), 67), None);
}

#[tokio::test]
async fn a_machine_may_be_led_otherwise_than_its_kind() {
    let uefi: &[(u8, &[u8])] = &[(53, &[1]), (60, b"PXEClient:Arch:00007"), (93, &[0, 7])];
    for (pxe, class, vendor, file) in [
        (None, None, None, true),
        (Some(PxeLead::Bare), None, None, true),
        (Some(PxeLead::Skip), Some(&b"PXEClient"[..]), Some(Lead::Skip.vendor_options()), true),
        (Some(PxeLead::Ask), Some(b"PXEClient"), None, false),
    ] {
        let own = Particulars { quirks: Quirks { pxe }, ..Particulars::default() };
        let mut house = house("", own);
        let offer = house.say(&packet(MAC, uefi)).await;
        assert_eq!(option(&offer, 60), class, "{pxe:?}");
        assert_eq!(option(&offer, 43), vendor, "{pxe:?}");
        assert_eq!(option(&offer, 67).is_some(), file, "{pxe:?}");
        assert_eq!(offer[108] != 0, file, "{pxe:?}");
    }
}
