//! What would be answered: the real DHCP server on the real tables, with a journal that keeps nothing and ears that tell
//! nobody. It has no socket, so it sends nothing.

use super::{
    boot_plane::{Net, Plane},
    lease_journal::kept,
};
use crate::{
    dhcp::{
        self, Heard, JournalError, LeaseJournal, LeaseRecord,
        answer::Reply,
        boot_server::{self, BootServer},
        client::Platform,
        intake::{Malformed, Request, code},
        server::Server,
        shown::shown,
    },
    http::boot_plane::{Captured, Exchange, Field, Question},
    machine::Time,
};
use provisioner_wire::{
    Mac,
    ids::{hex, hex_into},
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
};

/// Packets of one question.
const PACKETS_MAX: usize = 256;
/// Bytes of one packet.
const PACKET_MAX: usize = 4096;

/// Keeps nothing.
struct Nowhere;

impl LeaseJournal for Nowhere {
    async fn commit(&self, _: &[LeaseRecord]) -> Result<(), JournalError> {
        Ok(())
    }
}

/// What was heard since it was asked last.
#[derive(Default)]
struct Notes(Mutex<Vec<Result<Heard, Malformed>>>);

impl dhcp::Hearing for Notes {
    fn heard(&self, heard: Heard) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Ok(heard));
    }

    fn malformed(&self, why: Malformed) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Err(why));
    }
}

/// A server that is only asked what it would do.
struct Thought {
    server: Server<super::directory::Declared, Nowhere, Notes>,
    boot_server: BootServer<super::directory::Declared, Notes>,
    notes: Arc<Notes>,
    now: Time,
}

/// Every exchange of the question, in its order.
pub async fn what_if(plane: &Plane, question: &Question) -> Result<Vec<Exchange>, String> {
    let at = question.relay.or(question.subnet);
    let of = |net: &&Net| at.is_none_or(|ip| net.subnets.iter().any(|s| s.network.contains(&ip)));
    let net = plane.nets.iter().find(of).ok_or_else(|| match at {
        Some(ip) => format!("no subnet that is served holds {ip}"),
        None => "this server answers no DHCP: its configuration has no [[dhcp]]".to_owned(),
    })?;
    let mut kept = kept(&plane.db).await.map_err(|e| format!("{e:#}"))?;
    kept.retain(|record| net.subnets.iter().any(|subnet| subnet.network.contains(&record.address())));
    let notes = Arc::new(Notes::default());
    let (subnets, serving, directory) = (&net.subnets, &net.serving, &plane.directory);
    let server = Server::new(
        subnets.clone(),
        serving.clone(),
        &kept,
        directory.clone(),
        Arc::new(Nowhere),
        notes.clone(),
    );
    let boot_server = BootServer::new(subnets.clone(), serving.clone(), directory.clone(), notes.clone());
    let mut thought = Thought { server, boot_server, notes, now: plane.clock.now() };
    if question.packets.is_empty() {
        thought.described(question).await
    } else {
        thought.captured(question).await
    }
}

impl Thought {
    async fn captured(&mut self, question: &Question) -> Result<Vec<Exchange>, String> {
        if question.packets.len() > PACKETS_MAX {
            return Err(format!("{} packets; {PACKETS_MAX} is the most", question.packets.len()));
        }
        let mut all = Vec::new();
        for (index, Captured { port, from, bytes }) in question.packets.iter().enumerate() {
            let mut packet = vec![0; bytes.len() / 2];
            if packet.len() > PACKET_MAX || hex_into(bytes, &mut packet).is_none() {
                return Err(format!(
                    "packets[{index}].bytes: not hexadecimal, or longer than {PACKET_MAX} bytes"
                ));
            }
            if !matches!(*port, 67 | boot_server::PORT) {
                return Err(format!("packets[{index}].port: {port} is no port of DHCP; 67 or 4011"));
            }
            all.extend(self.ask(packet, *port, *from).await.map(|(exchange, _)| exchange));
        }
        Ok(all)
    }

