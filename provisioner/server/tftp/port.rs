//! One UDP port: datagrams in with the address they were sent to, windows out in as few calls as the kernel allows.

use super::transfer::Burst;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};
use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::Duration,
};
use tokio::{io::Interest, net::UdpSocket};

/// Larger than any request or acknowledgement that means well.
pub const PACKET_MAX: usize = 2048;
/// What one datagram, and so one call with segments, can carry (IPv4).
const SEND_MAX: usize = 65_507;

/// The server's port.
pub struct Port {
    socket: UdpSocket,
    state: Arc<UdpSocketState>,
}

/// The port of one transfer. Its packets come one by one and from one client, so it does without all that [`Port`] is
/// told of a packet; that is a tenth of the time of a block in lock-step.
pub struct Fresh {
    socket: net::UdpSocket,
    /// The server's port's: whether windows can go out in one call is the same for all.
    state: Arc<UdpSocketState>,
    /// How long the kernel waits for a packet.
    patience: Option<Duration>,
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
        let state = Arc::new(UdpSocketState::new((&socket).into())?);
        allow_fragments(&socket)?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, state })
    }

    /// What [`Fresh::new`] needs.
    pub fn state(&self) -> Arc<UdpSocketState> {
        self.state.clone()
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

    /// Sends `burst` to `peer`, from our address `from`.
    pub async fn send(&self, burst: &Burst, peer: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let mut rest = burst.bytes.as_slice();
        while let Some(piece) = Piece::next(rest, burst.segment, &self.state) {
            let sent = if piece.segment_size.is_none() && from.is_none() {
                self.socket.send_to(piece.now, peer).await.map(|_| ())
            } else {
                let transmit = piece.to(peer, from);
                let send = || self.state.try_send((&self.socket).into(), &transmit);
                self.socket.async_io(Interest::WRITABLE, send).await
            };
            rest = piece.after(sent, &self.state)?;
        }
        Ok(())
    }
}

impl Fresh {
    /// A fresh port (RFC 1350 §4) on the address that `peer` asked, so that the answer comes from there. What waits on it
    /// blocks its thread.
    pub fn new(state: Arc<UdpSocketState>, asked: Option<IpAddr>, peer: SocketAddr) -> io::Result<Self> {
        let any = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let address = match (asked.unwrap_or(any), peer) {
            // A link-local address is one only together with its link.
            (IpAddr::V6(ip), SocketAddr::V6(peer)) => SocketAddrV6::new(ip, 0, 0, peer.scope_id()).into(),
            (ip, _) => SocketAddr::new(ip, 0),
        };
        let socket = net::UdpSocket::bind(address)?;
        allow_fragments(&socket)?;
        // A full queue of a link that is down: what is not sent is sent again.
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { socket, state, patience: None })
    }

    /// Waits for a packet, about as long as `patience`: its length in `room`, and who sent it. `None`: nothing came.
    pub fn receive(
        &mut self,
        room: &mut [u8],
        patience: Duration,
    ) -> io::Result<Option<(usize, SocketAddr)>> {
        // Round trips hardly differ, and so hardly ever is the kernel told of a new patience.
        let patience = patience.max(Duration::from_millis(1));
        if self.patience.is_none_or(|set| patience.abs_diff(set) > set / 8) {
            self.patience = Some(patience);
            self.socket.set_read_timeout(self.patience)?;
        }
        match self.socket.recv_from(room) {
            Err(error) if passes(&error) => Ok(None),
            received => received.map(Some),
        }
    }

    pub fn send(&self, burst: &Burst, peer: SocketAddr) -> io::Result<()> {
        let mut rest = burst.bytes.as_slice();
        while let Some(piece) = Piece::next(rest, burst.segment, &self.state) {
            let sent = match piece.segment_size {
                None => self.socket.send_to(piece.now, peer).map(|_| ()),
                Some(_) => self.state.try_send((&self.socket).into(), &piece.to(peer, None)),
            };
            rest = piece.after(sent, &self.state)?;
        }
        Ok(())
    }
}

/// What goes out by one call: one packet, or as many as the kernel can cut.
struct Piece<'a> {
    rest: &'a [u8],
    now: &'a [u8],
    later: &'a [u8],
    /// Where it is several packets.
    segment_size: Option<usize>,
}

impl<'a> Piece<'a> {
    fn next(rest: &'a [u8], segment: usize, state: &UdpSocketState) -> Option<Self> {
        let segment = segment.max(1);
        let most = state.max_gso_segments().min(SEND_MAX / segment).max(1);
        let (now, later) = rest.split_at(rest.len().min(most * segment));
        let segment_size = (now.len() > segment).then_some(segment);
        (!now.is_empty()).then_some(Self { rest, now, later, segment_size })
    }

    fn to(&self, destination: SocketAddr, src_ip: Option<IpAddr>) -> Transmit<'a> {
        Transmit { destination, ecn: None, contents: self.now, segment_size: self.segment_size, src_ip }
    }

    /// What is to be sent after this piece was, or was not.
    fn after(&self, sent: io::Result<()>, state: &UdpSocketState) -> io::Result<&'a [u8]> {
        match sent {
            Ok(()) => Ok(self.later),
            // The card or the driver cannot cut it: that was noted, and now it goes in smaller pieces.
            Err(_) if self.segment_size.is_some() && state.max_gso_segments() == 1 => Ok(self.rest),
            // The queue stayed full: lost, as any packet may be.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(self.later),
            // The error of an earlier packet.
            Err(error) if passes(&error) => Ok(self.rest),
            Err(error) => Err(error),
        }
    }
}

/// Blocks fit the interface's MTU; on a path with a smaller one, fragments are better than silence.
fn allow_fragments(socket: &net::UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() {
        sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?;
    }
    Ok(())
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

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("socket", &self.socket).finish_non_exhaustive()
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
