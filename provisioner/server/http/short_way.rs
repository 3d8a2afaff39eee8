//! The short way of a chunk: from the kernel's memory to the socket with sendfile(2), without a copy through this process.
//!
//! An agent's worker keeps a connection on which it asks for one chunk after the other. Such requests are answered here,
//! before the HTTP server proper has the connection. The first request that is anything else (another path, a range, a
//! condition, a body) goes with the connection to the HTTP server, which answers it and all after it.

use super::{App, by_hash::IMMUTABLE, content::Piece, pace::Later};
use axum_server::accept::Accept;
use httparse::{EMPTY_HEADER, Status};
use provisioner_wire::chunks::Sha;
use rustix::{
    fs::{fstat, sendfile},
    io::{ReadWriteFlags, preadv2},
    net::{SendFlags, send},
};
use std::{
    fs::File,
    io::{self, IoSliceMut},
    net::IpAddr,
    os::unix::fs::FileExt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::timeout,
};

/// Longest head that is looked at here.
const HEAD_MAX: usize = 4 << 10;
/// Between two requests, and for a client that takes nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const PATH: &str = "/images/chunks/";

/// Answers requests for chunks at the beginning of each connection.
#[derive(Clone)]
pub struct ShortWay(App);

impl std::fmt::Debug for ShortWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShortWay")
    }
}

impl ShortWay {
    pub fn new(app: &App) -> Self {
        Self(app.clone())
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for ShortWay {
    type Stream = Begun;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Begun, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let app = self.0.clone();
        Box::pin(async move {
            stream.set_nodelay(true)?;
            let peer = stream.peer_addr()?.ip().to_canonical();
            let mut connection = Begun { read: Vec::with_capacity(HEAD_MAX), stream };
            while connection.chunk_wanted_and_sent(&app, peer).await? {}
            Ok((connection, service))
        })
    }
}

/// A connection, and what was read of it that nobody has answered.
#[derive(Debug)]
pub struct Begun {
    read: Vec<u8>,
    stream: TcpStream,
}

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// Its length, and what it asks for.
    Chunk(usize, Sha),
    Unfinished,
    /// For the HTTP server.
    Other,
}

impl Begun {
    /// Whether the next request was for a chunk and is answered.
    async fn chunk_wanted_and_sent(&mut self, app: &App, peer: IpAddr) -> io::Result<bool> {
        let (length, chunk) = loop {
            match head(&self.read) {
                Head::Chunk(length, chunk) => break (length, chunk),
                Head::Other => return Ok(false),
                Head::Unfinished => {}
            }
            let reading = timeout(SILENCE_MAX, self.stream.read_buf(&mut self.read)).await;
            if reading.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let Some(path) = app.content().piece(Piece::Chunk, &chunk) else { return Ok(false) };
        let Ok(file) = File::open(path) else { return Ok(false) };
        let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        self.read.drain(..length);
        let domain = app.fleet().domain_of(peer);
        if let Err(Later(seconds)) = app.fleet().pace.turn(peer, domain.as_deref(), size).await {
            let text = "too much is asked for at once; come again\n";
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: {seconds}\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            self.send(answer.as_bytes(), SendFlags::empty()).await?;
            return Ok(true);
        }
        let file = in_memory(file, size).await?;
        let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(app.engine().now().0).unwrap_or(0));
        let date = httpdate::fmt_http_date(now);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {size}\r\n\
             cache-control: {IMMUTABLE}\r\naccept-ranges: bytes\r\netag: \"{chunk}\"\r\ndate: {date}\r\n\r\n"
        );
        // The head waits for the first bytes of the file, and leaves in one packet with them.
        let more = if size == 0 { SendFlags::empty() } else { SendFlags::MORE };
        self.send(answer.as_bytes(), more).await?;
        self.send_file(&file, size).await?;
        app.fleet().sent(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(true)
    }