    /// As firmware does it: discover, request, and then as the iPXE that it was told to fetch.
    async fn described(&mut self, question: &Question) -> Result<Vec<Exchange>, String> {
        let mac = question.mac.ok_or("name a MAC, or give captured packets")?;
        let firmware = question.firmware.as_deref().unwrap_or("uefi");
        let mut all = self.boot(mac, firmware, question).await?;
        let fetches = all.iter().any(|exchange| exchange.file.is_some());
        if fetches && matches!(firmware, "bios" | "uefi" | "uefi-http") {
            all.extend(self.boot(mac, "ipxe", question).await?);
        }
        Ok(all)
    }

    async fn boot(&mut self, mac: Mac, firmware: &str, question: &Question) -> Result<Vec<Exchange>, String> {
        let first = discover(mac, firmware, question)?;
        let mut all = Vec::new();
        let Some((exchange, reply)) = self.ask(first.clone(), 67, Ipv4Addr::UNSPECIFIED).await else {
            return Ok(all);
        };
        all.push(exchange);
        let Some(offer) = reply else { return Ok(all) };
        let given = offer.bytes.get(16..20).and_then(|ip| <[u8; 4]>::try_from(ip).ok()).unwrap_or_default();
        let next = if given == [0; 4] {
            // A proxy's offer: the address comes from elsewhere, and the question goes to port 4011.
            let from = question.relay.or(question.subnet).unwrap_or(self.somebody());
            self.ask(request(&first, None, from, Ipv4Addr::UNSPECIFIED), boot_server::PORT, from).await
        } else {
            let id = shown(&offer.bytes).into_iter().find(|o| o.code == "54").map(|o| o.bytes);
            let id: [u8; 4] = id.and_then(|b| b.try_into().ok()).unwrap_or_default();
            let again = request(&first, Some(given.into()), Ipv4Addr::UNSPECIFIED, id.into());
            self.ask(again, 67, Ipv4Addr::UNSPECIFIED).await
        };
        all.extend(next.map(|(exchange, _)| exchange));
        Ok(all)
    }

    /// Some address of the network, as a client of another server would have.
    fn somebody(&self) -> Ipv4Addr {
        self.server.neighbour()
    }

    async fn ask(&mut self, packet: Vec<u8>, port: u16, from: Ipv4Addr) -> Option<(Exchange, Option<Reply>)> {
        let reply = if port == boot_server::PORT {
            self.boot_server.answer(&packet, SocketAddrV4::new(from, 68), self.now).await
        } else {
            self.server.answer(std::slice::from_ref(&packet), self.now).await.into_iter().next()
        };
        let notes = std::mem::take(&mut *self.notes.0.lock().unwrap_or_else(PoisonError::into_inner));
        Some((exchange(&packet, reply.as_ref(), notes.into_iter().next()?), reply))
    }
}

fn exchange(packet: &[u8], reply: Option<&Reply>, note: Result<Heard, Malformed>) -> Exchange {
    let (asked, mac, said, file) = match note {
        Err(why) => ("not a request".to_owned(), None, format!("not answered: {why}"), None),
        Ok(heard) => {
            let file = match &heard.said {
                dhcp::Said::Offer { boot: dhcp::Told::File(file), .. }
                | dhcp::Said::Ack { boot: dhcp::Told::File(file), .. }
                | dhcp::Said::Boot { boot: dhcp::Told::File(file), .. } => Some(file.clone()),
                _ => None,
            };
            (
                format!("{} from {}", heard.message, heard.client),
                Some(heard.mac),
                heard.said.to_string(),
                file,
            )
        }
    };
    let field = |one: dhcp::shown::Shown| Field {
        code: one.code,
        name: one.name.to_owned(),
        value: one.value,
        bytes: hex(&one.bytes),
    };
    Exchange {
        asked,
        mac,
        said,
        file,
        to: reply.map(|reply| reply.to.to_string()),
        fields: reply.map(|r| shown(&r.bytes).into_iter().map(field).collect()).unwrap_or_default(),
        request_bytes: hex(packet),
        answer_bytes: reply.map(|reply| hex(&reply.bytes)),
    }
}

