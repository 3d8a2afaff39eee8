//! The client that all servers are measured with: RFC 1350 with blksize and windowsize, as firmware does it. It checks what
//! it gets.

use anyhow::{Context, Result, bail};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// After this much silence it repeats its last word, as firmware does.
const SILENCE: Duration = Duration::from_secs(1);
/// A client that has no file by then has failed.
const WITHIN: Duration = Duration::from_secs(40);
const STACK: usize = 256 << 10;

#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    pub server: SocketAddr,
    pub name: &'a str,
    pub contents: &'a [u8],
    pub block: usize,
    pub window: u16,
}

/// `clients` fetch at once; seconds until the last one has its file.
pub fn storm(fetch: Fetch<'_>, clients: usize) -> Result<f64> {
    let together = Barrier::new(clients + 1);
    thread::scope(|scope| {
        let mut running = Vec::new();
        for _ in 0..clients {
            let work = || {
                together.wait();
                fetch.run()
            };
            let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            running.push(started.context("a client's thread")?);
        }
        together.wait();
        let began = Instant::now();
        let ends: Vec<_> = running.into_iter().map(|client| client.join()).collect();
        let seconds = began.elapsed().as_secs_f64();
        let failed: Vec<_> = ends
            .into_iter()
            .filter_map(|end| match end {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some("a client ended badly".to_owned()),
            })
            .collect();
        match failed.first() {
            None => Ok(seconds),
            Some(first) => bail!("{} of {clients} clients have no file: {first}", failed.len()),
        }
    })
}

impl Fetch<'_> {
    pub fn run(&self) -> Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("a client's socket")?;
        socket.set_read_timeout(Some(SILENCE)).context("a client's socket")?;
        let mut client = Client {
            fetch: self,
            socket,
            peer: self.server,
            said: self.request(),
            block: 512,
            window: 1,
            got: 0,
            last: 0,
            in_window: 0,
            told_gap: false,
        };
        client.say()?;
        let (began, mut packet) = (Instant::now(), vec![0; 65_536]);
        loop {
            if began.elapsed() > WITHIN {
                bail!(
                    "{}: {} of {} bytes in {} s",
                    self.name,
                    client.got,
                    self.contents.len(),
                    WITHIN.as_secs()
                );
            }
            match client.socket.recv_from(&mut packet) {
                Ok((length, from)) => {
                    let packet = packet.get(..length).unwrap_or_default();
                    if client.hear(packet, from)? {
                        return Ok(());
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    client.say()?
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
    }

    fn request(&self) -> Vec<u8> {
        let mut packet = [&[0, 1], self.name.as_bytes(), b"\0octet\0"].concat();
        packet.extend(format!("blksize\0{}\0tsize\x000\0", self.block).bytes());
        if self.window > 1 {
            packet.extend(format!("windowsize\0{}\0", self.window).bytes());
        }
        packet
    }
}

struct Client<'a> {
    fetch: &'a Fetch<'a>,
    socket: UdpSocket,
    peer: SocketAddr,
    /// What is said again after a silence.
    said: Vec<u8>,
    block: usize,
    window: u16,
    got: usize,
    last: u16,
    in_window: u16,
    /// RFC 7440: a gap is told once.
    told_gap: bool,
}

impl Client<'_> {
    fn say(&self) -> Result<()> {
        self.socket.send_to(&self.said, self.peer).map(|_| ()).context("sending")
    }

    fn acknowledge(&mut self) -> Result<()> {
        let [high, low] = self.last.to_be_bytes();
        (self.said, self.in_window) = (vec![0, 4, high, low], 0);
        self.say()
    }

    /// Whether the whole file is there.
    fn hear(&mut self, packet: &[u8], from: SocketAddr) -> Result<bool> {
        let started = self.last != 0 || self.got > 0 || self.peer != self.fetch.server;
        if started && from != self.peer {
            return Ok(false);
        }
        match packet {
            [0, 3, high, low, data @ ..] => {
                self.peer = from;
                self.data(u16::from_be_bytes([*high, *low]), data)
            }
            [0, 6, options @ ..] if self.last == 0 && self.got == 0 => {
                self.peer = from;
                self.agree(options)?;
                self.acknowledge()?;
                Ok(false)
            }
            [0, 5, _, code, text @ ..] => bail!("error {code}: {}", String::from_utf8_lossy(text)),
            _ => Ok(false),
        }
    }

    fn agree(&mut self, options: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(options).to_lowercase();
        let words: Vec<&str> = text.split('\0').collect();
        for pair in words.chunks(2) {
            let [name, value] = pair else { continue };
            match *name {
                "blksize" => self.block = value.parse().with_context(|| format!("blksize {value}"))?,
                "windowsize" => self.window = value.parse().with_context(|| format!("windowsize {value}"))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn data(&mut self, number: u16, data: &[u8]) -> Result<bool> {
        if number != self.last.wrapping_add(1) {
            // In lock-step an old block is a duplicate; its acknowledgement may have been lost.
            if self.window == 1 || !self.told_gap {
                self.told_gap = true;
                self.acknowledge()?;
            }
            return Ok(false);
        }
        let expected = self.fetch.contents.get(self.got..self.got + data.len());
        if expected != Some(data) {
            bail!("{}: other bytes than the file's at {}", self.fetch.name, self.got);
        }
        (self.got, self.last, self.told_gap) = (self.got + data.len(), number, false);
        self.in_window += 1;
        let done = data.len() < self.block;
        if done || self.in_window >= self.window {
            self.acknowledge()?;
        }
        Ok(done)
    }
}
