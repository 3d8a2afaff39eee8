//! A bad link for UDP: each packet is delayed, and some are lost. The kernel where tests run may have no netem.
//!
//! Made for TFTP: a client's packets go to the server's first port until the server answers from another one.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Larger than any datagram.
const PACKET_MAX: usize = 65_536;

/// What the link does to packets, in both directions alike.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// One way; a round trip takes twice as long.
    pub delay: Duration,
    /// Lost of ten thousand.
    pub loss: u32,
    /// The same seed loses the same packets of a client.
    pub seed: u64,
}

/// Relays what comes to `front` to `server`, until the future is dropped. An error is one of the sockets.
pub async fn relay(front: UdpSocket, server: SocketAddr, link: Link) -> io::Result<()> {
    let front = Arc::new(front);
    let mut clients = std::collections::HashMap::new();
    let mut tasks = JoinSet::new();
    let mut packet = vec![0; PACKET_MAX];
    loop {
        let (length, client) = front.recv_from(&mut packet).await?;
        if !clients.contains_key(&client) {
            let seed = link.seed.wrapping_add(clients.len() as u64);
            let way = Way::new(server, client, Link { seed, ..link }).await?;
            let (say, said) = mpsc::unbounded_channel();
            clients.insert(client, say);
            tasks.spawn(way.run(said));
        }
        let bytes = packet.get(..length).unwrap_or_default().to_vec();
        if let Some(say) = clients.get(&client) {
            let _ = say.send(bytes);
        }
    }
}

/// One client's way to the server and back.
struct Way {
    /// Known to the server as the client.
    up: Arc<UdpSocket>,
    /// Known to the client as the server, once it has answered.
    down: Arc<UdpSocket>,
    server: SocketAddr,
    client: SocketAddr,
    link: Link,
}

impl Way {
    async fn new(server: SocketAddr, client: SocketAddr, link: Link) -> io::Result<Self> {
        let bind = async |to: SocketAddr| {
            let any = SocketAddr::new(to.ip(), 0);
            // The loopback net is all ours: an address of the other side's is as good as any.
            UdpSocket::bind(any).await.map(Arc::new)
        };
        Ok(Self { up: bind(client).await?, down: bind(client).await?, server, client, link })
    }

    async fn run(self, mut said: mpsc::UnboundedReceiver<Vec<u8>>) {
        let (mut first, mut from_client) = (true, vec![0; PACKET_MAX]);
        let mut from_server = vec![0; PACKET_MAX];
        let (to_server, to_client) = (Line::new(&self.up, self.link, 1), Line::new(&self.down, self.link, 2));
        let (mut to_server, mut to_client) = (to_server, to_client);
        let mut server = self.server;
        loop {
            tokio::select! {
                // A request again means a new transfer, at the server's first port.
                request = said.recv() => {
                    let Some(request) = request else { return };
                    (server, first) = (self.server, true);
                    to_server.take(request, server);
                }
                Ok((length, _)) = self.down.recv_from(&mut from_client) => {
                    to_server.take(from_client.get(..length).unwrap_or_default().to_vec(), server);
                }
                Ok((length, from)) = self.up.recv_from(&mut from_server) => {
                    if first {
                        (server, first) = (from, false);
                    }
                    to_client.take(from_server.get(..length).unwrap_or_default().to_vec(), self.client);
                }
            }
        }
    }
}

/// One direction: a queue in which each packet waits for its time.
struct Line {
    queue: mpsc::UnboundedSender<(Instant, SocketAddr, Vec<u8>)>,
    link: Link,
    random: u64,
}

impl Line {
    fn new(socket: &Arc<UdpSocket>, link: Link, direction: u64) -> Self {
        let (queue, mut waiting) = mpsc::unbounded_channel::<(Instant, SocketAddr, Vec<u8>)>();
        let socket = socket.clone();
        tokio::spawn(async move {
            while let Some((at, to, packet)) = waiting.recv().await {
                if at > Instant::now() {
                    sleep_until(at).await;
                }
                let _ = socket.send_to(&packet, to).await;
            }
        });
        // Seeds that differ by one must not give related sequences.
        let random = (link.seed * 2 + direction).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { queue, link, random }
    }

    fn take(&mut self, packet: Vec<u8>, to: SocketAddr) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.random % 10_000 >= u64::from(self.link.loss) {
            let _ = self.queue.send((Instant::now() + self.link.delay, to, packet));
        }
    }
}
