//! A small HTTP/1.1 server of our own, for no honest one can be made to lie: the agent's six questions answered as the
//! wire says, and image bodies with every fault that the field knows.

use provisioner_wire::{
    BootId, Generation, MachineName,
    channel::{AUTHORIZATION, Channel, PrivateKey, config_context, split_authorization},
    order::{
        Challenge, Claim, ClaimAnswer, Config, Image, ImageFormat, LicenceGrant, LicenceId, Order, Outcome,
        Progress, Refusal, SealedConfig, ShowReadBack, SpendLicence, StepResult, WriteImage, path,
    },
    read_back::{Proof, pieces},
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What goes wrong with one image request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    None,
    /// The connection ends when the file's byte of this number would come.
    CutAt(u64),
    /// The connection ends after so many bytes of this answer.
    CutAfter(u64),
    /// Silence from that byte on.
    StallAt(u64),
    /// One bit of that byte is turned.
    Flip(u64),
    /// Content-Length says this many bytes more, and so many zeros follow.
    Longer(u64),
    /// Content-Length says this many bytes less.
    Shorter(u64),
    /// Nothing but this status.
    Status(u16),
    /// The range is ignored: the whole file with 200; cut at this byte.
    Whole(u64),
    /// A range that begins this many bytes later than asked for.
    Shifted(u64),
    /// Another entity tag, as of a changed file.
    Changed,
    /// `Content-Encoding: gzip`.
    Encoded,
    /// The connection is closed without an answer.
    Silent,
    /// No Content-Length: the body ends with the connection.
    NoLength,
}

/// What the server remembers, for tests to look at.
#[derive(Debug, Default)]
pub struct Seen {
    pub claims: usize,
    pub spent: Vec<SpendLicence>,
    pub results: Vec<StepResult>,
    pub progress: Vec<Progress>,
    pub image_requests: usize,
    /// File bytes sent as image bodies.
    pub image_bytes: u64,
    pub unsigned: usize,
    /// The disk at the moment of the licence.
    pub at_licence: Option<Vec<u8>>,
    /// The disk at the moment of the challenge.
    pub at_challenge: Option<Vec<u8>>,
    pub proofs: Vec<String>,
}

pub struct Plan {
    pub orders: Vec<Order>,
    pub image: Vec<u8>,
    /// By path: a manifest and chunks, in place of `image`.
    pub pieces: HashMap<String, Vec<u8>>,
    /// One for each image request, in turn; afterwards `then`.
    pub lies: Vec<Lie>,
    pub then: Lie,
    /// Status for the first so many requests of a path.
    pub refuse: HashMap<&'static str, (usize, u16)>,
    pub config: Option<Config>,
    pub disk: Option<std::path::PathBuf>,
    /// The image as the server has it, and its manifest: what a challenge is answered by.
    pub proven: Option<(Vec<u8>, provisioner_wire::chunks::Manifest)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            orders: Vec::new(),
            image: Vec::new(),
            pieces: HashMap::new(),
            lies: Vec::new(),
            then: Lie::None,
            refuse: HashMap::new(),
            config: None,
            disk: None,
            proven: None,
        }
    }
}

pub struct Server {
    pub address: String,
    pub key: PrivateKey,
    pub boot_id: BootId,
    pub seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
}

struct Inner {
    plan: Plan,
    key: [u8; 32],
    boot_id: BootId,
    seen: Arc<Mutex<Seen>>,
    channel: Mutex<Option<Channel>>,
    image_requests: AtomicUsize,
    refused: Mutex<HashMap<String, usize>>,
    stop: Arc<AtomicBool>,
}

const KEY: [u8; 32] = [7; 32];
const NONCE: [u8; 32] = [9; 32];
pub const GENERATION: Generation = Generation(3);

pub fn machine_name() -> MachineName {
    "node-1".parse().unwrap()
}

