//! DHCP for a whole fleet on one socket: port 68 is there once, so answers are handed to the machine they are for.

use super::{PATIENCE, mac};
use anyhow::{Context, Result, bail};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

const EVERYONE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
const RECEIVE_BUFFER: usize = 16 << 20;

/// What an answer said.
#[derive(Debug, Clone)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub server: Ipv4Addr,
    pub file: String,
}

/// In which step of its boot the machine asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Rom,
    Ipxe,
}

/// The link of the fleet.
pub struct Link {
    socket: UdpSocket,
    ears: Vec<Sender<Vec<u8>>>,
    heard: Vec<Mutex<Receiver<Vec<u8>>>>,
    closed: AtomicBool,
}

impl Link {
    pub fn open(interface: &str, machines: u16) -> Result<std::sync::Arc<Self>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).context("port 68")?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).context("receive buffer")?;
        bind_to(&socket, interface)?;
        let (ears, heard) =
            (0..machines).map(|_| channel()).map(|(ear, heard)| (ear, Mutex::new(heard))).unzip();
        let link = std::sync::Arc::new(Self { socket, ears, heard, closed: AtomicBool::new(false) });
        let listening = link.clone();
        std::thread::spawn(move || listening.listen());
        Ok(link)
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn listen(&self) {
        let mut buffer = [0; 2048];
        while !self.closed.load(Ordering::Relaxed) {
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let packet = buffer.get(..length).unwrap_or_default();
            // Not the hardware address: an answer is known by its transaction id.
            let machine = packet.get(4..6).and_then(|n| n.try_into().ok()).map(u16::from_be_bytes);
            if let Some(ear) = machine.and_then(|n| self.ears.get(usize::from(n))) {
                // A machine that has ended hears nothing more.
                let _ = ear.send(packet.to_vec());
            }
        }
    }

    /// DISCOVER to ACK.
    pub fn lease(&self, n: u16, asker: Asker, asked_again: &mut u32) -> Result<Lease> {
        let offer = self.ask(n, asker, 1, None, asked_again)?;
        let offered = read(&offer).context("the offer cannot be read")?;
        let ack = self.ask(n, asker, 3, Some(&offered), asked_again)?;
        read(&ack).context("the acknowledgement cannot be read")
    }

    fn ask(&self, n: u16, asker: Asker, kind: u8, offer: Option<&Lease>, again: &mut u32) -> Result<Vec<u8>> {
        let packet = request(n, asker, kind, offer);
        let heard = self.heard.get(usize::from(n)).context("no such machine")?;
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (attempt, patience) in PATIENCE.into_iter().enumerate() {
            *again += u32::from(attempt > 0);
            self.socket.send_to(&packet, EVERYONE).context("DHCP")?;
            while let Ok(answer) = heard.recv_timeout(patience) {
                if answer.get(4..8) != packet.get(4..8) {
                    continue;
                }
                match option(&answer, 53) {
                    Some([6]) => bail!("refused"),
                    Some([answered]) if *answered == kind + 1 + u8::from(kind == 3) => return Ok(answer),
                    _ => {}
                }
            }
        }
        bail!("no answer to {} tries", PATIENCE.len())
    }
}

fn bind_to(socket: &UdpSocket, interface: &str) -> Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.bind_device(Some(interface.as_bytes())).with_context(|| interface.to_owned())
}

fn request(n: u16, asker: Asker, kind: u8, offer: Option<&Lease>) -> Vec<u8> {
    let [a, b] = n.to_be_bytes();
    let mut packet = vec![1, 1, 6, 0, a, b, asker as u8, kind, 0, 0, 0x80, 0];
    packet.resize(28, 0);
    packet.extend(mac(n).0);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99, 53, 1, kind, 93, 2, 0, 0, 55, 6, 1, 3, 6, 43, 66, 67]);
    let mut put = |code: u8, value: &[u8]| {
        packet.extend([code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        packet.extend(value);
    };
    put(60, b"PXEClient:Arch:00000:UNDI:002001");
    if asker == Asker::Ipxe {
        put(77, b"iPXE");
        // It can do HTTP.
        put(175, &[0x13, 1, 1]);
    }
    if let Some(lease) = offer {
        put(54, &lease.server.octets());
        put(50, &lease.address.octets());
    }
    packet.push(255);
    packet
}

fn read(answer: &[u8]) -> Option<Lease> {
    let address: [u8; 4] = answer.get(16..20)?.try_into().ok()?;
    let server: [u8; 4] = option(answer, 54)?.try_into().ok()?;
    let file = option(answer, 67).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    Some(Lease { address: address.into(), server: server.into(), file })
}

fn option(answer: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = answer.get(240..)?;
    while let [code, length, tail @ ..] = rest {
        match code {
            255 => return None,
            code if *code == wanted => return tail.get(..usize::from(*length)),
            _ => rest = tail.get(usize::from(*length)..)?,
        }
    }
    None
}
