//! One connection on which chunks and everything else are asked for in turn: the short way and the HTTP server proper
//! must look the same from outside, and no byte may be lost between them.

use crate::api::Server;
use provisioner_wire::chunks::Sha;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

struct Connection(BufReader<TcpStream>);

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Connection {
    fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(server.plain.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn get(&mut self, path: &str, headers: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n"));
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "the connection ended: {head}");
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body }
    }
}

fn put(server: &Server, bytes: &[u8]) -> String {
    let name = Sha::of(bytes);
    fs::write(server.file(&format!("chunk-{name}")), bytes).unwrap();
    format!("/images/chunks/{name}")
}

/// Headers that a client or a proxy decides by.
fn decisive(answer: &Answer) -> Vec<&str> {
    let names = ["content-type", "content-length", "cache-control", "accept-ranges", "etag"];
    let mut lines: Vec<&str> =
        answer.head.lines().filter(|l| names.iter().any(|n| l.starts_with(&format!("{n}:")))).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_answer_alike_on_one_connection() {
    let server = Server::start().await;
    let (large, empty) = (vec![9; 3_000_000], Vec::new());
    let (large_path, empty_path) = (put(&server, &large), put(&server, &empty));
    tokio::task::spawn_blocking(move || {
        let mut connection = Connection::to(&server);
        let short = connection.get(&large_path, "");
        assert_eq!((short.status, short.body == large), (200, true));
        assert_eq!(connection.get(&empty_path, "accept: */*\r\n").body, empty);
        // Two in one packet, the second of another kind; then the connection is the HTTP server's.
        let two =
            format!("GET {large_path} HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        connection.send(&two);
        assert!(connection.answer().body == large);
        assert_eq!(connection.answer().body, b"ok\n");
        let proper = connection.get(&large_path, "x-other: 1\r\n");
        assert_eq!((proper.status, proper.body == large), (200, true));
        assert_eq!(decisive(&short), decisive(&proper));
        assert_eq!(decisive(&short).len(), 5);

        // What only the HTTP server knows, asked first.
        let mut connection = Connection::to(&server);
        let part = connection.get(&large_path, "range: bytes=2999990-\r\n");
        assert_eq!((part.status, part.body.len()), (206, 10));
        let unknown = format!("/images/chunks/{}", "0".repeat(64));
        assert_eq!(Connection::to(&server).get(&unknown, "").status, 404);
        // A head that comes byte by byte.
        let mut slow = Connection::to(&server);
        let text = format!("GET {empty_path} HTTP/1.1\r\nhost: x\r\n\r\n");
        for byte in text.bytes() {
            slow.0.get_mut().write_all(&[byte]).unwrap();
        }
        assert_eq!(slow.answer().status, 200);
    })
    .await
    .unwrap();
}
