//! PURE. The first packet of a client, read by hand: tftpd's own reader refuses a whole request for one option value that
//! is no number, and firmware then gets an error instead of a file.

use super::source::Mode;
use tftpd::{ErrorCode, OptionType, TransferOption};

const READ: u16 = 1;
const WRITE: u16 = 2;
const ERROR: u16 = 5;
/// Longer than any name we serve.
const NAME_MAX: usize = 255;
/// Firmware asks for four or five.
const OPTIONS_MAX: usize = 16;

/// What a packet to the server's port is.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Read(ReadRequest),
    /// To be told to the client; the name where it could be read.
    Refuse(Option<String>, Refusal),
    /// No answer: an error is never answered with an error, or two servers would talk for ever.
    Nothing,
}

/// A request to read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRequest {
    pub name: String,
    pub mode: Mode,
    /// Those with a known name and a number, in the client's order.
    pub options: Vec<TransferOption>,
}

/// Why a request is refused, as the client is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: &'static str,
}

impl Refusal {
    pub const NO_SUCH_FILE: Self = Self { code: ErrorCode::FileNotFound, message: "no such file" };
    /// The file could not be made in time.
    pub const LATER: Self = Self { code: ErrorCode::NotDefined, message: "ask again later" };
    const NO_REQUEST: Self = Self { code: ErrorCode::IllegalOperation, message: "not a read request" };
    const WRITE: Self = Self { code: ErrorCode::AccessViolation, message: "only reading is allowed" };
    const MODE: Self = Self { code: ErrorCode::IllegalOperation, message: "only octet and netascii" };
}

impl Asked {
    pub fn read(packet: &[u8]) -> Self {
        let Some((operation, rest)) = packet.split_first_chunk::<2>() else { return Self::Nothing };
        let operation = u16::from_be_bytes(*operation);
        if operation == ERROR {
            return Self::Nothing;
        }
        let mut words = Words(rest);
        let (READ | WRITE, Some(name), Some(mode)) = (operation, words.next(), words.next()) else {
            return Self::Refuse(None, Refusal::NO_REQUEST);
        };
        let long = name.len() > NAME_MAX;
        let name = String::from_utf8_lossy(name.get(..NAME_MAX).unwrap_or(name)).into_owned();
        let mode = match mode {
            m if m.eq_ignore_ascii_case(b"octet") => Some(Mode::Octet),
            m if m.eq_ignore_ascii_case(b"netascii") => Some(Mode::Netascii),
            _ => None,
        };
        match mode {
            _ if operation == WRITE => Self::Refuse(Some(name), Refusal::WRITE),
            None => Self::Refuse(Some(name), Refusal::MODE),
            Some(_) if long => Self::Refuse(Some(name), Refusal::NO_SUCH_FILE),
            Some(mode) => Self::Read(ReadRequest { name, mode, options: options(words) }),
        }
    }
}

/// RFC 2347: pairs of name and value; what is not understood is left out, not refused.
fn options(mut words: Words<'_>) -> Vec<TransferOption> {
    let mut found = Vec::new();
    while let (Some(name), Some(value)) = (words.next(), words.next())
        && found.len() < OPTIONS_MAX
    {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let option = text(name).to_ascii_lowercase().parse::<OptionType>();
        if let (Ok(option), Ok(value)) = (option, text(value).parse()) {
            found.push(TransferOption { option, value });
        }
    }
    found
}

/// Zero-ended words; one without its zero is none.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(packet: &[u8]) -> ReadRequest {
        match Asked::read(packet) {
            Asked::Read(request) => request,
            other => panic!("{packet:?}: {other:?}"),
        }
    }

    #[test]
    fn one_bad_option_spoils_no_other() {
        let packet = b"\0\x01a.efi\0OcTeT\0tsize\0\0blksize\x00many\0WindowSize\x004\0x\x001\0\xff\xfe\x001\0timeout\x003\0";
        let read = read(packet);
        assert_eq!((read.name.as_str(), read.mode), ("a.efi", Mode::Octet));
        let kept: Vec<_> = read.options.iter().map(|o| (o.option, o.value)).collect();
        assert_eq!(kept, [(OptionType::WindowSize, 4), (OptionType::Timeout, 3)]);
    }

    #[test]
    fn rfc1350_modes_are_free_of_case_and_mail_is_refused() {
        assert_eq!(read(b"\0\x01f\0octet\0").mode, Mode::Octet);
        assert_eq!(read(b"\0\x01f\0NETascii\0").mode, Mode::Netascii);
        assert_eq!(Asked::read(b"\0\x01f\0mail\0"), Asked::Refuse(Some("f".to_owned()), Refusal::MODE));
    }

    #[test]
    fn rfc1350_writing_is_refused() {
        assert_eq!(Asked::read(b"\0\x02f\0octet\0"), Asked::Refuse(Some("f".to_owned()), Refusal::WRITE));
    }

    #[test]
    fn what_is_no_request_is_refused_and_an_error_is_never_answered() {
        for packet in
            [&b"\0\x01f\0octet"[..], b"\0\x01no-zero", b"\0\x09f\0octet\0", b"\0\x04\0\x01", b"\0\x01"]
        {
            assert_eq!(Asked::read(packet), Asked::Refuse(None, Refusal::NO_REQUEST), "{packet:?}");
        }
        for packet in [&b"\0\x05\0\x01gone\0"[..], b"\0", b""] {
            assert_eq!(Asked::read(packet), Asked::Nothing, "{packet:?}");
        }
    }

    #[test]
    fn names_that_are_not_text_are_read_and_then_not_found() {
        assert_eq!(read(b"\0\x01\xff\xfe\0octet\0").name, "\u{fffd}\u{fffd}");
        let long = [&b"\0\x01"[..], &[b'a'; 5000], b"\0octet\0"].concat();
        let told = Some("a".repeat(NAME_MAX));
        assert_eq!(Asked::read(&long), Asked::Refuse(told, Refusal::NO_SUCH_FILE));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Asked::read(&bytes);
        }
    }
}
