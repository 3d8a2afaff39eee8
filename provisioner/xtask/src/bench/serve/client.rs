//! The clients: each has one connection and fetches one chunk after the other, as an agent's worker does.

use anyhow::{Context, Result, bail};
use provisioner_wire::chunks::Sha;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

const STACK: usize = 256 << 10;
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Every so many chunks one is held to its hash: all would measure the clients' processor.
const CHECKED: usize = 64;

#[derive(Debug, Clone, Copy)]
pub struct Crowd<'a> {
    pub clients: usize,
    /// Of all clients together.
    pub requests: usize,
    pub chunks: &'a [Sha],
}

#[derive(Debug)]
pub struct Done {
    pub bytes: u64,
    pub seconds: f64,
    pub p99: Duration,
}

impl Crowd<'_> {
    pub fn fetch(&self, server: SocketAddr) -> Result<Done> {
        let together = Barrier::new(self.clients + 1);
        let each = self.requests / self.clients;
        let (ends, seconds) = thread::scope(|scope| -> Result<_> {
            let mut running = Vec::new();
            for number in 0..self.clients {
                let together = &together;
                let work = move || {
                    let connected = Client::connect(server);
                    together.wait();
                    connected?.fetch(self.chunks, number, each)
                };
                let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
                running.push(started.context("a client's thread")?);
            }
            together.wait();
            let began = Instant::now();
            let ends: Vec<_> = running.into_iter().map(|client| client.join()).collect();
            Ok((ends, began.elapsed().as_secs_f64()))
        })?;
        let (mut bytes, mut times) = (0, Vec::new());
        for end in ends {
            let Ok(end) = end else { bail!("a client ended badly") };
            let (more, took) = end?;
            bytes += more;
            times.extend(took);
        }
        times.sort();
        let p99 = times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or_default();
        Ok(Done { bytes, seconds, p99 })
    }
}

struct Client {
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Client {
    fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).with_context(|| server.to_string())?;
        stream.set_nodelay(true).context("a client's socket")?;
        stream.set_read_timeout(Some(SILENCE_MAX)).context("a client's socket")?;
        Ok(Self { reader: BufReader::with_capacity(16 << 10, stream), body: Vec::new() })
    }

    /// `times` chunks, beginning elsewhere than the others.
    fn fetch(mut self, chunks: &[Sha], number: usize, times: usize) -> Result<(u64, Vec<Duration>)> {
        let (mut bytes, mut took) = (0, Vec::with_capacity(times));
        for turn in 0..times {
            // A prime step: neighbours do not follow each other.
            let at = (number * 7919 + turn * 13) % chunks.len().max(1);
            let chunk = chunks.get(at).context("there are no chunks")?;
            let began = Instant::now();
            self.one(chunk)?;
            took.push(began.elapsed());
            bytes += self.body.len() as u64;
            if turn % CHECKED == number % CHECKED && Sha::of(&self.body) != *chunk {
                bail!("chunk {chunk}: other bytes than those of its hash");
            }
        }
        Ok((bytes, took))
    }

    fn one(&mut self, chunk: &Sha) -> Result<()> {
        let head = format!("GET /images/chunks/{chunk} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.reader.get_mut().write_all(head.as_bytes()).context("asking")?;
        let (mut line, mut length, mut first) = (String::new(), None, true);
        loop {
            line.clear();
            self.reader.read_line(&mut line).context("an answer's head")?;
            if first && !line.starts_with("HTTP/1.1 200") {
                bail!("chunk {chunk}: {:?}", line.trim());
            }
            first = false;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok();
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let length: usize = length.context("an answer without Content-Length")?;
        self.body.resize(length, 0);
        self.reader.read_exact(&mut self.body).context("an answer's body")
    }
}
