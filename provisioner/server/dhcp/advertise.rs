//! Router advertisements of a host that is no router. iPXE asks for IPv6 routers before it goes on, and on a link without
//! any answer it waits for 4 s (2025) to 16 s (2019) at each boot. An answer with router lifetime 0 (RFC 4861 §4.2: "not
//! a default router"), without prefix and without the flags for DHCPv6 ends the wait and configures nothing on anyone.
//! Where DHCPv6 is served, the flags say so: without them nobody but UEFI firmware asks.

use ipnet::Ipv6Net;
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    convert::Infallible,
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};
use tokio::net::UdpSocket;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 4861 §7.1: what came over a router is dropped.
const HOPS: u32 = 255;
/// One advertisement answers everyone who asked meanwhile. Shorter than the RFC's 3 s: each waits to boot.
const PACE: Duration = Duration::from_millis(100);

const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Between advertisements that nobody has asked for: a machine whose link came up while this server was down must not
/// wait for ever. Below RFC 4861 §6.2.1's 1,800 s.
const UNASKED_EVERY: Duration = Duration::from_secs(300);
/// How long hosts believe that a prefix is on the link.
const PREFIX_SECONDS: u32 = 3600;

/// What an advertisement says, besides that this host is no router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advertised {
    /// DHCPv6 gives addresses (M).
    pub managed: bool,
    /// DHCPv6 gives other information (O).
    pub other: bool,
    /// Addresses of this network are on the link; none is to be made of it (L without A).
    pub on_link: Option<Ipv6Net>,
}

impl Advertised {
    /// RFC 4861 §4.2, §4.6.2; the kernel fills in the checksum.
    fn packet(self) -> Vec<u8> {
        let flags = u8::from(self.managed) << 7 | u8::from(self.other) << 6;
        // Type, code, checksum; hop limit and flags; router lifetime; two timers.
        let mut packet = vec![ADVERTISEMENT, 0, 0, 0, 0, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        if let Some(net) = self.on_link {
            packet.extend_from_slice(&[3, 4, net.prefix_len(), 0x80]);
            for word in [PREFIX_SECONDS, PREFIX_SECONDS, 0] {
                packet.extend_from_slice(&word.to_be_bytes());
            }
            packet.extend_from_slice(&net.network().octets());
        }
        packet
    }
}

/// As [`serve_as`], saying nothing.
pub async fn serve(interface: String) {
    serve_as(interface, Advertised::default()).await;
}

/// Answers router solicitations on `interface` for ever. Where that is not possible (no IPv6, the interface is gone), it
/// says so once and tries again: machines boot without it, more slowly.
pub async fn serve_as(interface: String, said: Advertised) {
    let mut told = false;
    loop {
        let Err(error) = run(&interface, said).await;
        if !told {
            tracing::warn!(
                "no router advertisements on {interface}: {error}; iPXE waits some seconds at each boot"
            );
            told = true;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn run(interface: &str, said: Advertised) -> io::Result<Infallible> {
    let (socket, index) = open(interface)?;
    let everyone = SocketAddr::from(SocketAddrV6::new(ALL_NODES, 0, 0, index));
    let (mut packet, answer) = ([0; 256], said.packet());
    // Who says nothing says it only when asked.
    let talks = said != Advertised::default();
    let mut unasked = tokio::time::interval(UNASKED_EVERY);
    loop {
        let mut asked = tokio::select! {
            first = socket.recv(&mut packet) => is_solicitation(packet.get(..first?)),
            _ = unasked.tick(), if talks => true,
        };
        while let Ok(next) = socket.try_recv(&mut packet) {
            asked |= is_solicitation(packet.get(..next));
        }
        if asked {
            match socket.send_to(&answer, everyone).await {
                Ok(_) => tracing::trace!(interface, "router advertisement"),
                // The interface may be down or still without its link-local address.
                Err(error) => tracing::debug!(interface, "router advertisement: {error}"),
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

fn is_solicitation(packet: Option<&[u8]>) -> bool {
    matches!(packet, Some([SOLICITATION, 0, ..]))
}

/// A raw ICMPv6 socket on `interface`, and the interface's number. To tokio any datagram socket is a `UdpSocket`.
fn open(interface: &str) -> io::Result<(UdpSocket, u32)> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    let index = name_to_index(&socket, interface)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_hops_v6(HOPS)?;
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    socket.set_nonblocking(true)?;
    Ok((UdpSocket::from_std(socket.into())?, index))
}
