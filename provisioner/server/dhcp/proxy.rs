//! PURE. Boot answers without an address: proxyDHCP on port 67 beside another DHCP server, and the boot server on port
//! 4011 that firmware asks after it has an address (PXE 2.1 §2.2, RFC 4578).
//!
//! On 67 only a DISCOVER is answered, with an OFFER that has no address and no lease time: whatever else is said there is
//! between the client and the server that gave it its address. On 4011 a REQUEST is answered with an ACK to the port it
//! came from.

use super::{
    answer::{Reply, boot_options, exchange},
    bootfile::{BootFile, Lead},
    client::{Client, Program},
    intake::{Request, code, sub_option},
    packet::{self, Header},
    quirks,
};
use dhcproto::v4::MessageType;
use std::net::{Ipv4Addr, SocketAddrV4};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Sub-option 71 of option 43: which boot server and layer the client has chosen. It looks for it in the answer.
const BOOT_ITEM: u8 = 71;

/// Why a packet on port 67 is not a proxy's to answer.
pub fn not_ours(request: &Request, client: &Client) -> Option<&'static str> {
    if request.message != MessageType::Discover {
        return Some("it is between the client and its own DHCP server");
    }
    (client.program == Program::System).then_some("it does not boot from the network")
}

/// Why a packet on port 4011 is not answered. `servers`: addresses that mean this server.
pub fn not_asked(request: &Request, client: &Client, servers: &[Ipv4Addr]) -> Option<&'static str> {
    if request.message != MessageType::Request {
        return Some("only a request is answered on port 4011");
    }
    if request.address(code::SERVER_ID).is_some_and(|id| !servers.contains(&id)) {
        return Some("it chose another boot server");
    }
    (client.program == Program::System).then_some("it does not boot from the network")
}

/// The OFFER on port 67.
pub fn offer(request: &Request, client: &Client, server: Ipv4Addr, boot: &BootFile) -> Reply {
    let boot = as_proxy(request, client, boot);
    let mut options = exchange(request, MessageType::Offer, server);
    boot_options(&boot, request, server, &mut options);
    let file = if boot.lead == Lead::Ask { "" } else { &boot.file };
    let header = header(request, Ipv4Addr::UNSPECIFIED, server, file);
    let to = match request.giaddr {
        relay if !relay.is_unspecified() => SocketAddrV4::new(relay, SERVER_PORT),
        _ => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
    };
    Reply { bytes: packet::bytes(request, &header, options), to }
}

/// The ACK on port 4011, to who asked.
pub fn acknowledge(
    request: &Request,
    client: &Client,
    server: Ipv4Addr,
    boot: &BootFile,
    peer: SocketAddrV4,
) -> Reply {
    let boot = as_proxy(request, client, boot);
    let mut options = exchange(request, MessageType::Ack, server);
    boot_options(&boot, request, server, &mut options);
    // PXE 2.1 §2.2.6: a client that discovers boot servers takes only the answer that names its choice.
    let item = request.raw(quirks::VENDOR).and_then(|vendor| sub_option(vendor, BOOT_ITEM));
    if let Some([a, b, c, d]) = item {
        options.put(quirks::VENDOR, [BOOT_ITEM, 4, *a, *b, *c, *d, 255]);
    }
    let header = header(request, request.ciaddr, server, &boot.file);
    Reply { bytes: packet::bytes(request, &header, options), to: peer }
}

fn header<'a>(request: &Request, ciaddr: Ipv4Addr, siaddr: Ipv4Addr, file: &'a str) -> Header<'a> {
    Header { ciaddr, yiaddr: Ipv4Addr::UNSPECIFIED, siaddr, flags: request.flags, file }
}

/// The same file, as a proxy says it: always with the client's class, by which it knows a proxy's answer; and without the
/// word that there is no proxy.
fn as_proxy(request: &Request, client: &Client, boot: &BootFile) -> BootFile {
    let class = if client.program == Program::Http { "HTTPClient" } else { "PXEClient" };
    let row = quirks::of(client, request.mac);
    let usual = row.is_some_and(|row| row.server == boot.lead);
    let lead = row.filter(|_| usual).map_or(boot.lead, |row| row.proxy);
    BootFile { file: boot.file.clone(), class: Some(class), lead, no_proxy: false }
}
