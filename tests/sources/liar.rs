//! An HTTP server that lies in the way it is told to, one way for each request.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

#[derive(Debug, Clone)]
pub enum Way {
    /// As it should be, ranges too.
    Honest,
    /// Ends the connection after so many bytes of the body.
    Cut(usize),
    /// The whole file, whatever range was asked for.
    IgnoresRanges,
    /// From another place than was asked for.
    WrongRange,
    /// Other bytes of the same length, by an other entity tag.
    Other,
    /// Announces so many bytes, and sends the file.
    Announces(u64),
    /// More bytes than the file has, without a length.
    Endless,
    /// The whole file, without a length.
    Unsized,
    /// As it should be, in five seconds.
    Slow,
    /// The first half, and then nothing.
    Stalls,
    /// This status, with these headers.
    Status(u16, String),
    /// Compressed on the way, it says.
    Coded,
}

pub struct Liar {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    /// The last way is for all requests that come after.
    pub fn new(contents: &[u8], ways: &[Way]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (contents, ways, seen) = (contents.to_vec(), ways.to_vec(), Arc::<Mutex<Vec<String>>>::default());
        let heard = seen.clone();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let way = ways.get(number).or(ways.last()).unwrap().clone();
                let (contents, heard) = (contents.clone(), heard.clone());
                thread::spawn(move || serve(stream.unwrap(), &contents, &way, &heard));
            }
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}/disk.img", self.address)
    }

    /// The head of each request, lower case.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, contents: &[u8], way: &Way, heard: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let asked =
        head.lines().find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    heard.lock().unwrap().push(head.clone());
    let other = head.contains("if-range: \"other\"");
    let from = asked.filter(|from| *from < contents.len() && !other);
    let line = |status: &str, from: usize, length: u64, tag: &str| {
        let range = format!("content-range: bytes {from}-{}/{}\r\n", contents.len() - 1, contents.len());
        let range = if status.starts_with("206") { range } else { String::new() };
        format!(
            "HTTP/1.1 {status}\r\netag: \"{tag}\"\r\n{range}content-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    let honest = |from: Option<usize>| {
        let rest = &contents[from.unwrap_or(0)..];
        let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
        (line(status, from.unwrap_or(0), rest.len() as u64, "one"), rest.to_vec())
    };
    let (answer, body) = match way {
        Way::Honest | Way::Slow => honest(from),
        Way::Cut(after) => {
            let (line, body) = honest(from);
            (line, body[..body.len().min(*after)].to_vec())
        }
        Way::IgnoresRanges => honest(None),
        Way::WrongRange => {
            let (_, body) = honest(from);
            (line("206 Partial Content", from.unwrap_or(0) + 1, body.len() as u64, "one"), body)
        }
        Way::Other => {
            let body: Vec<u8> = contents.iter().map(|b| !b).collect();
            (line("200 OK", 0, body.len() as u64, "other"), body)
        }
        Way::Announces(length) => (line("200 OK", 0, *length, "one"), contents.to_vec()),
        Way::Endless => {
            let body = contents.iter().copied().cycle().take(contents.len() * 20).collect();
            ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned(), body)
        }
        Way::Stalls => {
            let (line, body) = honest(from);
            (line, body[..body.len() / 2].to_vec())
        }
        Way::Unsized => ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned(), contents.to_vec()),
        Way::Status(status, headers) => (
            format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"),
            Vec::new(),
        ),
        Way::Coded => {
            let (line, body) = honest(None);
            (line.replace("etag", "content-encoding: gzip\r\netag"), body)
        }
    };
    let _ = stream.write_all(answer.as_bytes());
    for part in body.chunks(if matches!(way, Way::Slow) { body.len() / 50 } else { body.len().max(1) }) {
        let _ = stream.write_all(part);
        if matches!(way, Way::Slow) {
            thread::sleep(Duration::from_millis(100));
        }
    }
    if matches!(way, Way::Stalls) {
        let _ = stream.read(&mut byte);
    }
    let _ = stream.shutdown(Shutdown::Write);
    // Until the other side has read it all: a reset would take from it what is on the way.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = stream.read(&mut byte);
}
