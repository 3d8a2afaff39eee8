//! The socket of DHCP and its clock.

use super::{
    Directory, Hearing, LeaseJournal,
    answer::Reply,
    neighbour::Neighbours,
    server::{Keeper, Promise, Server},
    subnet::Subnet,
};
use crate::clock::Clock;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};

const SERVER_PORT: u16 = 67;
/// Packets decided at once.
const BATCH_MAX: usize = 256;
/// Batches that wait for the one commit; more, and no packet is read until it is done.
const PROMISES_MAX: usize = 64;
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
    // Past the system's own limit where we may (`CAP_NET_ADMIN`), else up to it.
    if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
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

/// Answers for ever. One task decides, another commits: while leases reach the disk, the next packets are read and
/// offers leave.
pub async fn serve<D: Directory, J: LeaseJournal, H: Hearing>(
    socket: UdpSocket,
    mut server: Server<D, J, H>,
    clock: Clock,
) {
    let out = Arc::new(Out::new(socket));
    let (promised, promises) = mpsc::channel(PROMISES_MAX);
    // Ends with this future: it has the only sender.
    let mut keeping = JoinSet::new();
    keeping.spawn(keep(out.clone(), server.keeper(), promises));
    loop {
        let packets = match receive(&out.socket).await {
            Ok(packets) => packets,
            Err(error) => {
                tracing::warn!("DHCP: {error}");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let decided = server.decide(&packets, clock.now()).await;
        if !decided.promise.is_empty() && promised.send(decided.promise).await.is_err() {
            // The keeper panicked: so does what started this one.
            return;
        }
        for reply in decided.at_once {
            out.send(&reply).await;
        }
    }
}

/// Commits all that has been promised meanwhile with one transaction, and sends its answers.
async fn keep<J: LeaseJournal, H: Hearing>(
    out: Arc<Out>,
    keeper: Keeper<J, H>,
    mut promises: mpsc::Receiver<Promise>,
) {
    while let Some(mut promise) = promises.recv().await {
        while let Ok(later) = promises.try_recv() {
            promise.and(later);
        }
        for reply in keeper.keep(promise).await {
            out.send(&reply).await;
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

/// The way out.
struct Out {
    socket: UdpSocket,
    /// None where the kernel does not tell.
    neighbours: Option<Neighbours>,
}

impl Out {
    /// `socket` is bound to one interface.
    fn new(socket: UdpSocket) -> Self {
        let interface = SockRef::from(&socket).device().ok().flatten();
        let interface = interface.and_then(|name| String::from_utf8(name).ok()).unwrap_or_default();
        let neighbours = Neighbours::open(&interface)
            .inspect_err(|error| tracing::warn!(interface, "DHCP: answers are broadcast: {error}"))
            .ok();
        Self { socket, neighbours }
    }

    /// A client that cannot be reached by unicast is still there: it hears a broadcast.
    async fn send(&self, reply: &Reply) {
        let Err(error) = self.send_to(reply).await else { return };
        tracing::debug!(to = %reply.to, "DHCP: {error}; broadcast instead");
        if reply.to.port() == SERVER_PORT {
            return;
        }
        let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, reply.to.port());
        if let Err(error) = self.socket.send_to(&reply.bytes, SocketAddr::from(everyone)).await {
            tracing::warn!(to = %reply.to, "DHCP: answer not sent: {error}");
        }
    }

    async fn send_to(&self, reply: &Reply) -> io::Result<()> {
        if let Some(mac) = reply.neighbour {
            let unknown = || io::Error::other("the kernel cannot be told of neighbours");
            self.neighbours.as_ref().ok_or_else(unknown)?.put(*reply.to.ip(), mac)?;
        }
        self.socket.send_to(&reply.bytes, SocketAddr::from(reply.to)).await.map(|_| ())
    }
}
