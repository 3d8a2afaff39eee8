//! proxyDHCP and the boot server of port 4011 (PXE 2.1 §2): who is answered, who is not, and with what. What firmware does
//! with it is in `tests/vm/proxy.rs`.

use super::house::{Declared, House, SERVER, option, packet, subnets};
use provisioner::dhcp::{Who, config::Mode};
use provisioner_wire::Mac;
use std::net::{Ipv4Addr, SocketAddrV4};

const MAC: Mac = Mac([0x52, 0x54, 0, 9, 9, 9]);
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, 60), 1068);
const BIOS: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];

fn with(first: &[(u8, &[u8])], more: &[(u8, &[u8])]) -> Vec<u8> {
    packet(MAC, &first.iter().chain(more).copied().collect::<Vec<_>>())
}

fn proxy() -> House {
    House::in_mode(Mode::Proxy, [])
}

#[tokio::test]
async fn pxe21_2_2_only_a_discover_of_a_boot_client_is_answered_on_port_67() {
    let mut house = proxy();
    assert!(house.say(&with(&[(53, &[1])], BIOS)).await.is_some());
    for (kind, why) in [(3u8, "request"), (4, "decline"), (7, "release"), (8, "inform")] {
        assert_eq!(house.say(&with(&[(53, &[kind])], BIOS)).await, None, "{why}");
        assert!(house.said().contains("its own DHCP server"), "{}", house.said());
    }
    for class in [&b"MSFT 5.0"[..], b"udhcp 1.36", b"pxeclient", b""] {
        assert_eq!(house.say(&packet(MAC, &[(53, &[1]), (60, class)])).await, None, "{class:?}");
    }
    assert!(house.said().contains("does not boot from the network"), "{}", house.said());
}

#[tokio::test]
async fn pxe21_a_client_that_may_not_boot_is_not_answered_at_all() {
    let mut house = House::in_mode(Mode::Proxy, [(MAC, Who::Unknown { netboot: false })]);
    assert_eq!(house.say(&with(&[(53, &[1])], BIOS)).await, None);
    assert_eq!(house.ask(&with(&[(53, &[3])], BIOS), PEER).await, None);
}

#[tokio::test]
async fn pxe21_a_bios_rom_is_told_to_look_no_further() {
    let mut house = proxy();
    let offer = house.say(&with(&[(53, &[1])], BIOS)).await.unwrap();
    assert_eq!(option(&offer, 43), Some(&[6, 1, 8, 255][..]));
    assert_eq!(&offer[108..122], b"undionly.kpxe\0");
    assert_eq!(option(&offer, 54), Some(&SERVER.octets()[..]), "some ROMs broadcast to 4011 without it");
}

#[tokio::test]
async fn pxe21_only_a_request_is_answered_on_port_4011_to_where_it_came_from() {
    let house = proxy();
    for kind in [1u8, 4, 7, 8] {
        assert_eq!(house.ask(&with(&[(53, &[kind])], BIOS), PEER).await, None, "{kind}");
    }
    let acknowledged = house.ask(&with(&[(53, &[3])], BIOS), PEER).await.unwrap();
    assert_eq!(option(&acknowledged, 53), Some(&[5][..]));
    let other = house.ask(&with(&[(53, &[3]), (54, &[10, 88, 0, 2])], BIOS), PEER).await;
    assert_eq!(other, None, "it has chosen another boot server");
    let ours = house.ask(&with(&[(53, &[3]), (54, &SERVER.octets())], BIOS), PEER).await;
    assert!(ours.is_some());
}

#[tokio::test]
async fn port_4011_answers_no_address_of_elsewhere() {
    let house = proxy();
    let far = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 4011);
    assert_eq!(house.ask(&with(&[(53, &[3])], BIOS), far).await, None);
    assert!(house.said().contains("no subnet that is served"));
}

#[tokio::test]
async fn port_4011_answers_in_server_mode_too() {
    let house = House::new([]);
    let acknowledged = house.ask(&with(&[(53, &[3])], BIOS), PEER).await.unwrap();
    assert_eq!(option(&acknowledged, 67), Some(&b"undionly.kpxe"[..]));
    assert_eq!(acknowledged[16..20], [0; 4]);
}

#[tokio::test]
async fn pxe21_2_2_6_the_chosen_boot_item_comes_back() {
    let house = proxy();
    let asked = with(&[(53, &[3]), (43, &[71, 4, 0x12, 0x34, 0, 0, 255])], BIOS);
    let acknowledged = house.ask(&asked, PEER).await.unwrap();
    assert_eq!(option(&acknowledged, 43), Some(&[71, 4, 0x12, 0x34, 0, 0, 255][..]));
    for broken in [&[71, 4, 1][..], &[71, 2, 1, 1, 255], &[71]] {
        let acknowledged = house.ask(&with(&[(53, &[3]), (43, broken)], BIOS), PEER).await.unwrap();
        assert_eq!(option(&acknowledged, 43), Some(&[6, 1, 8, 255][..]), "{broken:?}");
    }
}

#[tokio::test]
async fn a_relayed_discover_is_offered_to_by_its_relay() {
    let mut house = proxy();
    let mut discover = with(&[(53, &[1]), (82, &[1, 2, 9, 9])], BIOS);
    discover[24..28].copy_from_slice(&[10, 99, 0, 1]);
    let replies = house.server.answer(&[discover], super::house::NOW).await;
    assert_eq!(replies[0].to, SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 67));
    assert_eq!(option(&replies[0].bytes, 82), Some(&[1, 2, 9, 9][..]));
}

#[tokio::test]
async fn modes_of_two_subnets_of_one_interface_do_not_mix() {
    let mut both = subnets();
    both[1].mode = Mode::Proxy;
    let mut house = House::of(Declared::default(), both, &[]);
    let near = house.say(&with(&[(53, &[1])], BIOS)).await.unwrap();
    assert_eq!(near[16..19], [10, 88, 0]);
    let mut far = with(&[(53, &[1])], BIOS);
    far[24..28].copy_from_slice(&[10, 99, 0, 1]);
    assert_eq!(house.say(&far).await.unwrap()[16..20], [0; 4]);
}

#[tokio::test]
async fn a_chain_load_loop_ends_in_proxy_mode_too() {
    let mut house = proxy();
    let no_http: &[(u8, &[u8])] =
        &[(60, b"PXEClient:Arch:00000"), (77, b"iPXE"), (93, &[0, 0]), (175, &[0x15, 1, 1])];
    for round in 0..4u8 {
        let mut discover = with(&[(53, &[1])], no_http);
        discover[4] = round;
        let first = house.say(&discover).await;
        let again = house.say(&discover).await;
        assert_eq!(first.is_some(), round < 2, "round {round}: {}", house.said());
        assert!(again.is_none() || round < 2, "a repeated packet is no round of its own");
    }
    assert!(house.said().contains("loads itself again and again"), "{}", house.said());
}
