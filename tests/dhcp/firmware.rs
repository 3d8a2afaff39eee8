//! Captured packets of real firmware and the exact answers to them. `UPDATE_GOLDEN=1` writes the answers anew; read the
//! difference before you commit it.

use super::{
    captures::{fixtures, frames, udp},
    house::{House, SERVER, option, packet},
};
use provisioner::dhcp::{Said, Told, Who, config::Mode};
use provisioner_wire::{Mac, ids::hex};
use std::{
    fmt::Write,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
};

/// Name of the capture, the boot file, option 60.
const FIRMWARE: [(&str, &str, Option<&str>); 13] = [
    ("aavmf-arm64.httpclient-arch19.discover", "http://10.88.0.1:8080/boot/files/ipxe-arm64.efi", HTTP),
    ("aavmf-arm64.pxeclient-arch11.discover", "ipxe-arm64.efi", None),
    ("ovmf-x64-ipxe-rom.pxeclient-arch7.discover", "snponly.efi", None),
    ("ovmf-x64-ipxe-rom.pxeclient-arch7-ipxe.discover", SCRIPT, None),
    ("ovmf-x64-tftp-chain.pxeclient-arch7.discover", "snponly.efi", None),
    ("ovmf-x64-tftp-chain.pxeclient-arch7-ipxe.discover", SCRIPT, None),
    ("ovmf-x64-uuid.httpclient-arch16.discover", "http://10.88.0.1:8080/boot/files/snponly.efi", HTTP),
    ("ovmf-x64-uuid.pxeclient-arch7.discover", "snponly.efi", None),
    ("ovmf-x64.httpclient-arch16.discover", "http://10.88.0.1:8080/boot/files/snponly.efi", HTTP),
    ("ovmf-x64.pxeclient-arch7.discover", "snponly.efi", None),
    ("seabios-e1000-ipxe.pxeclient-arch0-ipxe.discover", SCRIPT, None),
    ("seabios-ipxe-rom.pxeclient-arch0-ipxe.discover", SCRIPT, None),
    ("seabios-ipxe-uuid.pxeclient-arch0-ipxe.discover", SCRIPT, None),
];
const HTTP: Option<&str> = Some("HTTPClient");
const SCRIPT: &str = "http://10.88.0.1:8080/boot/{mac}.ipxe";

fn payload(name: &str) -> Vec<u8> {
    fs::read(fixtures("firmware-captures/payloads").join(format!("{name}.bin"))).unwrap()
}

fn mac_of(packet: &[u8]) -> Mac {
    Mac(packet[28..34].try_into().unwrap())
}

fn known(address: Ipv4Addr, netboot: bool) -> Who {
    Who::Known { name: "alpha".parse().unwrap(), address: Some(address), netboot }
}

/// The answer, readable and whole: header and options a line each, then all bytes.
fn shown(answer: &[u8]) -> String {
    let mut text = String::new();
    for (name, range) in
        [("head", 0..12), ("ciaddr", 12..16), ("yiaddr", 16..20), ("siaddr", 20..24), ("giaddr", 24..28)]
    {
        writeln!(text, "{name} {}", hex(&answer[range])).unwrap();
    }
    writeln!(text, "chaddr {}", hex(&answer[28..44])).unwrap();
    for (name, range) in [("sname", 44..108), ("file", 108..236)] {
        let field = String::from_utf8_lossy(&answer[range]);
        writeln!(text, "{name} {:?}", field.trim_end_matches('\0')).unwrap();
    }
    let mut rest = &answer[240..];
    while let [code, length, tail @ ..] = rest
        && *code != 255
    {
        let value = &tail[..usize::from(*length)];
        let printable = value.len() > 4 && value.iter().all(u8::is_ascii_graphic);
        let value_text = if printable { String::from_utf8_lossy(value).into_owned() } else { hex(value) };
        writeln!(text, "option {code} {value_text}").unwrap();
        rest = &tail[usize::from(*length)..];
    }
    writeln!(text, "bytes {}", hex(answer)).unwrap();
    text
}

/// Compares an answer with the one that was written down; says where they differ.
fn golden(name: &str, answer: &[u8], wrong: &mut Vec<String>) {
    let golden = fixtures("golden-dhcp").join(format!("{name}.txt"));
    let shown = shown(answer);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        fs::write(&golden, &shown).unwrap();
    }
    if fs::read_to_string(&golden).unwrap_or_default() != shown {
        wrong.push(format!("{}:\n{shown}", golden.display()));
    }
}