/// The number of option 93 of a platform by its own name, for the way it boots.
fn architecture(name: &str, firmware: &str) -> Result<u16, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let http = firmware == "uefi-http";
    let platform = match (name, firmware) {
        ("x86_64" | "amd64" | "x64" | "i386" | "x86", "bios") => Platform::Bios,
        ("x86_64" | "amd64" | "x64", _) => Platform::UefiX64,
        ("i386" | "x86", _) => Platform::UefiX86,
        ("arm64" | "aarch64", _) => Platform::UefiArm64,
        ("arm" | "arm32", _) => Platform::UefiArm32,
        ("riscv64", _) => Platform::UefiRiscv64,
        ("loongarch64", _) => Platform::UefiLoong64,
        _ => return Err(format!("arch: {name:?} is none of x86_64, i386, arm64, arm, riscv64, loongarch64")),
    };
    Ok(match (platform, http) {
        (Platform::Bios, _) => 0,
        (Platform::UefiX86, false) => 6,
        (Platform::UefiX86, true) => 15,
        (Platform::UefiX64, false) => 7,
        (Platform::UefiX64, true) => 16,
        (Platform::UefiArm32, false) => 10,
        (Platform::UefiArm32, true) => 18,
        (Platform::UefiArm64, false) => 11,
        (Platform::UefiArm64, true) => 19,
        (Platform::UefiRiscv64, false) => 27,
        (Platform::UefiRiscv64, true) => 28,
        (Platform::UefiLoong64, false) => 39,
        (Platform::UefiLoong64, true) => 40,
    })
}

/// A DISCOVER as this firmware sends it.
fn discover(mac: Mac, firmware: &str, question: &Question) -> Result<Vec<u8>, String> {
    let number = architecture(
        question.arch.as_deref().unwrap_or("x86_64"),
        match question.firmware.as_deref() {
            // iPXE says the architecture of the firmware below it.
            Some(below) if firmware == "ipxe" => below,
            _ => firmware,
        },
    )?;
    let class = match firmware {
        "bios" | "uefi" | "ipxe" => Some("PXEClient"),
        "uefi-http" => Some("HTTPClient"),
        "system" => None,
        other => {
            return Err(format!("firmware: {other:?} is none of bios, uefi, uefi-http, ipxe, system"));
        }
    };
    let mut options = Options::default();
    options.put(code::MESSAGE_TYPE, &[1]);
    options.put(code::PARAMETERS, &[1, 3, 6, 12, 15, 28, 42, 43, 54, 60, 66, 67, 97, 175]);
    options.put(code::MAX_SIZE, &1472u16.to_be_bytes());
    if let Some(class) = class {
        options.put(code::VENDOR_CLASS, format!("{class}:Arch:{number:05}:UNDI:003016").as_bytes());
        options.put(code::ARCHITECTURE, &number.to_be_bytes());
        options.put(code::UNDI, &[1, 3, 16]);
    }
    if firmware == "ipxe" {
        options.put(code::USER_CLASS, b"iPXE");
    }
    let relay = question.relay.or(question.subnet);
    if let Some(subnet) = question.subnet {
        let octets = subnet.octets();
        options.put(code::RELAY, &[&[5, 4][..], &octets].concat());
    }
    let mut packet = vec![0; 240];
    put(&mut packet, 0, &[1, 1, 6, 0, 0, 0, 0, 1]);
    put(&mut packet, 10, &[0x80, 0]);
    put(&mut packet, 24, &relay.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    put(&mut packet, 28, &mac.0);
    put(&mut packet, 236, &[99, 130, 83, 99]);
    packet.extend_from_slice(&options.0);
    packet.push(255);
    Ok(packet)
}

/// The REQUEST that follows a DISCOVER: for an offered address, or with an address of its own.
fn request(discover: &[u8], offered: Option<Ipv4Addr>, own: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
    let mut packet = discover.to_vec();
    packet.pop();
    put(&mut packet, 12, &own.octets());
    // The message type is the first option that `discover` writes.
    put(&mut packet, 242, &[3]);
    let mut options = Options::default();
    if let Some(ip) = offered {
        options.put(code::REQUESTED_ADDRESS, &ip.octets());
        options.put(code::SERVER_ID, &server.octets());
    }
    packet.extend_from_slice(&options.0);
    packet.push(255);
    debug_assert!(Request::read(&packet).is_ok());
    packet
}

#[derive(Default)]
struct Options(Vec<u8>);

impl Options {
    fn put(&mut self, code: u8, value: &[u8]) {
        self.0.extend_from_slice(&[code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        self.0.extend_from_slice(value);
    }
}

fn put(packet: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = packet.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}
