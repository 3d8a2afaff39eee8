//! The sockets of [`super::rogue`]: hears what other DHCP servers answer on our interface, and now and then asks them.

use super::{
    Hearing,
    rogue::{filter, probe, read_frame},
};
use crate::clock::Clock;
use provisioner_wire::Mac;
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::net::UdpSocket;

/// `ETH_P_IP` in network order: what comes in, not what we send ourselves.
const IP_FRAMES: i32 = 0x0800_u16.to_be() as i32;
const FRAME_MAX: usize = 2048;
/// After an error of the socket: the interface may be down, and may come back.
const ERROR_PAUSE: Duration = Duration::from_secs(5);

/// Watches one interface for ever.
#[derive(Debug)]
pub struct Watch {
    pub interface: String,
    /// Addresses that are this server's own.
    pub ours: Vec<Ipv4Addr>,
    /// Whose name the questions are asked in: a MAC that no machine has.
    pub probe: Mac,
    /// Between two questions; `None` only listens.
    pub every: Option<Duration>,
    pub clock: Clock,
}

impl Watch {
    /// Needs `CAP_NET_RAW`. An error is one of opening the sockets.
    pub async fn serve<H: Hearing>(self, hearing: Arc<H>) -> io::Result<()> {
        let frames = self.listen()?;
        let asking = self.every.map(|_| self.asker()).transpose()?;
        let mut pace = tokio::time::interval(self.every.unwrap_or(Duration::from_secs(3600)));
        let mut frame = [0; FRAME_MAX];
        loop {
            tokio::select! {
                received = frames.recv(&mut frame) => match received {
                    Ok(length) => self.heard(frame.get(..length).unwrap_or_default(), &*hearing),
                    Err(error) => {
                        tracing::warn!(interface = self.interface, "watching for DHCP servers: {error}");
                        tokio::time::sleep(ERROR_PAUSE).await;
                    }
                },
                _ = pace.tick() => {
                    if let Some(socket) = &asking {
                        self.ask(socket).await;
                    }
                }
            }
        }
    }

    fn heard<H: Hearing>(&self, frame: &[u8], hearing: &H) {
        if let Some(foreign) = read_frame(frame, self.probe, self.clock.now())
            && !self.ours.contains(&foreign.server)
        {
            hearing.foreign(foreign);
        }
    }

    async fn ask(&self, socket: &UdpSocket) {
        let mut xid = [0; 4];
        if getrandom::fill(&mut xid).is_err() {
            return;
        }
        let packet = probe(self.probe, u32::from_be_bytes(xid));
        let everyone = SocketAddr::from((Ipv4Addr::BROADCAST, 67));
        if let Err(error) = socket.send_to(&packet, everyone).await {
            tracing::debug!(interface = self.interface, "no question to other DHCP servers: {error}");
        }
    }

    /// A packet socket behind tokio's type for datagrams: only `recv` is called on it, which asks for no address.
    fn listen(&self) -> io::Result<UdpSocket> {
        let named = |e: io::Error| {
            let what = format!("watching {} for other DHCP servers: {e} (needs CAP_NET_RAW)", self.interface);
            io::Error::new(e.kind(), what)
        };
        let any = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).map_err(named)?;
        let index = name_to_index(&any, &self.interface).map_err(|e| named(e.into()))?;
        let frames = Protocol::from(IP_FRAMES);
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(frames)).map_err(named)?;
        let program = filter(index).map(|(code, yes, no, k)| SockFilter::new(code, yes, no, k));
        socket.attach_filter(&program).map_err(named)?;
        socket.set_nonblocking(true).map_err(named)?;
        UdpSocket::from_std(socket.into())
    }

    /// Sends from the client's port, where answers go; they are heard as frames, so nothing is received here.
    fn asker(&self) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(self.interface.as_bytes()))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())?;
        UdpSocket::from_std(socket.into())
    }
}
