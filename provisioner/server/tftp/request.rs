//! PURE. The first packet of a client, read by hand: tftpd's own reader refuses a whole request for one option value that
//! is no number, and firmware then gets an error instead of a file.

use tftpd::{ErrorCode, OptionType, TransferOption};

const READ: u16 = 1;
const WRITE: u16 = 2;
/// Longer than any name we serve.
const NAME_MAX: usize = 255;
/// Firmware asks for four or five.
const OPTIONS_MAX: usize = 16;

/// A request to read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRequest {
    pub name: String,
    /// Those with a known name and a number, in the client's order.
    pub options: Vec<TransferOption>,
}

/// Why a request is refused, as the client is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: &'static str,
}

impl ReadRequest {
    /// The name comes with the error where it could be read.
    pub fn read(packet: &[u8]) -> Result<Self, (Option<String>, Refusal)> {
        let refuse = |name, code, message| Err((name, Refusal { code, message }));
        let Some((operation, rest)) = packet.split_first_chunk::<2>() else {
            return refuse(None, ErrorCode::IllegalOperation, "not a read request");
        };
        let mut words = Words(rest);
        let (Some(name), Some(mode)) = (words.next(), words.next()) else {
            return refuse(None, ErrorCode::IllegalOperation, "not a read request");
        };
        let name = String::from_utf8_lossy(name.get(..NAME_MAX).unwrap_or(name)).into_owned();
        match u16::from_be_bytes(*operation) {
            READ => {}
            WRITE => return refuse(Some(name), ErrorCode::AccessViolation, "only reading is allowed"),
            _ => return refuse(None, ErrorCode::IllegalOperation, "not a read request"),
        }
        if !mode.eq_ignore_ascii_case(b"octet") {
            return refuse(Some(name), ErrorCode::IllegalOperation, "only octet mode");
        }
        Ok(Self { name, options: options(words) })
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

    #[test]
    fn one_bad_option_spoils_no_other() {
        let packet = b"\0\x01a.efi\0OcTeT\0tsize\0\0blksize\x00many\0WindowSize\x004\0x\x001\0\xff\xfe\x001\0timeout\x003\0";
        let read = ReadRequest::read(packet).unwrap();
        assert_eq!(read.name, "a.efi");
        let kept: Vec<_> = read.options.iter().map(|o| (o.option, o.value)).collect();
        assert_eq!(kept, [(OptionType::WindowSize, 4), (OptionType::Timeout, 3)]);
    }

    #[test]
    fn what_is_no_request_to_read_is_refused() {
        for (packet, name, code, message) in [
            (&b"\0\x02f\0octet\0"[..], Some("f"), ErrorCode::AccessViolation, "only reading is allowed"),
            (b"\0\x01f\0mail\0", Some("f"), ErrorCode::IllegalOperation, "only octet mode"),
            (b"\0\x01f\0netascii\0", Some("f"), ErrorCode::IllegalOperation, "only octet mode"),
            (b"\0\x01f\0octet", None, ErrorCode::IllegalOperation, "not a read request"),
            (b"\0\x01no-zero", None, ErrorCode::IllegalOperation, "not a read request"),
            (b"\0\x09f\0octet\0", None, ErrorCode::IllegalOperation, "not a read request"),
            (b"\0", None, ErrorCode::IllegalOperation, "not a read request"),
            (b"", None, ErrorCode::IllegalOperation, "not a read request"),
        ] {
            let (told, refusal) = ReadRequest::read(packet).unwrap_err();
            assert_eq!((told.as_deref(), refusal), (name, Refusal { code, message }), "{packet:?}");
        }
    }

    #[test]
    fn names_that_are_not_text_are_read_and_then_not_found() {
        assert_eq!(ReadRequest::read(b"\0\x01\xff\xfe\0octet\0").unwrap().name, "\u{fffd}\u{fffd}");
        let long = [&b"\0\x01"[..], &[b'a'; 5000], b"\0octet\0"].concat();
        assert_eq!(ReadRequest::read(&long).unwrap().name.len(), NAME_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ReadRequest::read(&bytes);
        }
    }
}
