//! What both ways of serving share: a request becomes a session or a refusal, and a session's end is told.

use super::{
    End, Files, Hearing, Settings, Transferred,
    admission::{Admission, Denied, Place},
    port::block_size_to,
    request::{Asked, ReadRequest, Refusal},
    transfer::{Burst, Next, Transfer},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tftpd::{ErrorCode, OptionType};
use tokio::time::timeout;

/// A file that is made for its machine must be there by then; firmware asks again after a few seconds.
const FILE_WITHIN: Duration = Duration::from_secs(4);

pub struct Desk {
    files: Files,
    hearing: Arc<dyn Hearing>,
    admission: Arc<Admission>,
    block_size_max: u16,
    /// The clock of all transfers.
    started: Instant,
}

/// One transfer and whose it is.
pub struct Session {
    pub peer: SocketAddr,
    /// Our address, as the client asked it.
    pub asked: Option<IpAddr>,
    transfer: Box<Transfer>,
    place: Place,
    file: String,
    began: Duration,
    /// When the one who runs it will look after it.
    pub alarm: Option<Duration>,
}

/// What a request came to.
pub enum Opened {
    /// Send the burst; answers go to the session.
    Session(Session, Burst),
    /// Send this, and that was all.
    Refused(Burst),
    Nothing,
}

impl Desk {
    pub fn new(settings: Settings, files: Files, hearing: Arc<dyn Hearing>) -> Arc<Self> {
        Arc::new(Self {
            files,
            hearing,
            admission: Admission::new(settings.serve_to, settings.transfers_per_client),
            block_size_max: settings.block_size_max,
            started: Instant::now(),
        })
    }

    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// When `at` is by tokio's clock.
    pub fn instant(&self, at: Duration) -> tokio::time::Instant {
        (self.started + at).into()
    }

    /// A place for a transfer to `peer`. Where there is none, nothing at all is answered.
    pub fn admit(&self, peer: SocketAddr, request: &[u8]) -> Option<Place> {
        match self.admission.enter(peer, request) {
            Ok(place) => Some(place),
            Err(denied @ Denied::Full) => {
                tracing::warn!(%peer, "TFTP: {denied}");
                None
            }
            Err(denied) => {
                tracing::debug!(%peer, "TFTP: {denied}");
                None
            }
        }
    }

    pub async fn open(&self, peer: SocketAddr, asked: Option<IpAddr>, packet: &[u8], place: Place) -> Opened {
        let began = self.now();
        let (name, refusal) = match Asked::read(packet) {
            Asked::Nothing => return Opened::Nothing,
            Asked::Refuse(name, refusal) => (name, refusal),
            Asked::Read(request) => match timeout(FILE_WITHIN, self.files.open(peer, &request.name)).await {
                Ok(Some(file)) => {
                    let most = self.block_size(peer, &request);
                    let (transfer, first) = Transfer::begin(file, &request, most, self.now());
                    let file = provisioner_wire::report::clean(&request.name);
                    return Opened::Session(
                        Session { peer, asked, transfer, place, file, began, alarm: None },
                        first,
                    );
                }
                Ok(None) => (Some(request.name), Refusal::NO_SUCH_FILE),
                Err(_) => (Some(request.name), Refusal::LATER),
            },
        };
        self.hearing.transferred(Transferred {
            peer,
            file: name.map(|name| provisioner_wire::report::clean(&name)).unwrap_or_default(),
            bytes: 0,
            acknowledged: 0,
            block_size: 0,
            heard: false,
            retransmits: 0,
            milliseconds: milliseconds(self.now().saturating_sub(began)),
            end: End::Refused(refusal.message),
        });
        Opened::Refused(Burst::error(refusal.code, refusal.message))
    }

    /// Only a client that names a block size can get blocks that would not reach it.
    fn block_size(&self, peer: SocketAddr, request: &ReadRequest) -> u16 {
        if !request.options.iter().any(|o| o.option == OptionType::BlockSize) {
            return self.block_size_max;
        }
        let reaching = block_size_to(peer).unwrap_or_else(|error| {
            tracing::debug!(%peer, "TFTP: the way's MTU is not known: {error}");
            1468
        });
        reaching.min(self.block_size_max)
    }

    pub fn ended(&self, session: Session, end: End) {
        self.hearing.transferred(Transferred {
            peer: session.peer,
            file: session.file,
            bytes: session.transfer.bytes(),
            acknowledged: session.transfer.bytes_taken(),
            block_size: session.transfer.block_size(),
            heard: session.transfer.is_proven(),
            retransmits: session.transfer.retransmits,
            milliseconds: milliseconds(self.now().saturating_sub(session.began)),
            end,
        });
    }
}

impl Session {
    /// A packet of this session's client.
    pub fn hear(&mut self, packet: &[u8], now: Duration) -> Step {
        let step = Step::from(self.transfer.hear(packet, now));
        if self.transfer.is_proven() {
            self.place.prove();
        }
        step
    }

    /// It may be that nothing was heard for too long.
    pub fn look(&mut self, now: Duration) -> Step {
        if now < self.due() { Step::Wait } else { self.transfer.silence(now).into() }
    }

    pub fn due(&self) -> Duration {
        self.transfer.due()
    }
}

/// What a session wants.
pub enum Step {
    Send(Burst),
    Wait,
    End(End),
}

impl From<Next> for Step {
    fn from(next: Next) -> Self {
        match next {
            Next::Send(burst) => Self::Send(burst),
            Next::Nothing => Self::Wait,
            Next::Complete => Self::End(End::Complete),
            Next::Aborted(reason) => Self::End(End::Aborted(reason)),
            Next::Silent => Self::End(End::Silent),
        }
    }
}

/// RFC 1350 §4: a stranger is told, and the transfer goes on. Never in answer to an error.
pub fn to_stranger(packet: &[u8]) -> Option<Burst> {
    const ERROR: &[u8] = &[0, 5];
    (packet.len() >= 4 && !packet.starts_with(ERROR))
        .then(|| Burst::error(ErrorCode::UnknownId, "not your transfer"))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
