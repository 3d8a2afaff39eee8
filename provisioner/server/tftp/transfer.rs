//! PURE. One TFTP read transfer (RFC 1350, 2347, 2348, 2349, 7440): packets and silence in, packets out.

use super::request::{ReadRequest, Refusal};
use bytes::Bytes;
use std::time::Duration;
use tftpd::{ErrorCode, OptionType, Packet, TransferOption};

/// What path MTU 1500 carries without fragments (which many boot ROMs cannot take): IPv4, UDP and TFTP headers off.
pub const BLOCK_SIZE_MAX: u16 = 1468;
const BLOCK_SIZE_PLAIN: u16 = 512;
/// Blocks in flight; more would only fill the client's receive ring.
pub const WINDOW_MAX: u16 = 64;
/// Before the client has acknowledged anything it may not exist: a spoofed request must not be worth much (RFC 1350
/// transfers are known amplifiers).
const RETRANSMITS_UNHEARD: u32 = 2;
/// In a row, once the client has been heard.
const RETRANSMITS_HEARD: u32 = 8;
const SILENCE_FIRST: Duration = Duration::from_millis(1000);
const SILENCE_MIN: Duration = Duration::from_millis(50);
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// What a request came to.
#[derive(Debug)]
pub enum Begun {
    /// Send these, then expect acknowledgements.
    Transfer(Box<Transfer>, Vec<Vec<u8>>),
    /// Send this, and that was all.
    Refuse(Vec<u8>, &'static str),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Send(Vec<Vec<u8>>),
    /// Nothing to send; keep waiting.
    Nothing,
    Complete,
    Aborted(String),
    /// The client is gone.
    Silent,
}

#[derive(Debug)]
pub struct Transfer {
    data: Bytes,
    block_size: usize,
    window: u64,
    /// First block that is not acknowledged, counted from 1 without rolling over.
    base: u64,
    /// Waiting for the answer to our option acknowledgement.
    oack: Option<Vec<u8>>,
    heard: bool,
    silences: u32,
    /// When the packets in flight were first sent; `None` after a retransmission (Karn: such a trip measures nothing).
    sent_at: Option<Duration>,
    round_trip: Option<Duration>,
    /// The client's own wish (RFC 2349), where it named one.
    asked_timeout: Option<Duration>,
    pub retransmits: u32,
}

impl Transfer {
    /// Answers the first packet of a client. `open` finds the file; `now` is any running clock.
    pub fn begin(
        packet: &[u8],
        open: impl Fn(&str) -> Option<Bytes>,
        now: Duration,
    ) -> (Option<String>, Begun) {
        let ReadRequest { name, options } = match ReadRequest::read(packet) {
            Ok(request) => request,
            Err((name, Refusal { code, message })) => {
                return (name, Begun::Refuse(error(code, message), message));
            }
        };
        let Some(data) = open(&name) else {
            let message = "no such file";
            return (Some(name), Begun::Refuse(error(ErrorCode::FileNotFound, message), message));
        };
        (Some(name), Self::start(data, &options, now))
    }

    fn start(data: Bytes, options: &[TransferOption], now: Duration) -> Begun {
        let mut transfer = Self {
            data,
            block_size: BLOCK_SIZE_PLAIN.into(),
            window: 1,
            base: 1,
            oack: None,
            heard: false,
            silences: 0,
            sent_at: Some(now),
            round_trip: None,
            asked_timeout: None,
            retransmits: 0,
        };
        let agreed = transfer.agree(options);
        if agreed.is_empty() {
            let first = transfer.window();
            return Begun::Transfer(Box::new(transfer), first);
        }
        let Ok(oack) = Packet::Oack(agreed).serialize() else {
            return Begun::Refuse(error(ErrorCode::NotDefined, "options"), "options");
        };
        transfer.oack = Some(oack.clone());
        Begun::Transfer(Box::new(transfer), vec![oack])
    }