#[tokio::test]
async fn captured_firmware_gets_the_golden_answers() {
    let mut wrong = Vec::new();
    for (name, file, class) in FIRMWARE {
        let discover = payload(name);
        let mac = mac_of(&discover);
        let mut house = House::new([(mac, known(Ipv4Addr::new(10, 88, 0, 20), true))]);
        let answer = house.say(&discover).await.unwrap();
        let file = file.replace("{mac}", &mac.hyphened());
        assert_eq!(option(&answer, 67).unwrap(), file.as_bytes(), "{name}");
        assert_eq!(option(&answer, 60), class.map(str::as_bytes), "{name}");
        assert_eq!(option(&answer, 97), option(&discover, 97), "{name}");
        assert!(answer.len() >= 300 && answer[4..8] == discover[4..8] && answer[10..12] == discover[10..12]);
        golden(name, &answer, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The packet as a REQUEST to port 4011, as the same firmware sends it once it has this address.
fn asked_at_4011(discover: &[u8]) -> Vec<u8> {
    let mut request = discover.to_vec();
    let at = (240..request.len()).find(|i| request[*i..].starts_with(&[53, 1])).unwrap();
    request[at + 2] = 3;
    request[12..16].copy_from_slice(&PEER.ip().octets());
    request
}

const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, 60), 68);

#[tokio::test]
async fn captured_firmware_gets_the_golden_answers_as_proxy_and_on_port_4011() {
    let mut wrong = Vec::new();
    for (name, file, _) in FIRMWARE {
        let discover = payload(name);
        let mac = mac_of(&discover);
        let mut house = House::in_mode(Mode::Proxy, [(mac, known(Ipv4Addr::new(10, 88, 0, 20), true))]);
        let file = file.replace("{mac}", &mac.hyphened());
        let offer = house.say(&discover).await.unwrap();
        let acknowledged = house.ask(&asked_at_4011(&discover), PEER).await.unwrap();
        for (answer, kind) in [(&offer, 2u8), (&acknowledged, 5)] {
            let http = name.contains("httpclient");
            let class: &[u8] = if http { b"HTTPClient" } else { b"PXEClient" };
            assert_eq!(option(answer, 53), Some(&[kind][..]), "{name}");
            assert_eq!(option(answer, 60), Some(class), "{name}: a proxy is known by it");
            assert_eq!(option(answer, 67), Some(file.as_bytes()), "{name}");
            assert_eq!(answer[16..20], [0; 4], "{name}: a proxy gives no address");
            assert_eq!(answer[20..24], SERVER.octets(), "{name}");
            for code in [1, 3, 6, 12, 50, 51, 58, 59, 175] {
                assert_eq!(option(answer, code), None, "{name}: {code} is the other server's to say");
            }
        }
        golden(&format!("{name}.proxy"), &offer, &mut wrong);
        golden(&format!("{name}.4011"), &acknowledged, &mut wrong);
        assert_eq!(house.journal.records.lock().unwrap().len(), 0, "a proxy leases nothing");
        let mut off = House::in_mode(Mode::Off, []);
        assert_eq!(off.say(&discover).await, None, "{name}");
        assert_eq!(off.ask(&asked_at_4011(&discover), PEER).await, None, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn captured_requests_are_acknowledged_after_their_discovers() {
    for capture in ["ovmf-x64-tftp-chain.pxeclient-arch7", "seabios-ipxe-uuid.pxeclient-arch0-ipxe"] {
        let (discover, mut request) =
            (payload(&format!("{capture}.discover")), payload(&format!("{capture}.request")));
        let mut house = House::new([]);
        let offer = house.say(&discover).await.unwrap();
        assert_eq!(option(&offer, 53), Some(&[2][..]));
        // The capture chose its own lab's server and address; put ours in their place.
        for (code, value) in [(54u8, SERVER.octets()), (50, offer[16..20].try_into().unwrap())] {
            let at = (240..request.len()).find(|i| request[*i..].starts_with(&[code, 4])).unwrap();
            request[at + 2..at + 6].copy_from_slice(&value);
        }
        let ack = house.say(&request).await.unwrap();
        assert_eq!((option(&ack, 53), &ack[16..20]), (Some(&[5][..]), &offer[16..20]), "{capture}");
        assert_eq!(option(&ack, 67), option(&offer, 67));
        assert_eq!(option(&ack, 61), option(&request, 61));
        assert_eq!(house.journal.records.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_option_97_byte_order_of_real_firmware() {
    let mut house = House::new([]);
    for name in ["ovmf-x64-uuid.pxeclient-arch7", "seabios-ipxe-uuid.pxeclient-arch0-ipxe"] {
        house.say(&payload(&format!("{name}.discover"))).await.unwrap();
    }
    let heard = house.ear.heard.lock().unwrap();
    for one in heard.iter() {
        assert_eq!(one.client.uuid.unwrap().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }
    assert_eq!(heard.len(), 2);
}

#[tokio::test]
async fn the_recorded_chain_load_loop_is_broken() {
    // A ROM that is iPXE was given undionly.kpxe again and again: here it gets its script each time.
    let mut house = House::new([]);
    let file = fixtures("firmware-captures/seabios-ipxe-rom.nodata.pcap");
    let mut answers = 0;
    for frame in frames(&file) {
        let Some((67, payload)) = udp(&frame) else { continue };
        let Some(answer) = house.say(payload).await else { continue };
        let file = String::from_utf8_lossy(option(&answer, 67).unwrap());
        assert!(file.starts_with("http://10.88.0.1:8080/boot/") && file.ends_with(".ipxe"), "{file}");
        answers += 1;
    }
    assert!(answers > 5, "{answers}");
}

#[tokio::test]
async fn an_ipxe_that_cannot_do_http_is_named_a_loop_in_the_third_round() {
    let mac = Mac([0x52, 0x54, 0, 9, 9, 9]);
    let mut house = House::new([]);
    let common: [(u8, &[u8]); 4] =
        [(60, b"PXEClient:Arch:00000"), (77, b"iPXE"), (93, &[0, 0]), (175, &[0x15, 1, 1])];
    // Each round is an exchange of its own.
    let with = |round: u8, first: &[(u8, &'static [u8])]| {
        let mut bytes = packet(mac, &first.iter().copied().chain(common).collect::<Vec<_>>());
        bytes[4] = round;
        bytes
    };
    for round in 0..3 {
        let offer = house.say(&with(round, &[(53, &[1])])).await.unwrap();
        let address: &'static [u8] = Box::leak(offer[16..20].to_vec().into_boxed_slice());
        let ack = house.say(&with(round, &[(53, &[3]), (54, &[10, 88, 0, 1]), (50, address)])).await.unwrap();
        assert_eq!(option(&ack, 67).is_some(), round < 2, "round {round}");
    }
    let heard = house.ear.heard.lock().unwrap();
    let last = &heard.last().unwrap().said;
    assert!(
        matches!(last, Said::Ack { boot: Told::Missing(why), .. } if why.to_string().contains("loads itself"))
    );
}

#[tokio::test]
async fn an_unknown_mac_with_discovery_off_gets_an_address_and_no_boot_option() {
    let discover = payload("ovmf-x64-uuid.pxeclient-arch7.discover");
    let mut house = House::new([(mac_of(&discover), Who::Unknown { netboot: false })]);
    let answer = house.say(&discover).await.unwrap();
    for code in [43, 60, 66, 67, 150, 175] {
        assert_eq!(option(&answer, code), None, "{code}");
    }
    assert!(answer[20..24] == [0; 4] && answer[44..236].iter().all(|b| *b == 0));
}

#[tokio::test]
async fn no_address_leaves_before_its_lease_is_kept() {
    let mac = Mac([0x52, 0x54, 0, 9, 9, 9]);
    let mut house = House::new([]);
    let select = |house: &House| {
        let _ = house;
        packet(mac, &[(53, &[3]), (54, &[10, 88, 0, 1]), (50, &[10, 88, 0, 150])])
    };
    house.journal.broken.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(house.say(&select(&house)).await, None);
    assert!(house.say(&packet(mac, &[(53, &[1])])).await.is_some(), "an offer promises nothing that lasts");
    house.journal.broken.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(option(&house.say(&select(&house)).await.unwrap(), 53), Some(&[5][..]));
    let kept = house.journal.records.lock().unwrap().clone();
    let mut again = House::with([], &kept);
    let other = Mac([0x52, 0x54, 0, 9, 9, 8]);
    let stolen = packet(other, &[(53, &[3]), (54, &[10, 88, 0, 1]), (50, &[10, 88, 0, 150])]);
    assert_eq!(option(&again.say(&stolen).await.unwrap(), 53), Some(&[6][..]), "after a restart");
}

#[tokio::test]
async fn relays_choose_the_subnet_and_unserved_ones_hear_nothing() {
    let mac = Mac([0x52, 0x54, 0, 9, 9, 9]);
    let through = |relay: [u8; 4], options: &[(u8, &[u8])]| {
        let mut bytes = packet(mac, options);
        bytes[24..28].copy_from_slice(&relay);
        bytes
    };
    let mut house = House::new([]);
    let far = house.say(&through([10, 99, 0, 1], &[(53, &[1])])).await.unwrap();
    assert_eq!(far[16..18], [10, 99]);
    assert_eq!(option(&far, 1), Some(&[255, 255, 0, 0][..]));
    let selected =
        through([192, 168, 7, 1], &[(53, &[1]), (82, &[5, 4, 10, 88, 0, 0, 11, 4, 192, 168, 7, 1])]);
    let near = house.say(&selected).await.unwrap();
    assert_eq!(near[16..19], [10, 88, 0], "RFC 3527 link selection");
    assert_eq!(option(&near, 54), Some(&[192, 168, 7, 1][..]), "RFC 5107 server identifier override");
    assert_eq!(house.say(&through([172, 16, 0, 1], &[(53, &[1])])).await, None);
}
