//! The socket of DHCP and its clock.

use super::{Directory, Hearing, LeaseJournal, answer::Reply, server::Server, subnet::Subnet};
use crate::clock::Clock;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};
use tokio::net::UdpSocket;

const SERVER_PORT: u16 = 67;
/// Packets answered with one commit.
const BATCH_MAX: usize = 256;
/// Larger than any DHCP packet that means well.
const PACKET_MAX: usize = 4096;
/// What a boot storm fills while one batch is committed: about ten thousand packets.
const RECEIVE_BUFFER: usize = 8 << 20;
/// After an error of the socket: the interface may be down, and may come back.
const ERROR_PAUSE: Duration = Duration::from_millis(200);

/// Binds port 67 on `interface` alone. Needs `CAP_NET_BIND_SERVICE` and `CAP_NET_RAW`.
pub fn bind(interface: &str) -> io::Result<UdpSocket> {
    bind_port(interface, SERVER_PORT)
}

/// [`bind`] with another port.
pub fn bind_port(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("DHCP port {port} on {interface}: {e}"));
    let socket = on_interface(interface).map_err(named)?;
    // A hint: the system's own limit may be lower.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_reuse_address(true).map_err(named)?;
    socket.set_broadcast(true).map_err(named)?;
    socket.set_nonblocking(true).map_err(named)?;
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    socket.bind(&all.into()).map_err(named)?;
    UdpSocket::from_std(socket.into()).map_err(named)
}

fn on_interface(interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

/// The address of `interface` inside one of `subnets`: the server identifier. Nothing is sent to find it.
pub fn address_on(interface: &str, subnets: &[Subnet]) -> io::Result<Ipv4Addr> {
    for subnet in subnets {
        let Some(someone) = subnet.network.hosts().next() else { continue };
        let socket = on_interface(interface)?;
        if socket.connect(&SocketAddr::from((someone, 9)).into()).is_err() {
            continue;
        }
        let local = socket.local_addr()?.as_socket_ipv4();
        if let Some(address) = local.map(|a| *a.ip()).filter(|ip| subnet.network.contains(ip)) {
            return Ok(address);
        }
    }
    let what = format!("interface {interface} has no address in any of the DHCP subnets");
    Err(io::Error::new(io::ErrorKind::AddrNotAvailable, what))
}

/// Answers for ever.
pub async fn serve<D: Directory, J: LeaseJournal, H: Hearing>(
    socket: UdpSocket,
    mut server: Server<D, J, H>,
    clock: Clock,
) {
    loop {
        let packets = match receive(&socket).await {
            Ok(packets) => packets,
            Err(error) => {
                tracing::warn!("DHCP: {error}");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        for reply in server.answer(&packets, clock.now()).await {
            send(&socket, &reply).await;
        }
    }
}

/// Waits for a packet, and takes what else is there.
async fn receive(socket: &UdpSocket) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = [0; PACKET_MAX];
    let (length, _) = socket.recv_from(&mut buffer).await?;
    let mut packets = vec![buffer.get(..length).unwrap_or_default().to_vec()];
    while packets.len() < BATCH_MAX {
        match socket.try_recv_from(&mut buffer) {
            Ok((length, _)) => packets.push(buffer.get(..length).unwrap_or_default().to_vec()),
            Err(_) => break,
        }
    }
    Ok(packets)
}

/// A client that cannot be reached by unicast is still there: it hears a broadcast.
async fn send(socket: &UdpSocket, reply: &Reply) {
    let sent = socket.send_to(&reply.bytes, SocketAddr::from(reply.to)).await;
    let Err(error) = sent else { return };
    tracing::debug!(to = %reply.to, "DHCP: {error}; broadcast instead");
    if reply.to.port() == SERVER_PORT {
        return;
    }
    let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, reply.to.port());
    if let Err(error) = socket.send_to(&reply.bytes, SocketAddr::from(everyone)).await {
        tracing::warn!(to = %reply.to, "DHCP: answer not sent: {error}");
    }
}
