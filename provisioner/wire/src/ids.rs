//! Identities. Each is checked where it is parsed, so that a stored one is always good.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a text is not the identity it claims to be. `Display` is fit for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("\"{0}\" is not a MAC address (six hexadecimal bytes, like 52:54:00:12:34:56)")]
    Mac(String),
    #[error("{0} is not a machine's own MAC address (it is zero, broadcast or multicast)")]
    MacNotUnicast(Mac),
    #[error(
        "\"{0}\" is not a name (1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit)"
    )]
    Name(String),
    #[error("not a boot id (32 hexadecimal digits)")]
    BootId,
}

/// An Ethernet address. Text form: lower-case, colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A MAC that one NIC can own: not zero, not broadcast, not multicast.
    pub fn is_unicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && self.0 != [0; 6]
    }

    /// `52-54-00-12-34-56`, as iPXE's `${mac:hexhyp}` writes it.
    pub fn hyphened(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = IdError;
    /// Reads `aa:bb:..`, `aa-bb-..` or twelve bare digits.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Mac(text.chars().take(40).collect());
        let digits: String = match text.len() {
            17 => {
                let separator = text.chars().nth(2).filter(|c| matches!(c, ':' | '-')).ok_or_else(wrong)?;
                let parts: Vec<&str> = text.split(separator).collect();
                if parts.len() != 6 || parts.iter().any(|p| p.len() != 2) {
                    return Err(wrong());
                }
                parts.concat()
            }
            12 => text.to_owned(),
            _ => return Err(wrong()),
        };
        let mut bytes = [0; 6];
        hex_into(&digits, &mut bytes).ok_or_else(wrong)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// A machine's name: one DNS label, because it becomes the node's host name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

impl MachineName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MachineName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_label(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Name(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for MachineName {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0
    }
}

/// One DNS label (RFC 1123 §2.1), lower case.
pub fn is_label(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|c| good(c) || c == b'-')
        && text.bytes().next().is_some_and(good)
        && text.bytes().next_back().is_some_and(good)
}

/// Counts the workflows of a machine. Everything said about an older one is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 random bits minted when a boot script is served to a machine that may install. A capability: `Debug` hides it,
/// and the server keeps only [`BootId::hash`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId([u8; 16]);

impl BootId {
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 32 hexadecimal digits that stand on the kernel command line.
    pub fn reveal(&self) -> String {
        hex(&self.0)
    }

    /// SHA-256 of the bytes, in hexadecimal: what is stored and looked up.
    pub fn hash(&self) -> String {
        use sha2::Digest;
        hex(&sha2::Sha256::digest(self.0))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BootId(…)")
    }
}

impl FromStr for BootId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 16];
        hex_into(text, &mut bytes).ok_or(IdError::BootId)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for BootId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BootId> for String {
    fn from(id: BootId) -> Self {
        id.reveal()
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Fills `into` from exactly twice as many hexadecimal digits; `None` for anything else.
pub fn hex_into(text: &str, into: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != into.len() * 2 {
        return None;
    }
    for (byte, pair) in into.iter_mut().zip(digits.chunks_exact(2)) {
        let mut value = 0;
        for digit in pair {
            value = value * 16 + u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
        *byte = value;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mac_is_read_in_its_three_spellings() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0xab]);
        for text in ["52:54:00:12:34:ab", "52-54-00-12-34-AB", "5254001234ab"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        for text in [
            "",
            "pe:",
            "52:54:00:12:34",
            "52:54-00:12:34:ab",
            "5254001234ag",
            "+2:54:00:12:34:ab",
            "é2:54:00:12:34:a",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        assert!(!Mac([0xff; 6]).is_unicast() && !Mac([0; 6]).is_unicast() && mac.is_unicast());
    }

    #[test]
    fn boot_id_does_not_print_itself() {
        let id = BootId::from_bytes([7; 16]);
        assert!(!format!("{id:?}").contains("07"));
        assert_eq!(id.reveal().parse(), Ok(id));
    }

    proptest! {
        #[test]
        fn any_mac_comes_back(bytes: [u8; 6]) {
            prop_assert_eq!(Mac(bytes).to_string().parse(), Ok(Mac(bytes)));
            prop_assert_eq!(Mac(bytes).hyphened().parse(), Ok(Mac(bytes)));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".*") {
            let _ = (text.parse::<Mac>(), text.parse::<MachineName>(), text.parse::<BootId>());
        }
    }
}