    async fn send(&self, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent =
                self.when_writable(|| Ok(send(&self.stream, bytes, flags | SendFlags::NOSIGNAL)?)).await?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    async fn send_file(&self, file: &File, size: u64) -> io::Result<()> {
        let mut at = 0;
        while at < size {
            let left = usize::try_from(size - at).unwrap_or(usize::MAX);
            let mut offset = at;
            let sent =
                self.when_writable(|| Ok(sendfile(&self.stream, file, Some(&mut offset), left)?)).await?;
            if sent == 0 {
                // Chunks do not shrink; who waits for the rest must not take the next answer for it.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += sent as u64;
        }
        Ok(())
    }

    async fn when_writable(&self, mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        timeout(SILENCE_MAX, self.stream.async_io(Interest::WRITABLE, &mut act))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }
}

/// The file, once its bytes are in the kernel's memory: sendfile would hold up every other task of its thread while it
/// waits for a disk.
async fn in_memory(file: File, size: u64) -> io::Result<File> {
    let there = |at: u64| {
        let mut byte = [0];
        let read = preadv2(&file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT);
        // A file system that cannot tell (tmpfs has it in memory anyway).
        !matches!(read, Err(rustix::io::Errno::AGAIN))
    };
    // Readers of a file go forward: where its end is, the middle is most likely, too.
    if size == 0 || (there(0) && there(size / 2) && there(size - 1)) {
        return Ok(file);
    }
    let read = move || {
        let (mut buffer, mut at) = (vec![0; 256 << 10], 0);
        while at < size {
            match file.read_at(&mut buffer, at)? {
                0 => break,
                count => at += count as u64,
            }
        }
        Ok(file)
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// PURE. What stands at the beginning of `bytes`.
fn head(bytes: &[u8]) -> Head {
    let mut headers = [EMPTY_HEADER; 24];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        // Anything else than a chunk's path shows at once, and need not be waited for.
        Ok(Status::Partial) if bytes.len() < HEAD_MAX && may_be_chunk(bytes) => return Head::Unfinished,
        _ => return Head::Other,
    };
    let plain = |name: &str| {
        ["host", "accept", "accept-encoding", "user-agent"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    let path = request.path.and_then(|path| path.strip_prefix(PATH)).and_then(Sha::from_hex);
    match path {
        Some(chunk)
            if request.method == Some("GET")
                && request.version == Some(1)
                && request.headers.iter().any(|h| h.name.eq_ignore_ascii_case("host"))
                && request.headers.iter().all(|header| plain(header.name)) =>
        {
            Head::Chunk(length, chunk)
        }
        _ => Head::Other,
    }
}

fn may_be_chunk(bytes: &[u8]) -> bool {
    let wanted = b"GET /images/chunks/";
    let common = bytes.len().min(wanted.len());
    bytes.get(..common) == wanted.get(..common)
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.read.len().min(into.remaining());
        into.put_slice(self.read.get(..count).unwrap_or_default());
        self.read.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(method: &str, path: &str, headers: &str) -> Vec<u8> {
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
    }

    #[test]
    fn only_a_plain_request_for_a_chunk_goes_the_short_way() {
        let sha = Sha([0xab; 32]);
        let path = format!("{PATH}{sha}");
        let agent = "accept-encoding: identity\r\nUser-Agent: ureq\r\naccept: */*\r\n";
        for headers in ["", agent] {
            let bytes = request("GET", &path, headers);
            assert_eq!(head(&bytes), Head::Chunk(bytes.len(), sha));
            // The next one right behind it.
            assert_eq!(head(&[&bytes[..], b"POST"].concat()), Head::Chunk(bytes.len(), sha));
            for cut in 0..bytes.len() {
                assert_eq!(head(&bytes[..cut]), Head::Unfinished, "{cut}");
            }
        }
        for bytes in [
            request("HEAD", &path, ""),
            request("GET", &path, "Range: bytes=1-\r\n"),
            request("GET", &path, "If-None-Match: *\r\n"),
            request("GET", &path, "Connection: close\r\n"),
            request("GET", &path, "Content-Length: 5\r\n"),
            request("GET", &path, "Transfer-Encoding: chunked\r\n"),
            request("GET", &format!("{path}?x"), ""),
            request("GET", &format!("{PATH}zz"), ""),
            request("GET", "/healthz", ""),
            b"GET /images/m".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").into_bytes(),
            format!("GET {path} HTTP/1.1\r\n\r\n").into_bytes(),
            [b"GET /images/chunks/".to_vec(), vec![b'a'; HEAD_MAX]].concat(),
        ] {
            assert_eq!(head(&bytes), Head::Other, "{}", String::from_utf8_lossy(&bytes));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_head(bytes in proptest::collection::vec(any::<u8>(), 0..300), real: bool) {
            let bytes = if real { [b"GET /images/chunks/".to_vec(), bytes].concat() } else { bytes };
            if let Head::Chunk(length, _) = head(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
