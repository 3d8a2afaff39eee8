//! TFTP and HTTP from one machine's own address.

use super::PATIENCE;
use anyhow::{Context, Result, bail};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    time::Duration,
};

const BLOCK: usize = 1468;
/// For one answer over TCP, which repeats by itself what was lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Attempts to connect, and to get an answer.
const TRIES: u32 = 3;

/// Fetches `name` as a boot ROM does; how many bytes it had.
pub fn tftp(from: Ipv4Addr, server: Ipv4Addr, name: &str, asked_again: &mut u32) -> Result<usize> {
    let socket = UdpSocket::bind((from, 0)).with_context(|| format!("{from}: is it a local address?"))?;
    let mut out =
        [b"\0\x01", name.as_bytes(), b"\0octet\0blksize\0", BLOCK.to_string().as_bytes(), b"\0"].concat();
    let (mut to, mut bytes, mut block) = (SocketAddr::from((server, 69)), 0, 0u16);
    let mut buffer = [0; 4 + BLOCK];
    loop {
        let length = exchange(&socket, &out, &mut to, &mut buffer, asked_again)?;
        let packet = buffer.get(..length).unwrap_or_default();
        match packet {
            [0, 6, ..] => {}
            [0, 3, high, low, data @ ..] => {
                let number = u16::from_be_bytes([*high, *low]);
                if number == block.wrapping_add(1) {
                    (bytes, block) = (bytes + data.len(), number);
                    if data.len() < BLOCK {
                        socket.send_to(&[0, 4, *high, *low], to).context("the last ACK")?;
                        return Ok(bytes);
                    }
                }
            }
            [0, 5, ..] => bail!("{}", String::from_utf8_lossy(packet.get(4..).unwrap_or_default())),
            _ => bail!("not a TFTP packet"),
        }
        out = [&[0, 4][..], &block.to_be_bytes()].concat();
    }
}

/// Sends until something comes; the first answer decides with which port to go on.
fn exchange(
    socket: &UdpSocket,
    out: &[u8],
    to: &mut SocketAddr,
    buffer: &mut [u8],
    asked_again: &mut u32,
) -> Result<usize> {
    for (attempt, patience) in PATIENCE.into_iter().enumerate() {
        *asked_again += u32::from(attempt > 0);
        socket.send_to(out, *to)?;
        socket.set_read_timeout(Some(patience))?;
        if let Ok((length, peer)) = socket.recv_from(buffer) {
            *to = peer;
            return Ok(length);
        }
    }
    bail!("no answer to {} tries", PATIENCE.len())
}

pub fn get(from: Ipv4Addr, url: &str) -> Result<String> {
    http(from, "GET", url, "")
}

pub fn post(from: Ipv4Addr, url: &str, body: &str) -> Result<String> {
    http(from, "POST", url, body)
}

/// The body of a 200; anything else is an error. A connection that breaks is tried again, an answer is not.
fn http(from: Ipv4Addr, method: &str, url: &str, body: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url:?} is not plain HTTP"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let server: SocketAddrV4 = host.parse().with_context(|| format!("{host:?} is not address:port"))?;
    let question = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut last = None;
    for _ in 0..TRIES {
        match ask(from, server, &question) {
            Ok(text) => return read(&text),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("never asked")?.context(format!("{method} {url}")))
}

fn ask(from: Ipv4Addr, server: SocketAddrV4, question: &str) -> Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(from, 0)))?;
    socket.connect_timeout(&SockAddr::from(server), ANSWER_WITHIN)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(question.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn read(text: &str) -> Result<String> {
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{}: {}", head.lines().next().unwrap_or_default(), body.trim());
    }
    Ok(body.to_owned())
}