impl Server {
    pub fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        Self::serve(plan, listener, address)
    }

    /// On an address that was chosen before, as a server that comes back.
    pub fn serve(plan: Plan, listener: TcpListener, address: String) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let boot_id = BootId::from_bytes([0x5a; 16]);
        let inner = Arc::new(Inner {
            plan,
            key: KEY,
            boot_id: boot_id.clone(),
            seen: Arc::clone(&seen),
            channel: Mutex::default(),
            image_requests: AtomicUsize::new(0),
            refused: Mutex::default(),
            stop: Arc::clone(&stop),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if inner.stop.load(Ordering::Relaxed) {
                    return;
                }
                let inner = Arc::clone(&inner);
                std::thread::spawn(move || inner.connection(stream.unwrap()));
            }
        });
        Self { address, key: PrivateKey::from_bytes(KEY), boot_id, seen, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

fn json<T: serde::Serialize>(status: u16, value: &T) -> (u16, Vec<u8>) {
    (status, serde_json::to_vec(value).unwrap())
}

fn refuse(status: u16, reason: &str) -> (u16, Vec<u8>) {
    json(status, &Refusal { reason: reason.into() })
}

impl Inner {
    fn connection(&self, stream: TcpStream) {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            if request.path.starts_with("/image") {
                if request.method == "HEAD" {
                    let length = self.file(&request).len();
                    let head =
                        format!("HTTP/1.1 200 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                    let _ = writer.write_all(head.as_bytes());
                    return;
                }
                // One image answer a connection, so that a lie about the body ends with it.
                let _ = self.image(&request, &mut writer);
                return;
            }
            let (status, body) = self.answer(&request);
            if status == 0 {
                return;
            }
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
            if writer.write_all(&[head.as_bytes(), &body].concat()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request) -> (u16, Vec<u8>) {
        let mut seen = self.seen.lock().unwrap();
        if let Some((times, status)) = self.plan.refuse.get(request.path.as_str()) {
            let mut refused = self.refused.lock().unwrap();
            let count = refused.entry(request.path.clone()).or_default();
            *count += 1;
            if *count <= *times {
                return if *status == 0 { (0, Vec::new()) } else { refuse(*status, "as the test wants it") };
            }
        }
        if request.path == path::CLAIM {
            return self.claim(&serde_json::from_slice(&request.body).unwrap(), &mut seen);
        }
        let signed = request.headers.get(AUTHORIZATION).and_then(|v| split_authorization(v)).is_some_and(
            |(hash, hmac)| {
                let channel = self.channel.lock().unwrap();
                hash == self.boot_id.hash()
                    && channel.as_ref().unwrap().authorizes(
                        hmac,
                        &request.method,
                        &request.path,
                        &request.body,
                    )
            },
        );
        if !signed {
            seen.unsigned += 1;
            return refuse(401, "not signed");
        }
        match request.path.as_str() {
            path::ORDER => json(200, &self.next_order(&seen)),
            path::LICENCE => {
                seen.spent.push(serde_json::from_slice(&request.body).unwrap());
                seen.at_licence = self.plan.disk.as_ref().map(|disk| std::fs::read(disk).unwrap());
                json(200, &LicenceGrant { resume: seen.spent.len() > 1 })
            }
            path::CONFIG => self.config(),
            path::CHALLENGE => {
                seen.at_challenge = self.plan.disk.as_ref().map(|disk| std::fs::read(disk).unwrap());
                json(200, &Challenge { nonce: provisioner_wire::ids::hex(&NONCE) })
            }
            path::READ_BACK => {
                let shown: ShowReadBack = serde_json::from_slice(&request.body).unwrap();
                seen.proofs.push(shown.proof.clone());
                if shown.proof == self.expected() { (200, Vec::new()) } else { refuse(403, "the disk lies") }
            }
            path::RESULT => {
                let result: StepResult = serde_json::from_slice(&request.body).unwrap();
                if seen.results.last() != Some(&result) {
                    seen.results.push(result);
                }
                (204, Vec::new())
            }
            path::PROGRESS => {
                seen.progress.push(serde_json::from_slice(&request.body).unwrap());
                (204, Vec::new())
            }
            _ => refuse(404, "no such path"),
        }
    }

    fn claim(&self, claim: &Claim, seen: &mut Seen) -> (u16, Vec<u8>) {
        let key = PrivateKey::from_bytes(self.key);
        let channel = Channel::new(&key, &claim.public_key, &self.boot_id.hash()).unwrap();
        if claim.boot_id != self.boot_id || !channel.proof_holds(&self.boot_id, &claim.proof) {
            return refuse(410, "the boot id is unknown");
        }
        *self.channel.lock().unwrap() = Some(channel);
        seen.claims += 1;
        json(200, &ClaimAnswer { machine: machine_name(), generation: GENERATION })
    }

    /// The plan's orders in turn; after a failure, or at the end, a reboot.
    fn next_order(&self, seen: &Seen) -> Order {
        let failed = seen.results.iter().any(|r| matches!(r.outcome, Outcome::Failed { .. }));
        let next = self.plan.orders.get(seen.results.len()).filter(|_| !failed);
        next.cloned().unwrap_or(Order::Reboot { reason: "the plan is done".into() })
    }

    /// As the server makes it of its own bytes.
    fn expected(&self) -> String {
        let (raw, manifest) = self.plan.proven.as_ref().expect("nothing was to be proven");
        let mut proof = Proof::new(&NONCE);
        for piece in pieces(&NONCE, manifest, super::machine::DISK_BYTES as u64) {
            let at = usize::try_from(piece.at).unwrap();
            proof.update(&piece, &raw[at..at + usize::try_from(piece.length).unwrap()]);
        }
        proof.finish()
    }

    fn config(&self) -> (u16, Vec<u8>) {
        let Some(config) = &self.plan.config else { return refuse(403, "no config") };
        let text = serde_json::to_vec(config).unwrap();
        let channel = self.channel.lock().unwrap();
        let sealed = channel.as_ref().unwrap().seal(&text, &config_context(&machine_name(), GENERATION));
        json(200, &SealedConfig { sealed: sealed.unwrap() })
    }

    fn file(&self, request: &Request) -> &Vec<u8> {
        self.plan.pieces.get(&request.path).unwrap_or(&self.plan.image)
    }

    fn image(&self, request: &Request, writer: &mut TcpStream) -> std::io::Result<()> {
        let number = self.image_requests.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().unwrap().image_requests += 1;
        let lie = self.plan.lies.get(number).copied().unwrap_or(self.plan.then);
        let file = self.file(request);
        let size = file.len() as u64;
        let asked = request
            .headers
            .get("range")
            .map(|r| r.trim_start_matches("bytes=").trim_end_matches('-').parse::<u64>().unwrap());
        if let Lie::Status(status) = lie {
            return write!(writer, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        }
        if lie == Lie::Silent {
            return Ok(());
        }
        let etag = if lie == Lie::Changed { "\"another\"" } else { "\"image-1\"" };
        // RFC 9110 §13.1.5: an If-Range that does not match means the whole file.
        let matches = request.headers.get("if-range").is_none_or(|tag| tag == etag);
        let range = asked.filter(|_| matches && !matches!(lie, Lie::Whole(_)));
        let (start, mut head) = match range {
            Some(start) => {
                let shift = if let Lie::Shifted(by) = lie { by } else { 0 };
                let first = start + shift;
                let line = format!("206 X\r\ncontent-range: bytes {first}-{}/{size}", size - 1);
                (first, line)
            }
            None => (0, "200 X".to_owned()),
        };
        let length = match lie {
            Lie::Longer(by) => size - start + by,
            Lie::Shorter(by) => size - start - by,
            _ => size - start,
        };
        if lie == Lie::Encoded {
            head += "\r\ncontent-encoding: gzip";
        }
        if lie != Lie::NoLength {
            head += &format!("\r\ncontent-length: {length}");
        }
        write!(writer, "HTTP/1.1 {head}\r\netag: {etag}\r\n\r\n")?;
        let bytes = file[usize::try_from(start).unwrap()..].to_vec();
        self.body(lie, start, bytes, length, writer)
    }

    fn body(
        &self,
        lie: Lie,
        start: u64,
        mut bytes: Vec<u8>,
        length: u64,
        writer: &mut TcpStream,
    ) -> std::io::Result<()> {
        bytes.resize(usize::try_from(length).unwrap(), 0);
        let place = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap().min(bytes.len());
        let upto = match lie {
            Lie::CutAfter(many) => place(start + many),
            Lie::CutAt(at) | Lie::StallAt(at) | Lie::Whole(at) => place(at),
            _ => bytes.len(),
        };
        if let Lie::Flip(at) = lie
            && at >= start
        {
            bytes[usize::try_from(at - start).unwrap()] ^= 0x10;
        }
        for piece in bytes[..upto].chunks(64 << 10) {
            writer.write_all(piece)?;
            self.seen.lock().unwrap().image_bytes += piece.len() as u64;
        }
        if let Lie::StallAt(_) = lie {
            // Held open until the agent gives up on it or the test ends.
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(20));
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The order to write `raw`, served as `served`.
pub fn write_order(raw: &[u8], served: &[u8], format: ImageFormat) -> Order {
    Order::WriteImage(WriteImage {
        disk: super::machine::Machine::identity(),
        licence: LicenceId(uuid::Uuid::from_u128(1)),
        image: Image {
            name: "debian".into(),
            url: "/image/debian".into(),
            format,
            sha256: sha256(served),
            size_bytes: served.len() as u64,
            raw_sha256: Some(sha256(raw)),
            raw_size_bytes: Some(raw.len() as u64),
            chunks: None,
        },
        read_back: None,
    })
}

pub fn sha256(bytes: &[u8]) -> String {
    provisioner_wire::ids::hex(&Sha256::digest(bytes))
}