    /// RFC 2347: only what was asked for and understood is acknowledged.
    fn agree(&mut self, options: &[TransferOption]) -> Vec<TransferOption> {
        let mut agreed: Vec<TransferOption> = Vec::new();
        for asked in options {
            // Asked for twice, the first counts: what is acknowledged is what is done.
            if agreed.iter().any(|a| a.option == asked.option) {
                continue;
            }
            let value = match asked.option {
                // RFC 2348: 8 to 65464; the server may lower it.
                OptionType::BlockSize if (8..=65464).contains(&asked.value) => {
                    let size = asked.value.min(BLOCK_SIZE_MAX.into());
                    self.block_size = usize::try_from(size).unwrap_or(BLOCK_SIZE_PLAIN.into());
                    size
                }
                OptionType::TransferSize => self.data.len() as u64,
                // RFC 2349: 1 to 255 s, echoed as it is or left out.
                OptionType::Timeout if (1..=255).contains(&asked.value) => {
                    self.asked_timeout = Some(Duration::from_secs(asked.value));
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
        match Packet::deserialize(packet).ok() {
            Some(Packet::Ack(block)) => self.acknowledged(block, now),
            Some(Packet::Error { msg, .. }) => Next::Aborted(msg.chars().take(80).collect()),
            _ => Next::Nothing,
        }
    }

    fn acknowledged(&mut self, block: u16, now: Duration) -> Next {
        if self.oack.is_some() {
            if block != 0 {
                return Next::Nothing;
            }
            self.oack = None;
            return self.advance(now);
        }
        // The 16-bit number rolls over; of the blocks in flight exactly one has it.
        let in_flight = self.base..(self.base + self.window).min(self.last_block() + 1);
        let Some(acknowledged) = in_flight.clone().find(|n| *n & 0xffff == u64::from(block)) else {
            // RFC 7440 §4: the block before the window means that its first block was lost. In lock-step an old
            // acknowledgement is a duplicate, and sending again would double all traffic (RFC 1123 §4.2.3.1).
            let before = (self.base - 1) & 0xffff == u64::from(block);
            return if before && self.window > 1 && self.heard && self.sent_at.is_some() {
                self.retransmits += 1;
                self.sent_at = None;
                Next::Send(self.window())
            } else {
                Next::Nothing
            };
        };
        self.base = acknowledged + 1;
        if self.base > self.last_block() {
            return Next::Complete;
        }
        self.advance(now)
    }

    fn advance(&mut self, now: Duration) -> Next {
        if let Some(sent) = self.sent_at {
            let trip = now.saturating_sub(sent);
            self.round_trip = Some(self.round_trip.map_or(trip, |known| (known * 7 + trip) / 8));
        }
        (self.heard, self.silences, self.sent_at) = (true, 0, Some(now));
        Next::Send(self.window())
    }

    /// Nothing was heard for [`Self::patience`].
    pub fn silence(&mut self) -> Next {
        let most = if self.heard { RETRANSMITS_HEARD } else { RETRANSMITS_UNHEARD };
        if self.silences >= most {
            return Next::Silent;
        }
        self.silences += 1;
        self.retransmits += 1;
        self.sent_at = None;
        Next::Send(match &self.oack {
            Some(oack) => vec![oack.clone()],
            None => self.window(),
        })
    }

    /// How long to wait for an answer: four measured round trips, doubled with each silence.
    pub fn patience(&self) -> Duration {
        let base = match (self.round_trip, self.asked_timeout) {
            (Some(trip), _) => (trip * 4).clamp(SILENCE_MIN, SILENCE_MAX),
            (None, Some(asked)) => asked.min(SILENCE_MAX),
            (None, None) => SILENCE_FIRST,
        };
        (base * 2u32.saturating_pow(self.silences)).min(SILENCE_MAX)
    }

    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// What the client has acknowledged, in bytes.
    pub fn bytes_taken(&self) -> usize {
        let blocks = usize::try_from(self.base.saturating_sub(1)).unwrap_or(usize::MAX);
        blocks.saturating_mul(self.block_size).min(self.data.len())
    }

    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Whether the client has said anything since its request.
    pub fn was_heard(&self) -> bool {
        self.heard
    }

    /// The last block is shorter than the others, and empty where the file is a multiple (RFC 1350 §6).
    fn last_block(&self) -> u64 {
        (self.data.len() / self.block_size) as u64 + 1
    }

    /// The data packets of the present window.
    fn window(&self) -> Vec<Vec<u8>> {
        let end = (self.base + self.window).min(self.last_block() + 1);
        (self.base..end).map(|block| self.block(block)).collect()
    }

    fn block(&self, block: u64) -> Vec<u8> {
        let from = usize::try_from(block - 1).unwrap_or(usize::MAX).saturating_mul(self.block_size);
        let to = from.saturating_add(self.block_size).min(self.data.len());
        let data = self.data.get(from..to).unwrap_or_default();
        let number = u16::try_from(block & 0xffff).unwrap_or_default();
        let mut packet = Vec::with_capacity(4 + data.len());
        packet.extend_from_slice(&[0, 3]);
        packet.extend_from_slice(&number.to_be_bytes());
        packet.extend_from_slice(data);
        packet
    }
}

/// An error packet.
pub fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    Packet::Error { code, msg: message.to_owned() }.serialize().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rrq(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
        let mut packet = vec![0, 1];
        let words = [name, "octet"].into_iter().chain(options.iter().flat_map(|(k, v)| [*k, *v]));
        for word in words {
            packet.extend_from_slice(word.as_bytes());
            packet.push(0);
        }
        packet
    }

    fn ack(block: u16) -> Vec<u8> {
        [[0, 4], block.to_be_bytes()].concat()
    }

    fn begin(data: &'static [u8], options: &[(&str, &str)]) -> (Box<Transfer>, Vec<Vec<u8>>) {
        let open = |_: &str| Some(Bytes::from_static(data));
        match Transfer::begin(&rrq("f", options), open, Duration::ZERO).1 {
            Begun::Transfer(transfer, packets) => (transfer, packets),
            refused => panic!("{refused:?}"),
        }
    }

    /// A client that loses every `lose`-th packet; what it got.
    fn fetch(data: &'static [u8], options: &[(&str, &str)], block_size: usize, lose: usize) -> Vec<u8> {
        let (mut transfer, mut packets) = begin(data, options);
        let (mut got, mut expected, mut count, mut now) = (Vec::new(), 1u16, 0, Duration::ZERO);
        for _ in 0..400_000 {
            now += Duration::from_millis(1);
            let mut answer = None;
            for packet in packets.drain(..) {
                count += 1;
                if lose > 0 && count % lose == 0 {
                    continue;
                }
                if packet[1] == 6 {
                    answer = Some(0);
                } else if packet[2..4] == expected.to_be_bytes() {
                    got.extend_from_slice(&packet[4..]);
                    answer = Some(expected);
                    expected = expected.wrapping_add(1);
                    if packet.len() - 4 < block_size {
                        assert_eq!(transfer.hear(&ack(answer.unwrap()), now), Next::Complete);
                        return got;
                    }
                } else {
                    answer = answer.or(Some(expected.wrapping_sub(1)));
                }
            }
            let next = match answer {
                Some(block) => transfer.hear(&ack(block), now),
                None => transfer.silence(),
            };
            match next {
                Next::Send(more) => packets = more,
                Next::Nothing => {
                    if let Next::Send(more) = transfer.silence() {
                        packets = more;
                    }
                }
                end => panic!("{end:?}"),
            }
        }
        panic!("no end");
    }

    #[test]
    fn rfc1350_lock_step_and_the_empty_last_block() {
        static DATA: [u8; 1024] = [7; 1024];
        assert_eq!(fetch(&DATA, &[], 512, 0), DATA);
        assert_eq!(fetch(&DATA[..1000], &[], 512, 0), &DATA[..1000]);
        assert_eq!(fetch(&[], &[], 512, 0), [0u8; 0]);
    }

    #[test]
    fn block_numbers_roll_over() {
        let data: &'static [u8] = Box::leak((0..9 * 70_000u32).map(|n| (n % 251) as u8).collect());
        assert_eq!(fetch(data, &[("blksize", "8")], 8, 0), data);
        assert_eq!(fetch(data, &[("blksize", "8"), ("windowsize", "16")], 8, 97), data);
    }

    #[test]
    fn rfc7440_a_lost_block_is_sent_again_from_the_gap() {
        let data: &'static [u8] = Box::leak(vec![3; 200_000].into_boxed_slice());
        for lose in [0, 3, 7, 20] {
            assert_eq!(fetch(data, &[("windowsize", "4"), ("blksize", "1468")], 1468, lose), data, "{lose}");
        }
    }

    #[test]
    fn rfc2347_options_are_clamped_and_only_the_known_ones_acknowledged() {
        let (transfer, packets) = begin(
            b"hello",
            &[("BLKSIZE", "65464"), ("tsize", "0"), ("timeout", "3"), ("windowsize", "65535"), ("x", "1")],
        );
        let text = String::from_utf8_lossy(&packets[0]).to_lowercase();
        assert_eq!(packets.len(), 1);
        for word in ["blksize\u{0}1468", "tsize\u{0}5", "timeout\u{0}3", "windowsize\u{0}64"] {
            assert!(text.contains(word), "{word} in {text:?}");
        }
        assert!(!text.contains('x'));
        assert_eq!(transfer.patience(), Duration::from_secs(3));
    }

    #[test]
    fn an_option_asked_twice_is_done_as_it_is_acknowledged() {
        static DATA: [u8; 5000] = [1; 5000];
        let (mut transfer, packets) =
            begin(&DATA, &[("blksize", "1000"), ("blksize", "8"), ("blksize", "7")]);
        assert!(String::from_utf8_lossy(&packets[0]).contains("blksize\u{0}1000"));
        let Next::Send(first) = transfer.hear(&ack(0), Duration::ZERO) else { panic!() };
        assert_eq!(first[0].len(), 1004);
    }

    #[test]
    fn the_sorcerers_apprentice_stays_asleep() {
        static DATA: [u8; 5000] = [1; 5000];
        let (mut transfer, _) = begin(&DATA, &[]);
        assert!(matches!(transfer.hear(&ack(1), Duration::ZERO), Next::Send(_)));
        assert_eq!(transfer.hear(&ack(1), Duration::ZERO), Next::Nothing, "RFC 1123 §4.2.3.1");
    }

    #[test]
    fn firmware_that_only_wanted_the_size_ends_quietly() {
        let (mut transfer, _) = begin(b"hello", &[("tsize", "0"), ("blksize", "1468")]);
        let aborted = transfer.hear(&error(ErrorCode::RefusedOption, "aborted"), Duration::ZERO);
        assert_eq!(aborted, Next::Aborted("aborted".into()));
    }

    #[test]
    fn a_client_that_was_never_heard_gets_three_packets() {
        let (mut transfer, first) = begin(b"hello", &[]);
        let mut sent = first.len();
        while let Next::Send(more) = transfer.silence() {
            sent += more.len();
        }
        assert_eq!(sent, 3);
    }

    #[test]
    fn the_wait_follows_the_measured_round_trip() {
        static DATA: [u8; 5000] = [1; 5000];
        let (mut transfer, _) = begin(&DATA, &[]);
        assert_eq!(transfer.patience(), SILENCE_FIRST);
        transfer.hear(&ack(1), Duration::from_millis(20));
        assert_eq!(transfer.patience(), Duration::from_millis(80));
        transfer.silence();
        assert_eq!(transfer.patience(), Duration::from_millis(160));
    }

    #[test]
    fn writing_other_modes_and_unknown_names_are_refused() {
        let cases: [(&[u8], &str); 4] = [
            (b"\0\x02f\0octet\0", "only reading is allowed"),
            (b"\0\x01f\0mail\0", "only octet mode"),
            (b"\0\x01f\0octet\0", "no such file"),
            (b"\0\x09", "not a read request"),
        ];
        for (packet, why) in cases {
            match Transfer::begin(packet, |_| None, Duration::ZERO).1 {
                Begun::Refuse(answer, reason) => {
                    assert_eq!((reason, answer[1]), (why, 5));
                    assert!(answer.len() < 40);
                }
                begun => panic!("{begun:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..20)) {
            let (mut transfer, _) = begin(b"some data", &[("windowsize", "3"), ("blksize", "8")]);
            for packet in packets {
                let _ = Transfer::begin(&packet, |_| Some(Bytes::from_static(b"x")), Duration::ZERO);
                let _ = transfer.hear(&packet, Duration::ZERO);
            }
        }
    }
}
