//! All transfers from the server's own port, for firewalls, address translation and containers that let one port through.

use super::{
    End,
    desk::{Desk, Opened, Session, Step, to_stranger},
    lane::Lane,
    port::{Inbox, Packet, Port},
    transfer::Burst,
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

/// Packets taken at once.
const PACKETS: usize = 32;
/// Requests whose file is being found.
const OPENING: usize = 256;
/// With nothing to wait for.
const IDLE: Duration = Duration::from_secs(60);

/// Serves for ever. An error is one of `socket` itself.
pub async fn serve(socket: UdpSocket, desk: Arc<Desk>) -> io::Result<()> {
    let (lane, house) = (Lane::start()?, Handle::current());
    let (end, ended) = oneshot::channel();
    lane.run(async move {
        let _ = end.send(run(socket, desk, house).await);
    });
    ended.await.unwrap_or_else(|_| Err(io::Error::other("the thread of TFTP has ended")))
}

async fn run(socket: UdpSocket, desk: Arc<Desk>, house: Handle) -> io::Result<()> {
    let (opening, mut opened) = mpsc::channel(OPENING);
    let mut shared = Shared {
        port: Port::new(socket)?,
        desk,
        house,
        sessions: HashMap::new(),
        alarms: BinaryHeap::new(),
        opening,
    };
    let mut inbox = Inbox::new(PACKETS);
    loop {
        let next = shared.alarms.peek().map_or_else(|| shared.desk.now() + IDLE, |Reverse(alarm)| alarm.at);
        tokio::select! {
            biased;
            received = shared.port.receive(&mut inbox) => {
                received?;
                for packet in inbox.packets() {
                    shared.hear(packet).await;
                }
            }
            Some((peer, asked, opened)) = opened.recv() => shared.begin(peer, asked, opened).await,
            () = tokio::time::sleep_until(shared.desk.instant(next)) => {}
        }
        shared.ring().await;
    }
}

struct Shared {
    port: Port,
    desk: Arc<Desk>,
    /// The runtime of the rest of the server, where files are found.
    house: Handle,
    sessions: HashMap<SocketAddr, Session>,
    /// One for each session, and perhaps early: whether there was silence is looked up when it rings. What is not
    /// [`Session::alarm`] of its peer's session is over.
    alarms: BinaryHeap<Reverse<Alarm>>,
    opening: mpsc::Sender<(SocketAddr, Option<IpAddr>, Opened)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Alarm {
    at: Duration,
    peer: SocketAddr,
}

impl Shared {
    async fn hear(&mut self, packet: Packet<'_>) {
        const REQUESTS: std::ops::RangeInclusive<u8> = 1..=2;
        let peer = packet.from;
        match (packet.bytes, self.sessions.get_mut(&peer)) {
            ([0, operation, ..], _) if REQUESTS.contains(operation) => self.ask(packet),
            (bytes, Some(session)) => {
                let step = session.hear(bytes, self.desk.now());
                self.step(peer, step).await;
            }
            // Of a transfer that has ended, or of none.
            (bytes, None) => {
                if let (Some(_), Some(answer)) = (self.desk.admit(peer, bytes), to_stranger(bytes)) {
                    self.send(&answer, peer, packet.to).await;
                }
            }
        }
    }

    /// Finding a file may take its time, and the other transfers do not wait for it.
    fn ask(&self, packet: Packet<'_>) {
        let Some(place) = self.desk.admit(packet.from, packet.bytes) else { return };
        let (desk, opening) = (self.desk.clone(), self.opening.clone());
        let (peer, asked, request) = (packet.from, packet.to, packet.bytes.to_vec());
        self.house.spawn(async move {
            let opened = desk.open(peer, asked, &request, place).await;
            // An error: the server has ended meanwhile.
            let _ = opening.send((peer, asked, opened)).await;
        });
    }

    async fn begin(&mut self, peer: SocketAddr, asked: Option<IpAddr>, opened: Opened) {
        match opened {
            Opened::Session(session, first) => {
                // The address and port are all that tells transfers apart: who asks anew has given up the old one.
                if let Some(old) = self.sessions.insert(peer, session) {
                    self.desk.ended(old, End::Aborted("asked anew".to_owned()));
                }
                self.step(peer, Step::Send(first)).await;
            }
            Opened::Refused(answer) => self.send(&answer, peer, asked).await,
            Opened::Nothing => {}
        }
    }

    /// Looks after the sessions whose alarm has come.
    async fn ring(&mut self) {
        let now = self.desk.now();
        while let Some(Reverse(alarm)) = self.alarms.peek().copied()
            && alarm.at <= now
        {
            self.alarms.pop();
            let session = self.sessions.get_mut(&alarm.peer).filter(|s| s.alarm == Some(alarm.at));
            let Some(session) = session else { continue };
            session.alarm = None;
            let step = session.look(now);
            self.step(alarm.peer, step).await;
        }
    }

    async fn step(&mut self, peer: SocketAddr, step: Step) {
        match step {
            Step::Send(burst) => {
                let asked = self.sessions.get(&peer).and_then(|session| session.asked);
                self.send(&burst, peer, asked).await;
            }
            Step::Wait => {}
            Step::End(end) => {
                if let Some(session) = self.sessions.remove(&peer) {
                    self.desk.ended(session, end);
                }
            }
        }
        if let Some(session) = self.sessions.get_mut(&peer) {
            let at = session.due();
            if session.alarm.is_none_or(|set| at < set) {
                session.alarm = Some(at);
                self.alarms.push(Reverse(Alarm { at, peer }));
            }
        }
    }

    /// What cannot be sent to one client is no reason to end for all.
    async fn send(&self, burst: &Burst, peer: SocketAddr, from: Option<IpAddr>) {
        if let Err(error) = self.port.send(burst, peer, from).await {
            tracing::warn!(%peer, "TFTP: {error}");
        }
    }
}
