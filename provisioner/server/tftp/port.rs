//! One UDP port: datagrams in with the address they were sent to, windows out in as few calls as the kernel allows.

use super::transfer::Burst;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};
use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};
use tokio::{io::Interest, net::UdpSocket};

/// Larger than any request or acknowledgement that means well.
const PACKET_MAX: usize = 2048;
/// What one datagram, and so one call with segments, can carry (IPv4).
const SEND_MAX: usize = 65_507;

pub struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// A datagram, who sent it, and which of our addresses it was sent to.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub from: SocketAddr,
    pub to: Option<IpAddr>,
    pub bytes: &'a [u8],
}

impl Port {
    /// Must be called inside the runtime that will use it.
    pub fn new(socket: net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // Blocks fit the interface's MTU; on a path with a smaller one, fragments are better than silence.
        if socket.local_addr()?.is_ipv4() {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        }
        Ok(Self { socket: UdpSocket::from_std(socket)?, state })
    }

    /// A fresh port (RFC 1350 §4) on the address that `peer` asked, so that the answer comes from there.
    pub fn fresh(asked: Option<IpAddr>, peer: SocketAddr) -> io::Result<Self> {
        let any = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let address = match (asked.unwrap_or(any), peer) {
            // A link-local address is one only together with its link.
            (IpAddr::V6(ip), SocketAddr::V6(peer)) => SocketAddrV6::new(ip, 0, 0, peer.scope_id()).into(),
            (ip, _) => SocketAddr::new(ip, 0),
        };
        Self::new(net::UdpSocket::bind(address)?)
    }

    /// Waits for at least one packet, and takes what else is there and has room in `inbox`.
    pub async fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        loop {
            self.socket.readable().await?;
            inbox.count = 0;
            let received = self.socket.try_io(Interest::READABLE, || {
                let mut buffers = inbox.buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect::<Vec<_>>();
                inbox.count = self.state.recv((&self.socket).into(), &mut buffers, &mut inbox.meta)?;
                // Fewer than there was room for: the queue is empty, and the next packet will wake us. Saying so now
                // saves the call that would only find that out.
                if inbox.count < inbox.meta.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match received {
                _ if inbox.count > 0 => return Ok(()),
                Ok(()) => {}
                Err(error) if passes(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends `burst` to `peer`, from our address `from` where that is not settled by the socket.
    pub async fn send(&self, burst: &Burst, peer: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let segment = burst.segment.max(1);
        let mut rest = burst.bytes.as_slice();
        while !rest.is_empty() {
            let most = self.state.max_gso_segments().min(SEND_MAX / segment).max(1);
            let (now, later) = rest.split_at(rest.len().min(most * segment));
            let transmit = Transmit {
                destination: peer,
                ecn: None,
                contents: now,
                segment_size: (now.len() > segment).then_some(segment),
                src_ip: from,
            };
            let send = || self.state.try_send((&self.socket).into(), &transmit);
            match self.socket.async_io(Interest::WRITABLE, send).await {
                Ok(()) => rest = later,
                // The card or the driver cannot cut it: that was noted, and now it goes in pieces.
                Err(_) if now.len() > segment && self.state.max_gso_segments() == 1 => {}
                Err(error) if passes(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Not an error of this port: interrupted, nothing there, or an ICMP answer to something sent earlier.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionRefused | Interrupted | WouldBlock)
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Room for the packets of one [`Port::receive`].
#[derive(Debug)]
pub struct Inbox {
    buffers: Vec<[u8; PACKET_MAX]>,
    meta: Vec<RecvMeta>,
    count: usize,
}

impl Inbox {
    /// `packets`: at most as many are taken at once.
    pub fn new(packets: usize) -> Self {
        let packets = packets.clamp(1, quinn_udp::BATCH_SIZE);
        Self { buffers: vec![[0; PACKET_MAX]; packets], meta: vec![RecvMeta::default(); packets], count: 0 }
    }

    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        self.meta.iter().zip(&self.buffers).take(self.count).flat_map(|(meta, buffer)| {
            let bytes = buffer.get(..meta.len).unwrap_or_default();
            // The kernel may have put datagrams of one sender together (GRO).
            let datagrams = bytes.chunks(meta.stride.max(1));
            datagrams.map(|bytes| Packet { from: meta.addr, to: meta.dst_ip, bytes })
        })
    }
}

/// The largest block that reaches `peer` in one piece, by the MTU of the way there. Nothing is sent to find it.
pub fn block_size_to(peer: SocketAddr) -> io::Result<u16> {
    /// UDP's header and TFTP's.
    const HEADERS: u32 = 8 + 4;
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let any = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let probe = net::UdpSocket::bind(SocketAddr::new(any, 0))?;
    probe.connect(peer)?;
    let payload =
        if peer.is_ipv4() { sockopt::ip_mtu(&probe)? - 20 } else { sockopt::ipv6_mtu(&probe)? - 40 };
    // RFC 2348's most, and what a datagram can be.
    Ok(u16::try_from(payload.saturating_sub(HEADERS)).unwrap_or(u16::MAX).clamp(512, 65_464))
}
