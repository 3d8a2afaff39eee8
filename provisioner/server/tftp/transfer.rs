//! PURE. One TFTP read transfer (RFC 1350, 2347, 2348, 2349, 7440): packets and silence in, packets out. The clock is any
//! that runs; the same one must be handed in throughout.

use super::{
    request::ReadRequest,
    round_trip::RoundTrip,
    source::{Cursor, Source},
};
use bytes::Bytes;
use std::time::Duration;
use tftpd::{ErrorCode, OptionType, Packet, TransferOption};

const BLOCK_SIZE_PLAIN: u16 = 512;
/// Blocks in flight; more would only fill the client's receive ring.
pub const WINDOW_MAX: u16 = 64;
/// Before the client has acknowledged anything it may not exist: a request with a forged sender must not be worth much
/// (TFTP is a known amplifier). The first packet and these.
const RETRANSMITS_UNHEARD: u32 = 2;
/// A client that was heard may lose its link for as long as a switch port needs to come up again.
const PATIENCE_HEARD: Duration = Duration::from_secs(20);
/// A whole transfer, however slow; then its place is for others.
const TRANSFER_WITHIN: Duration = Duration::from_secs(3600);

/// Datagrams that go out together: all are `segment` bytes long, and the last one may be shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burst {
    pub bytes: Vec<u8>,
    pub segment: usize,
}

impl Burst {
    pub fn one(bytes: Vec<u8>) -> Self {
        Self { segment: bytes.len(), bytes }
    }

    pub fn error(code: ErrorCode, message: &str) -> Self {
        Self::one(Packet::Error { code, msg: message.to_owned() }.serialize().unwrap_or_default())
    }

    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.segment.max(1))
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Send(Burst),
    /// Nothing to send; keep waiting.
    Nothing,
    Complete,
    Aborted(String),
    /// The client is gone.
    Silent,
}

#[derive(Debug)]
pub struct Transfer {
    source: Source,
    block_size: usize,
    window: u64,
    /// First block that is not acknowledged, counted from 1 without rolling over, and where it begins.
    base: u64,
    base_at: Cursor,
    /// The last block is shorter than the others, and empty where the file is a multiple (RFC 1350 §6).
    last: u64,
    /// Waiting for the answer to our option acknowledgement.
    oack: Option<Burst>,
    round_trip: RoundTrip,
    began_at: Duration,
    sent_at: Duration,
    /// What is in flight was sent once only, and so its answer can be measured.
    sent_once: bool,
    /// A gap at the beginning of this window was heard of, and answered.
    gap_told: bool,
    /// `None` before the first acknowledgement.
    heard_at: Option<Duration>,
    /// Sent again in a row without an acknowledgement that brought anything new.
    silences: u32,
    pub retransmits: u32,
}

impl Transfer {
    /// Answers `request` with `file`, in blocks of at most `block_size_max`. Send the burst, then expect answers.
    pub fn begin(
        file: Bytes,
        request: &ReadRequest,
        block_size_max: u16,
        now: Duration,
    ) -> (Box<Self>, Burst) {
        let mut transfer = Box::new(Self {
            source: Source::new(file, request.mode),
            block_size: BLOCK_SIZE_PLAIN.into(),
            window: 1,
            base: 1,
            base_at: Cursor::default(),
            last: 1,
            oack: None,
            round_trip: RoundTrip::default(),
            began_at: now,
            sent_at: now,
            sent_once: true,
            gap_told: false,
            heard_at: None,
            silences: 0,
            retransmits: 0,
        });
        let agreed = transfer.agree(&request.options, block_size_max);
        transfer.last = (transfer.source.length() / transfer.block_size) as u64 + 1;
        // Every option has a number: an acknowledgement of them can always be written.
        let oack = (!agreed.is_empty()).then(|| Packet::Oack(agreed).serialize().unwrap_or_default());
        transfer.oack = oack.map(Burst::one);
        let first = transfer.in_flight();
        (transfer, first)
    }

    /// RFC 2347: only what was asked for and understood is acknowledged.
    fn agree(&mut self, options: &[TransferOption], block_size_max: u16) -> Vec<TransferOption> {
        let mut agreed: Vec<TransferOption> = Vec::new();
        for asked in options {
            // Asked for twice, the first counts: what is acknowledged is what is done.
            if agreed.iter().any(|a| a.option == asked.option) {
                continue;
            }
            let value = match asked.option {
                // RFC 2348: 8 to 65464; the server may lower it.
                OptionType::BlockSize if (8..=65464).contains(&asked.value) => {
                    let size = asked.value.min(block_size_max.into());
                    self.block_size = usize::try_from(size).unwrap_or(BLOCK_SIZE_PLAIN.into());
                    size
                }
                OptionType::TransferSize => self.source.length() as u64,
                // RFC 2349: 1 to 255 s, echoed as it is or left out.
                OptionType::Timeout if (1..=255).contains(&asked.value) => {
                    self.round_trip.ask(Duration::from_secs(asked.value));
                    asked.value
                }
                OptionType::WindowSize if (1..=65535).contains(&asked.value) => {
                    self.window = asked.value.min(WINDOW_MAX.into());
                    self.window
                }
                _ => continue,
            };
            agreed.push(TransferOption { option: asked.option, value });
        }
        agreed
    }

