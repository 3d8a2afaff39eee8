//! RFC 8415 and RFC 5970, rule by rule, on the whole server: bytes in, bytes out.

use super::house::*;
use provisioner::dhcp::v6::LeaseRecord;
use std::{net::Ipv6Addr, sync::atomic::Ordering};

const SUCCESS: u16 = 0;
const NO_ADDRESSES: u16 = 2;
const NO_BINDING: u16 = 3;
const NOT_ON_LINK: u16 = 4;
const USE_MULTICAST: u16 = 5;

/// Sends it and wants silence with this reason.
async fn discarded(packet: &[u8], unicast: bool, why: &str) {
    let mut house = House::new([]);
    assert_eq!(house.send(packet, PEER, unicast).await, None, "{packet:?}");
    assert_eq!(house.malformed(), [why], "{packet:?}");
    assert!(house.ear.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn rfc8415_16_2_solicit_without_client_id_or_with_server_id_is_discarded() {
    discarded(&message(SOLICIT, &[ia(&[])]), false, "no client identifier").await;
    let named = message(SOLICIT, &[client_id(), server_id(), ia(&[])]);
    discarded(&named, false, "a server identifier where none may be").await;
}

#[tokio::test]
async fn rfc8415_16_4_request_without_or_with_a_foreign_server_id_is_discarded() {
    discarded(&message(REQUEST, &[client_id(), ia(&[])]), false, "no server identifier").await;
    let foreign = message(REQUEST, &[client_id(), option(2, &[0, 4, 1]), ia(&[])]);
    discarded(&foreign, false, "meant for another server").await;
    discarded(&message(REQUEST, &[server_id(), ia(&[])]), false, "no client identifier").await;
}

#[tokio::test]
async fn rfc8415_16_5_confirm_without_client_id_or_with_server_id_is_discarded() {
    discarded(&message(CONFIRM, &[ia(&[ip(5)])]), false, "no client identifier").await;
    let named = message(CONFIRM, &[client_id(), server_id(), ia(&[ip(5)])]);
    discarded(&named, false, "a server identifier where none may be").await;
}

#[tokio::test]
async fn rfc8415_16_6_to_16_10_renew_rebind_decline_release() {
    for kind in [RENEW, DECLINE, RELEASE] {
        discarded(&message(kind, &[client_id(), ia(&[ip(5)])]), false, "no server identifier").await;
        let foreign = message(kind, &[client_id(), option(2, &[0, 4, 1]), ia(&[ip(5)])]);
        discarded(&foreign, false, "meant for another server").await;
        discarded(&message(kind, &[server_id(), ia(&[ip(5)])]), false, "no client identifier").await;
    }
    let named = message(REBIND, &[client_id(), server_id(), ia(&[ip(5)])]);
    discarded(&named, false, "a server identifier where none may be").await;
    discarded(&message(REBIND, &[ia(&[ip(5)])]), false, "no client identifier").await;
}

#[tokio::test]
async fn rfc8415_16_12_information_request_with_an_association_or_a_foreign_server_is_discarded() {
    let with = message(INFORMATION, &[client_id(), ia(&[])]);
    discarded(&with, false, "an information request with an identity association").await;
    let foreign = message(INFORMATION, &[option(2, &[0, 4, 1])]);
    discarded(&foreign, false, "meant for another server").await;
    // Without a client identifier it is answered.
    let mut house = House::new([]);
    let answer = house.say(&message(INFORMATION, &[option(6, &[0, 23])])).await.unwrap();
    assert_eq!((answer.kind(), answer.value(23)), (REPLY, Some(&SERVER.octets()[..])));
}

#[tokio::test]
async fn rfc8415_16_messages_of_servers_and_relays_answers_are_discarded() {
    for kind in [ADVERTISE, REPLY, 10, 13] {
        let packet = message(kind, &[client_id(), server_id()]);
        discarded(&packet, false, "not a message that a client sends to a server").await;
    }
}

#[tokio::test]
async fn rfc8415_11_1_an_identifier_that_is_no_duid_is_discarded() {
    for duid in [&[0u8, 3][..], &[1; 131]] {
        let packet = message(SOLICIT, &[option(1, duid), ia(&[])]);
        discarded(&packet, false, "a client identifier that is no DUID").await;
    }
}

#[tokio::test]
async fn rfc8415_16_multicast_messages_sent_to_this_host_are_discarded() {
    for (kind, options) in [
        (SOLICIT, vec![client_id(), ia(&[])]),
        (CONFIRM, vec![client_id(), ia(&[ip(5)])]),
        (REBIND, vec![client_id(), ia(&[ip(5)])]),
        (INFORMATION, vec![client_id()]),
    ] {
        let why = "sent to this server's own address, where it must be multicast";
        discarded(&message(kind, &options), true, why).await;
    }
}

#[tokio::test]
async fn rfc8415_18_3_2_unicast_without_leave_is_told_use_multicast_and_nothing_else() {
    for kind in [REQUEST, RENEW, RELEASE, DECLINE] {
        let mut house = House::new([]);
        let held = lease(&mut house).await;
        let before = house.journal.records.lock().unwrap().len();
        let packet = message(kind, &[client_id(), server_id(), ia(&[held]), option(6, &[0, 23])]);
        let answer = Answer(house.send(&packet, PEER, true).await.unwrap().bytes);
        assert_eq!((answer.kind(), answer.status()), (REPLY, Some(USE_MULTICAST)));
        assert_eq!((answer.value(1), answer.value(2)), (Some(CLIENT_ID), Some(DUID)));
        assert!(answer.value(3).is_none() && answer.value(23).is_none());
        assert_eq!(house.journal.records.lock().unwrap().len(), before, "it was done all the same");
    }
}

#[tokio::test]
async fn rfc8415_18_3_9_advertise_offers_and_does_not_commit() {
    let mut house = House::new([]);
    let answer = house.say(&message(SOLICIT, &[client_id(), ia(&[])])).await.unwrap();
    assert_eq!((answer.kind(), answer.0[1..4].to_vec()), (ADVERTISE, vec![1, 2, 3]));
    assert_eq!((answer.value(1), answer.value(2)), (Some(CLIENT_ID), Some(DUID)));
    assert!(answer.address().is_some());
    assert!(house.journal.records.lock().unwrap().is_empty());
}

#[tokio::test]
async fn rfc8415_18_3_9_no_addresses_is_said_inside_the_association() {
    let none = "interface = \"s0\"\n[[subnets]]\nnetwork = \"fd88::/64\"\n";
    let mut house = House::with(none, [], &[]);
    let answer = house.say(&message(SOLICIT, &[client_id(), ia(&[])])).await.unwrap();
    assert_eq!((answer.kind(), answer.ia_status(), answer.status()), (ADVERTISE, Some(NO_ADDRESSES), None));
    // An answer that gives nothing does not ask to be preferred.
    assert_eq!(answer.value(7), None);
    let asked = message(REQUEST, &[client_id(), server_id(), ia(&[ip(0x100)])]);
    assert_eq!(house.say(&asked).await.unwrap().ia_status(), Some(NO_ADDRESSES));
}

#[tokio::test]
async fn rfc8415_18_3_1_rapid_commit_gives_the_lease_at_once() {
    let mut house = House::new([]);
    let quick = message(SOLICIT, &[client_id(), ia(&[]), option(14, &[])]);
    let answer = house.say(&quick).await.unwrap();
    assert_eq!((answer.kind(), answer.value(14)), (REPLY, Some(&[][..])));
    let records = house.journal.records.lock().unwrap().clone();
    assert!(matches!(&records[..], [LeaseRecord::Bound { ip, .. }] if Some(*ip) == answer.address()));
    // Beside another server it would waste an address at each boot.
    let mut beside = House::with(&format!("sole_server = false\n{STATEFUL}"), [], &[]);
    let answer = beside.say(&quick).await.unwrap();
    assert_eq!((answer.kind(), answer.value(14), answer.value(7)), (ADVERTISE, None, None));
}

#[tokio::test]
async fn rfc8415_18_3_2_request_binds_and_an_address_of_another_link_is_not_on_link() {
    let mut house = House::new([]);
    let held = lease(&mut house).await;
    let records = house.journal.records.lock().unwrap().clone();
    assert!(
        matches!(&records[..], [LeaseRecord::Bound { ip, duid, .. }] if *ip == held && duid == CLIENT_ID)
    );
    let elsewhere = "fd99::105".parse().unwrap();
    let asked = message(REQUEST, &[client_id(), server_id(), ia(&[elsewhere])]);
    let answer = house.say(&asked).await.unwrap();
    assert_eq!((answer.ia_status(), answer.address()), (Some(NOT_ON_LINK), None));
}

#[tokio::test]
async fn rfc8415_18_3_3_confirm_says_only_whether_the_addresses_fit_the_link() {
    let mut house = House::new([]);
    for (addresses, status) in [
        (vec![ip(0x105)], SUCCESS),
        (vec![ip(0x105), ip(0x300)], SUCCESS),
        (vec![ip(0x105), "fd99::5".parse().unwrap()], NOT_ON_LINK),
    ] {
        let answer = house.say(&message(CONFIRM, &[client_id(), ia(&addresses)])).await.unwrap();
        assert_eq!((answer.status(), answer.value(3)), (Some(status), None), "{addresses:?}");
    }
    assert!(house.say(&message(CONFIRM, &[client_id(), ia(&[])])).await.is_none());
}

#[tokio::test]
async fn rfc8415_18_3_4_renew_extends_and_nobodys_association_is_no_binding() {
    let mut house = House::new([]);
    let held = lease(&mut house).await;
    let answer = house.say(&message(RENEW, &[client_id(), server_id(), ia(&[held])])).await.unwrap();
    assert_eq!(answer.addresses(), [(held, 3600)]);
    assert_eq!(house.journal.records.lock().unwrap().len(), 2);
    // Of another machine, which the table knows nothing of.
    let stranger = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe99, 0x9999);
    let packet = message(RENEW, &[client_id(), server_id(), ia(&[held])]);
    let answer = Answer(house.send(&packet, stranger, false).await.unwrap().bytes);
    assert_eq!((answer.ia_status(), answer.address()), (Some(NO_BINDING), None));
}

#[tokio::test]
async fn rfc8415_18_3_4_renew_of_an_address_of_another_link_ends_it_with_lifetimes_of_0() {
    let mut house = House::new([]);
    let elsewhere: Ipv6Addr = "fd99::105".parse().unwrap();
    let packet = message(RENEW, &[client_id(), server_id(), ia(&[elsewhere])]);
    let answer = house.say(&packet).await.unwrap();
    assert_eq!((answer.addresses(), answer.ia_status()), (vec![(elsewhere, 0)], None));
}

#[tokio::test]
async fn rfc8415_18_3_5_rebind_after_the_table_was_lost_and_silence_on_anothers_addresses() {
    let mut house = House::new([]);
    let answer = house.say(&message(REBIND, &[client_id(), ia(&[ip(0x105)])])).await.unwrap();
    assert_eq!(answer.addresses(), [(ip(0x105), 3600)]);
    // On this link, in no pool and nobody's reservation: another server's, perhaps.
    assert!(house.say(&message(REBIND, &[client_id(), ia(&[ip(0x5000)])])).await.is_none());
}

#[tokio::test]
async fn rfc8415_18_3_7_release_ends_the_lease_and_is_always_acknowledged() {
    let mut house = House::new([]);
    let held = lease(&mut house).await;
    let packet = message(RELEASE, &[client_id(), server_id(), ia(&[held])]);
    let answer = house.say(&packet).await.unwrap();
    assert_eq!((answer.kind(), answer.status(), answer.value(3)), (REPLY, Some(SUCCESS), None));
    assert!(matches!(house.journal.records.lock().unwrap().last(), Some(LeaseRecord::Ended { .. })));
    let never = message(RELEASE, &[client_id(), server_id(), ia(&[ip(0x1fe)])]);
    let answer = house.say(&never).await.unwrap();
    assert_eq!((answer.status(), answer.ia_status()), (Some(SUCCESS), Some(NO_BINDING)));
}

#[tokio::test]
async fn rfc8415_18_3_8_decline_quarantines_only_what_the_client_was_given() {
    let mut house = House::new([]);
    let held = lease(&mut house).await;
    let decline = |address| message(DECLINE, &[client_id(), server_id(), ia(&[address])]);
    let answer = house.say(&decline(held)).await.unwrap();
    assert_eq!((answer.status(), answer.ia_status()), (Some(SUCCESS), None));
    assert!(house.last_heard().contains(&format!("it found {held} in use by another host")));
    assert_ne!(lease(&mut house).await, held);
    let before = house.journal.records.lock().unwrap().len();
    let answer = house.say(&decline(ip(0x1fe))).await.unwrap();
    assert_eq!((answer.ia_status(), house.journal.records.lock().unwrap().len()), (Some(NO_BINDING), before));
}

#[tokio::test]
async fn a_lease_that_could_not_be_kept_is_not_given() {
    let mut house = House::new([]);
    house.journal.broken.store(true, Ordering::Relaxed);
    let quick = message(SOLICIT, &[client_id(), ia(&[]), option(14, &[])]);
    assert!(house.say(&quick).await.is_none());
    assert!(house.last_heard().contains("its lease could not be kept"));
    // What promises nothing is said all the same.
    assert!(house.say(&message(SOLICIT, &[client_id(), ia(&[])])).await.is_some());
    house.journal.broken.store(false, Ordering::Relaxed);
    assert!(house.say(&quick).await.is_some());
}

#[tokio::test]
async fn rfc8415_19_relayed_messages_get_addresses_of_the_relays_link() {
    let mut house = House::new([]);
    let link = "fd99::1".parse().unwrap();
    let inner = message(SOLICIT, &[client_id(), ia(&[])]);
    let packet = relayed(link, PEER, &[option(18, b"eth7")], &inner);
    let reply = house.send(&packet, "fd99::1".parse().unwrap(), true).await.unwrap();
    assert_eq!((reply.bytes[0], reply.to.port()), (13, 547));
    let options = provisioner::dhcp::v6::intake::scan(&reply.bytes[34..]).unwrap();
    assert_eq!(options[0], (18, &b"eth7"[..]));
    let answer = Answer(options[1].1.to_vec());
    assert!(answer.address().unwrap().to_string().starts_with("fd99::1"));
    assert!(house.last_heard().contains("by relay fd99::1"));
    // A link that is not served.
    let packet = relayed("fd77::1".parse().unwrap(), PEER, &[], &inner);
    assert_eq!(house.send(&packet, "fd77::1".parse().unwrap(), true).await, None);
    assert!(house.last_heard().contains("it is on no subnet that is served"));
}

#[tokio::test]
async fn rfc8415_7_6_nine_relays_are_a_loop() {
    let mut packet = message(SOLICIT, &[client_id(), ia(&[])]);
    for _ in 0..9 {
        packet = relayed("fd99::1".parse().unwrap(), PEER, &[], &packet);
    }
    discarded(&packet, true, "went through more than 8 relays").await;
}

#[tokio::test]
async fn rfc8415_21_9_elapsed_time_changes_nothing() {
    let mut house = House::new([]);
    let plain = house.say(&message(SOLICIT, &[client_id(), ia(&[])])).await.unwrap();
    let late = message(SOLICIT, &[client_id(), ia(&[]), option(8, &[0xff, 0xff])]);
    assert_eq!(house.say(&late).await.unwrap().0, plain.0);
}

#[tokio::test]
async fn rfc5970_boot_options_only_for_who_asks_for_them() {
    let mut house = House::new([]);
    let asks = message(SOLICIT, &[client_id(), ia(&[]), uefi("PXEClient", 7)]);
    let answer = house.say(&asks).await.unwrap();
    assert_eq!(answer.text(59).as_deref(), Some("tftp://[fd88::1]/snponly.efi"));
    assert_eq!((answer.value(60), answer.value(16)), (None, None));
    let mut silent = uefi("PXEClient", 7);
    silent[4..10].copy_from_slice(&[0, 24, 0, 24, 0, 24]);
    let answer = house.say(&message(SOLICIT, &[client_id(), ia(&[]), silent])).await.unwrap();
    assert_eq!(answer.value(59), None);
    // No firmware: it may ask as it likes.
    let system = message(SOLICIT, &[client_id(), ia(&[]), option(6, &[0, 59])]);
    assert_eq!(house.say(&system).await.unwrap().value(59), None);
}

#[tokio::test]
async fn rfc5970_3_2_boot_parameters_are_told_to_firmware_that_asks() {
    let config = format!("boot_parameters = [\"root=/dev/ram0\", \"quiet\"]\n{STATEFUL}");
    let mut house = House::with(&config, [], &[]);
    let asks = message(SOLICIT, &[client_id(), ia(&[]), uefi("PXEClient", 7)]);
    let value = house.say(&asks).await.unwrap().value(60).unwrap().to_vec();
    assert_eq!(value, b"\x00\x0eroot=/dev/ram0\x00\x05quiet");
}

#[tokio::test]
async fn uefi_http_boot_gets_a_url_and_its_own_class_and_pxe_never_does() {
    let mut house = House::new([]);
    let http = message(SOLICIT, &[client_id(), ia(&[]), uefi("HTTPClient", 16)]);
    let answer = house.say(&http).await.unwrap();
    assert_eq!(answer.text(59).as_deref(), Some("http://[fd88::1]:8080/boot/files/snponly.efi"));
    assert_eq!(answer.value(16).unwrap(), b"\0\0\x01\x57\0\x0aHTTPClient");
    let pxe = message(SOLICIT, &[client_id(), ia(&[]), uefi("PXEClient", 7)]);
    assert_eq!(house.say(&pxe).await.unwrap().value(16), None);
}

#[tokio::test]
async fn an_unknown_architecture_gets_an_address_and_no_file() {
    let mut house = House::new([]);
    let packet = message(SOLICIT, &[client_id(), ia(&[]), uefi("PXEClient", 12)]);
    let answer = house.say(&packet).await.unwrap();
    assert!(answer.address().is_some() && answer.value(59).is_none());
    assert!(house.last_heard().contains("no boot file is known for architecture 12"));
}

#[tokio::test]
async fn ipxe_gets_its_machines_script() {
    let mut house = House::new([]);
    let ipxe = [option(15, b"\x00\x04iPXE"), option(6, &[0, 59])].concat();
    let answer = house.say(&message(SOLICIT, &[client_id(), ia(&[]), ipxe])).await.unwrap();
    assert_eq!(answer.text(59).as_deref(), Some("http://[fd88::1]:8080/boot/52-54-00-01-02-03.ipxe"));
}

#[tokio::test]
async fn rfc4578_62_undi_is_echoed_only_when_asked_for() {
    let mut house = House::new([]);
    let undi = option(62, &[1, 3, 16]);
    let with = message(SOLICIT, &[client_id(), ia(&[]), undi.clone(), option(6, &[0, 62])]);
    assert_eq!(house.say(&with).await.unwrap().value(62), Some(&[1, 3, 16][..]));
    let without = message(SOLICIT, &[client_id(), ia(&[]), undi, option(6, &[0, 59])]);
    assert_eq!(house.say(&without).await.unwrap().value(62), None);
}

#[tokio::test]
async fn pixiefail_server_id_and_name_servers_are_short() {
    let mut house = House::new([]);
    let answer = house.say(&message(SOLICIT, &[client_id(), ia(&[]), option(6, &[0, 23])])).await.unwrap();
    assert!(answer.value(2).unwrap().len() <= 20 && answer.value(23).unwrap().len() <= 3 * 16);
}

#[tokio::test]
async fn stateless_answers_information_requests_only() {
    let mut house = House::with(STATELESS, [], &[]);
    let asks = [option(15, b"\x00\x04iPXE"), option(6, &[0, 59, 0, 32])].concat();
    let answer = house.say(&message(INFORMATION, &[client_id(), asks])).await.unwrap();
    assert_eq!(answer.text(59).as_deref(), Some("http://[fd88::1]:8080/boot/52-54-00-01-02-03.ipxe"));
    assert_eq!(answer.value(32), Some(&600u32.to_be_bytes()[..]));
    for kind in [SOLICIT, REBIND, CONFIRM] {
        assert!(house.say(&message(kind, &[client_id(), ia(&[ip(5)])])).await.is_none(), "{kind}");
        assert!(house.last_heard().contains("others give addresses here"));
    }
}
