//! The sockets of DHCPv6 and its clock. Three on one port: one for each group and one for this host's addresses,
//! because what came by unicast is answered otherwise (RFC 8415 §16).

use super::{
    Directory, Hearing, LeaseJournal,
    answer::Reply,
    server::{Packet, Server},
    subnet::Served,
};
use crate::clock::Clock;
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};
use tokio::net::UdpSocket;

const SERVER_PORT: u16 = 547;
/// RFC 8415 §7.1: All_DHCP_Relay_Agents_and_Servers, for clients on the link; and All_DHCP_Servers, for relays.
const AGENTS_AND_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
/// Packets answered with one commit.
const BATCH_MAX: usize = 256;
/// Larger than any DHCPv6 packet that means well, envelopes and all.
const PACKET_MAX: usize = 4096;
const RECEIVE_BUFFER: usize = 4 << 20;
/// After an error of the socket: the interface may be down, and may come back.
const ERROR_PAUSE: Duration = Duration::from_millis(200);

/// The sockets of one interface.
#[derive(Debug)]
pub struct Sockets {
    clients: UdpSocket,
    relays: UdpSocket,
    /// Hears what is sent to an address of this host, and sends everything.
    own: UdpSocket,
}

impl Sockets {
    /// Binds port 547 on `interface` alone. Needs `CAP_NET_BIND_SERVICE` and `CAP_NET_RAW`.
    pub fn bind(interface: &str) -> io::Result<Self> {
        let all = || {
            Ok(Self {
                clients: group(interface, AGENTS_AND_SERVERS)?,
                relays: group(interface, SERVERS)?,
                own: own(interface)?,
            })
        };
        all().map_err(|e: io::Error| io::Error::new(e.kind(), format!("DHCPv6 on {interface}: {e}")))
    }

    /// Waits for a packet, and takes what else is there.
    async fn receive(&self) -> io::Result<Vec<Packet>> {
        tokio::select! {
            ready = self.clients.readable() => ready?,
            ready = self.relays.readable() => ready?,
            ready = self.own.readable() => ready?,
        }
        let mut packets = Vec::new();
        let mut buffer = [0; PACKET_MAX];
        for (socket, unicast) in [(&self.clients, false), (&self.relays, false), (&self.own, true)] {
            while packets.len() < BATCH_MAX {
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, SocketAddr::V6(from))) => {
                        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                        packets.push(Packet { bytes, from, unicast });
                    }
                    Ok((_, SocketAddr::V4(_))) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(packets)
    }

    async fn send(&self, reply: &Reply) {
        if let Err(error) = self.own.send_to(&reply.bytes, SocketAddr::from(reply.to)).await {
            tracing::warn!(to = %reply.to, "DHCPv6: answer not sent: {error}");
        }
    }
}

/// Hears one group and nothing else, for it is bound to the group's own address.
fn group(interface: &str, group: Ipv6Addr) -> io::Result<UdpSocket> {
    let socket = on_interface(interface)?;
    let index = name_to_index(&socket, interface)?;
    socket.join_multicast_v6(&group, index)?;
    socket.bind(&SocketAddr::from(SocketAddrV6::new(group, SERVER_PORT, 0, index)).into())?;
    UdpSocket::from_std(socket.into())
}

fn own(interface: &str) -> io::Result<UdpSocket> {
    let socket = on_interface(interface)?;
    // Else the kernel hands it what was sent to the groups, too.
    socket.set_multicast_all_v6(false)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, SERVER_PORT)).into())?;
    UdpSocket::from_std(socket.into())
}

fn on_interface(interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(true)?;
    // A hint: the system's own limit may be lower.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The address of `served`'s interface by which machines reach this server: the configured one, else its own inside one
/// of the subnets. Nothing is sent to find it.
pub fn address_on(served: &Served) -> io::Result<Ipv6Addr> {
    if let Some(address) = served.address {
        return Ok(address);
    }
    let interface = &served.interface;
    for subnet in &served.subnets {
        let socket = on_interface(interface)?;
        // Some address of the subnet; the kernel tells which of its own it would speak from.
        let someone = Ipv6Addr::from(u128::from(subnet.network.broadcast()) - 1);
        if socket.connect(&SocketAddr::from((someone, 9)).into()).is_err() {
            continue;
        }
        let local = socket.local_addr()?.as_socket_ipv6();
        if let Some(address) = local.map(|a| *a.ip()).filter(|ip| subnet.network.contains(ip)) {
            return Ok(address);
        }
    }
    let what =
        format!("interface {interface} has no address in any of the DHCPv6 subnets; set dhcp6.address");
    Err(io::Error::new(io::ErrorKind::AddrNotAvailable, what))
}

/// Answers for ever.
pub async fn serve<D: Directory, J: LeaseJournal, H: Hearing>(
    sockets: Sockets,
    mut server: Server<D, J, H>,
    clock: Clock,
) {
    loop {
        let packets = match sockets.receive().await {
            Ok(packets) => packets,
            Err(error) => {
                tracing::warn!("DHCPv6: {error}");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        for reply in server.answer(&packets, clock.now()).await {
            sockets.send(&reply).await;
        }
    }
}