    /// A packet from this transfer's client.
    pub fn hear(&mut self, packet: &[u8], now: Duration) -> Next {
        if let [0, 4, high, low, ..] = packet {
            return self.acknowledged(u16::from_be_bytes([*high, *low]), now);
        }
        match Packet::deserialize(packet).ok() {
            Some(Packet::Error { msg, .. }) => Next::Aborted(msg.chars().take(80).collect()),
            _ => Next::Nothing,
        }
    }

    fn acknowledged(&mut self, block: u16, now: Duration) -> Next {
        if now.saturating_sub(self.began_at) >= TRANSFER_WITHIN {
            return Next::Silent;
        }
        if self.oack.is_some() {
            if block != 0 {
                return Next::Nothing;
            }
            self.oack = None;
            return self.advance(now);
        }
        // The 16-bit number rolls over; of the blocks in flight at most one has it.
        let ahead = u64::from(block.wrapping_sub(low_16_bits(self.base)));
        let in_flight = self.window.min(self.last + 1 - self.base);
        if ahead >= in_flight {
            return self.repeated(block, now);
        }
        for _ in 0..=ahead {
            self.source.pass(&mut self.base_at, self.block_size);
            self.base += 1;
        }
        if self.base > self.last { Next::Complete } else { self.advance(now) }
    }

    /// An acknowledgement of nothing new. In lock-step it is a duplicate, and sending again would double all traffic from
    /// then on (RFC 1123 §4.2.3.1). In a window, the block before it says that its first block was lost (RFC 7440 §4):
    /// once, for each packet behind the gap brings the same news, and answering each with a window would fill the way with
    /// packets that are answered in their turn; and not as soon as it was sent, for such news is old.
    fn repeated(&mut self, block: u16, now: Duration) -> Next {
        let before_window = block == low_16_bits(self.base - 1);
        let can_be_an_answer = now.saturating_sub(self.sent_at) >= self.round_trip.least();
        if !before_window || self.window == 1 || !can_be_an_answer || self.gap_told {
            return Next::Nothing;
        }
        self.gap_told = true;
        self.again(now)
    }

    fn advance(&mut self, now: Duration) -> Next {
        if self.sent_once {
            self.round_trip.measure(now.saturating_sub(self.sent_at));
        }
        (self.heard_at, self.silences, self.sent_at, self.sent_once) = (Some(now), 0, now, true);
        self.gap_told = false;
        Next::Send(self.in_flight())
    }

    /// When to call [`Self::silence`], if nothing is heard until then.
    pub fn due(&self) -> Duration {
        self.sent_at + self.round_trip.wait(self.silences)
    }

    /// [`Self::due`] has come.
    pub fn silence(&mut self, now: Duration) -> Next {
        self.again(now)
    }

    fn again(&mut self, now: Duration) -> Next {
        let gone = match self.heard_at {
            None => self.silences >= RETRANSMITS_UNHEARD,
            Some(heard) => now.saturating_sub(heard) >= PATIENCE_HEARD,
        };
        if gone {
            return Next::Silent;
        }
        self.silences += 1;
        self.retransmits += 1;
        (self.sent_at, self.sent_once) = (now, false);
        Next::Send(self.in_flight())
    }

    /// The client has acknowledged something: it is where its packets say it is.
    pub fn is_proven(&self) -> bool {
        self.heard_at.is_some()
    }

    /// Bytes of the whole file, as sent.
    pub fn bytes(&self) -> usize {
        self.source.length()
    }

    /// What the client has acknowledged, in bytes.
    pub fn bytes_taken(&self) -> usize {
        let blocks = usize::try_from(self.base.saturating_sub(1)).unwrap_or(usize::MAX);
        blocks.saturating_mul(self.block_size).min(self.bytes())
    }

    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// The option acknowledgement, or the data of the present window.
    fn in_flight(&self) -> Burst {
        if let Some(oack) = &self.oack {
            return oack.clone();
        }
        let segment = self.block_size + 4;
        let end = (self.base + self.window).min(self.last + 1);
        let count = usize::try_from(end - self.base).unwrap_or_default();
        let mut bytes = Vec::with_capacity(segment * count);
        let mut cursor = self.base_at;
        for block in self.base..end {
            bytes.extend_from_slice(&[0, 3]);
            bytes.extend_from_slice(&low_16_bits(block).to_be_bytes());
            self.source.block(&mut cursor, self.block_size, &mut bytes);
        }
        Burst { bytes, segment }
    }
}

/// The number that stands for `block` on the wire: after 65535 comes 0.
fn low_16_bits(block: u64) -> u16 {
    let [.., high, low] = block.to_be_bytes();
    u16::from_be_bytes([high, low])
}
