//! PURE. From bytes to a [`Request`], or why not. Every option is found here, by lengths that are checked; dhcproto's
//! decoder for DHCPv6 is not used: it reads past an option's own length (7, 8, 12, 13, 16, 17) and subtracts without a
//! check. Its message and option types are used for what is sent.

use super::relay::{self, Relay};
use dhcproto::v6::MessageType;
use std::net::Ipv6Addr;

/// More identity associations, or addresses in one, than any client that boots has.
const ASSOCIATIONS_MAX: usize = 8;

/// Codes that are looked at in requests, or sent.
pub mod code {
    pub const CLIENT_ID: u16 = 1;
    pub const SERVER_ID: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const IA_TA: u16 = 4;
    pub const IA_ADDRESS: u16 = 5;
    pub const REQUESTED: u16 = 6;
    pub const RELAY_MESSAGE: u16 = 9;
    pub const RAPID_COMMIT: u16 = 14;
    pub const USER_CLASS: u16 = 15;
    pub const VENDOR_CLASS: u16 = 16;
    pub const INTERFACE_ID: u16 = 18;
    pub const DNS: u16 = 23;
    pub const IA_PD: u16 = 25;
    pub const REFRESH_TIME: u16 = 32;
    /// RFC 5970.
    pub const BOOT_URL: u16 = 59;
    pub const BOOT_PARAMETERS: u16 = 60;
    pub const ARCHITECTURE: u16 = 61;
    pub const UNDI: u16 = 62;
    /// RFC 6939: the client's link-layer address, as its relay saw it.
    pub const LINK_LAYER: u16 = 79;
    /// RFC 8357: the relay listens on another port than 547.
    pub const RELAY_PORT: u16 = 135;
}

/// Why a packet is not a message that a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than a DHCPv6 header")]
    Short,
    #[error("an option runs past the end of what holds it")]
    Option,
    #[error("not a message that a client sends to a server")]
    Message,
    #[error("went through more than 8 relays")]
    Relays,
    #[error("a relay's envelope without a message in it")]
    EmptyRelay,
    #[error("more than 8 identity associations, or addresses in one")]
    Associations,
}

/// What kind of identity association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Addresses that last (IA_NA).
    Lasting,
    /// Temporary addresses (IA_TA).
    Temporary,
    /// Prefixes (IA_PD).
    Prefix,
}

/// One identity association of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    pub kind: Kind,
    pub id: u32,
    /// The addresses that the client names in it; none of a prefix delegation.
    pub addresses: Vec<Ipv6Addr>,
}

/// A client's message, out of its relays' envelopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub message: MessageType,
    pub xid: [u8; 3],
    /// Outermost first; empty where the client was heard directly.
    pub relays: Vec<Relay>,
    /// The client's own address: the sender, or as the relay closest to it says.
    pub peer: Ipv6Addr,
    pub associations: Vec<Association>,
    options: Vec<(u16, Vec<u8>)>,
}

impl Request {
    /// Reads one UDP payload that came from `sender`.
    pub fn read(packet: &[u8], sender: Ipv6Addr) -> Result<Self, Malformed> {
        let (relays, inner) = relay::unwrap(packet)?;
        let [kind, a, b, c, rest @ ..] = inner else { return Err(Malformed::Short) };
        let message = MessageType::from(*kind);
        if !is_a_clients(message) {
            return Err(Malformed::Message);
        }
        let options: Vec<_> = scan(rest)?.into_iter().map(|(code, value)| (code, value.to_vec())).collect();
        let associations = associations(&options)?;
        let peer = relays.last().map_or(sender, |relay| relay.peer);
        Ok(Self { message, xid: [*a, *b, *c], relays, peer, associations, options })
    }

    /// The first option with this code, as it came.
    pub fn raw(&self, code: u16) -> Option<&[u8]> {
        self.options.iter().find(|(c, _)| *c == code).map(|(_, value)| value.as_slice())
    }

    pub fn has(&self, code: u16) -> bool {
        self.raw(code).is_some()
    }

    /// The client asked for this option (option 6).
    pub fn asks(&self, code: u16) -> bool {
        let (wanted, _) = self.raw(code::REQUESTED).unwrap_or_default().as_chunks::<2>();
        wanted.contains(&code.to_be_bytes())
    }

    /// Option 1; [`super::validate`] has seen to it that it is there where it must be.
    pub fn duid(&self) -> &[u8] {
        self.raw(code::CLIENT_ID).unwrap_or_default()
    }

    /// The message's name in RFC 8415, lower case.
    pub fn message_name(&self) -> &'static str {
        match self.message {
            MessageType::Solicit => "solicit",
            MessageType::Request => "request",
            MessageType::Confirm => "confirm",
            MessageType::Renew => "renew",
            MessageType::Rebind => "rebind",
            MessageType::Release => "release",
            MessageType::Decline => "decline",
            MessageType::InformationRequest => "information-request",
            _ => "other",
        }
    }
}

fn is_a_clients(message: MessageType) -> bool {
    use MessageType as M;
    matches!(
        message,
        M::Solicit
            | M::Request
            | M::Confirm
            | M::Renew
            | M::Rebind
            | M::Release
            | M::Decline
            | M::InformationRequest
    )
}

/// All options of `bytes`, in their order. One that does not end where it says makes all of them untrue.
pub fn scan(bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, Malformed> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while let [a, b, c, d, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let value = tail.get(..length).ok_or(Malformed::Option)?;
        found.push((u16::from_be_bytes([*a, *b]), value));
        rest = tail.get(length..).unwrap_or_default();
    }
    if rest.is_empty() { Ok(found) } else { Err(Malformed::Option) }
}

/// Pieces that each have a 16-bit length before them (user class, vendor class, boot parameters). What is broken ends
/// the list.
pub fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while let [a, b, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*a, *b]));
        let Some((piece, after)) = tail.split_at_checked(length) else { break };
        found.push(piece);
        rest = after;
    }
    found
}

fn associations(options: &[(u16, Vec<u8>)]) -> Result<Vec<Association>, Malformed> {
    let mut found = Vec::new();
    for (code, value) in options {
        // RFC 8415 §21.4, §21.5, §21.21: what stands before the options inside.
        let (kind, header) = match *code {
            code::IA_NA => (Kind::Lasting, 12),
            code::IA_TA => (Kind::Temporary, 4),
            code::IA_PD => (Kind::Prefix, 12),
            _ => continue,
        };
        let id = value.first_chunk::<4>().ok_or(Malformed::Option)?;
        let inside = value.get(header..).ok_or(Malformed::Option)?;
        let addresses = addresses(inside)?;
        found.push(Association { kind, id: u32::from_be_bytes(*id), addresses });
        if found.len() > ASSOCIATIONS_MAX {
            return Err(Malformed::Associations);
        }
    }
    Ok(found)
}

fn addresses(inside: &[u8]) -> Result<Vec<Ipv6Addr>, Malformed> {
    let mut found = Vec::new();
    for (_, value) in scan(inside)?.into_iter().filter(|(code, _)| *code == code::IA_ADDRESS) {
        // An address and two lifetimes (§21.6).
        let address = value.first_chunk::<16>().filter(|_| value.len() >= 24).ok_or(Malformed::Option)?;
        found.push(Ipv6Addr::from(*address));
    }
    if found.len() > ASSOCIATIONS_MAX { Err(Malformed::Associations) } else { Ok(found) }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
pub mod tests;
