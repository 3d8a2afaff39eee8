//! Clients on the server's own link: they broadcast, and hear broadcasts. Exchanges begin at a fixed rate, whether or not
//! the server keeps up.

use super::super::place::Place;
use anyhow::{Context, Result, bail};
use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// After the last DISCOVER: what is not answered then is lost.
const PATIENCE: Duration = Duration::from_millis(1000);
const BREATH: Duration = Duration::from_micros(200);
const EVERYONE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
const RECEIVE_BUFFER: usize = 32 << 20;

/// Exchanges to begin.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// A second.
    pub rate: u32,
    pub exchanges: u32,
    /// Different clients; they come by turns.
    pub clients: u32,
    /// The number of the first client.
    pub first: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub begun: u32,
    /// A second, as it was really begun.
    pub rate: f64,
    pub completed: u32,
    /// DISCOVER to OFFER, milliseconds, sorted.
    pub offers: Vec<f64>,
    /// REQUEST to ACK.
    pub acks: Vec<f64>,
}

impl Outcome {
    pub fn lost(&self) -> u32 {
        self.begun - self.completed
    }
}

/// The value below which `share` of the sorted `values` are.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = (values.len() as f64 * share) as usize;
    values.get(at).or(values.last()).copied()
}

/// When each packet of an exchange was seen, microseconds from the start; 0: not yet.
#[derive(Debug, Default)]
struct Exchange {
    discover: AtomicU64,
    offer: AtomicU64,
    ack: AtomicU64,
}

struct Run {
    load: Load,
    socket: UdpSocket,
    began: Instant,
    exchanges: Vec<Exchange>,
    over: AtomicBool,
}

/// Runs the load among the clients of `place`.
pub fn run(place: &Place, load: Load) -> Result<Outcome> {
    let socket = place.among_clients(open)?;
    let exchanges = (0..load.exchanges).map(|_| Exchange::default()).collect();
    let run = Run { load, socket, began: Instant::now(), exchanges, over: AtomicBool::new(false) };
    let seconds = thread::scope(|scope| {
        let listening = scope.spawn(|| run.listen());
        let seconds = run.begin_all();
        thread::sleep(PATIENCE);
        run.over.store(true, Ordering::Relaxed);
        match listening.join() {
            Ok(heard) => heard.and(seconds),
            Err(_) => bail!("the listening thread ended badly"),
        }
    })?;
    Ok(run.outcome(seconds))
}

fn open() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).context("port 68 of the clients")?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
        .context("receive buffer")?;
    Ok(socket)
}

impl Run {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Sends every DISCOVER when it is due; the seconds that took.
    fn begin_all(&self) -> Result<f64> {
        let mut packet = request(1, &[]);
        for (n, exchange) in (0u32..).zip(&self.exchanges) {
            let due = u64::from(n) * 1_000_000 / u64::from(self.load.rate);
            while self.now() < due {
                thread::sleep(BREATH);
            }
            self.address(&mut packet, n);
            exchange.discover.store(self.now(), Ordering::Relaxed);
            self.socket.send_to(&packet, EVERYONE).context("DISCOVER")?;
        }
        Ok(self.began.elapsed().as_secs_f64())
    }

    /// Answers each OFFER with a REQUEST, and notes each ACK.
    fn listen(&self) -> Result<()> {
        let mut buffer = [0; 2048];
        while !self.over.load(Ordering::Relaxed) {
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let Some(answer) = Answer::read(buffer.get(..length).unwrap_or_default()) else { continue };
            let Some(exchange) = self.exchanges.get(answer.exchange as usize) else { continue };
            match answer.kind {
                2 if exchange.offer.swap(self.now(), Ordering::Relaxed) == 0 => {
                    let mut packet = request(3, &[(54, answer.server), (50, answer.address)]);
                    self.address(&mut packet, answer.exchange);
                    self.socket.send_to(&packet, EVERYONE).context("REQUEST")?;
                }
                5 => {
                    exchange.ack.fetch_max(self.now(), Ordering::Relaxed);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Transaction id and MAC of exchange `n`.
    fn address(&self, packet: &mut [u8], n: u32) {
        let client = self.load.first + n % self.load.clients;
        let [a, b, c, d] = client.to_be_bytes();
        if let (Some(xid), Some(mac)) = (packet.get_mut(4..8), Some([0x52, 0x54, a, b, c, d])) {
            xid.copy_from_slice(&n.to_be_bytes());
            if let Some(place) = packet.get_mut(28..34) {
                place.copy_from_slice(&mac);
            }
        }
    }

    fn outcome(&self, seconds: f64) -> Outcome {
        let (mut offers, mut acks) = (Vec::new(), Vec::new());
        for exchange in &self.exchanges {
            let [discover, offer, ack] =
                [&exchange.discover, &exchange.offer, &exchange.ack].map(|t| t.load(Ordering::Relaxed));
            if offer > 0 {
                offers.push(milliseconds(offer - discover.min(offer)));
            }
            if ack > 0 {
                acks.push(milliseconds(ack - offer.min(ack)));
            }
        }
        offers.sort_by(f64::total_cmp);
        acks.sort_by(f64::total_cmp);
        let completed = u32::try_from(acks.len()).unwrap_or(u32::MAX);
        let rate = f64::from(self.load.exchanges) / seconds.max(0.001);
        Outcome { begun: self.load.exchanges, rate, completed, offers, acks }
    }
}

fn milliseconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1000.0
}

/// A request with the broadcast flag, as EDK2 sends it.
fn request(kind: u8, addresses: &[(u8, [u8; 4])]) -> Vec<u8> {
    let mut packet = vec![0; 236];
    for (at, byte) in [(0, 1), (1, 1), (2, 6), (10, 0x80)] {
        if let Some(place) = packet.get_mut(at) {
            *place = byte;
        }
    }
    packet.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind, 55, 3, 1, 3, 6]);
    for (code, address) in addresses {
        packet.extend_from_slice(&[*code, 4]);
        packet.extend_from_slice(address);
    }
    packet.push(255);
    packet.resize(300, 0);
    packet
}

struct Answer {
    exchange: u32,
    kind: u8,
    address: [u8; 4],
    server: [u8; 4],
}

impl Answer {
    fn read(packet: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<[u8; 4]> { packet.get(at..at + 4)?.try_into().ok() };
        let (mut rest, mut kind, mut server) = (packet.get(240..)?, None, None);
        while let [code, length, tail @ ..] = rest {
            if *code == 255 {
                break;
            }
            let value = tail.get(..usize::from(*length))?;
            match code {
                53 => kind = value.first().copied(),
                54 => server = value.try_into().ok(),
                _ => {}
            }
            rest = tail.get(usize::from(*length)..)?;
        }
        Some(Self {
            exchange: u32::from_be_bytes(word(4)?),
            kind: kind?,
            address: word(16)?,
            server: server?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_and_of_none() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0], 0.99), Some(1.0));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&hundred, 0.5), quantile(&hundred, 0.99)), (Some(51.0), Some(100.0)));
    }

    #[test]
    fn an_answer_is_read_back() {
        let mut packet = request(5, &[(54, [10, 88, 0, 1])]);
        packet[4..8].copy_from_slice(&[0, 0, 1, 2]);
        packet[16..20].copy_from_slice(&[10, 88, 9, 9]);
        let answer = Answer::read(&packet).unwrap();
        assert_eq!((answer.exchange, answer.kind, answer.server), (258, 5, [10, 88, 0, 1]));
        assert_eq!(answer.address, [10, 88, 9, 9]);
        assert!(Answer::read(&packet[..100]).is_none());
    }
}
