//! PURE. Which messages a server must discard, and which it must refuse with UseMulticast (RFC 8415 §16, §18.3).

use super::intake::{Request, code};
use dhcproto::v6::MessageType as M;

/// Octets of a DUID (RFC 8415 §11.1: a type, and at most 128 more).
const DUID: std::ops::RangeInclusive<usize> = 3..=130;

/// Why a message is discarded without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Discard {
    #[error("no client identifier")]
    NoClientId,
    #[error("a client identifier that is no DUID")]
    BadClientId,
    #[error("a server identifier where none may be")]
    ServerId,
    #[error("no server identifier")]
    NoServerId,
    #[error("meant for another server")]
    AnotherServer,
    #[error("sent to this server's own address, where it must be multicast")]
    Unicast,
    #[error("an information request with an identity association")]
    Association,
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Answer,
    /// It came by unicast, which no client was told that it may: it is answered with this status and nothing else.
    UseMulticast,
}

/// `server`: this server's DUID. `unicast`: the packet was sent to an address of this host, not to a group.
pub fn check(request: &Request, server: &[u8], unicast: bool) -> Result<Verdict, Discard> {
    let (message, named) = (request.message, request.raw(code::SERVER_ID));
    match request.raw(code::CLIENT_ID) {
        // §16.12: the one message that may come without.
        None if message == M::InformationRequest => {}
        None => return Err(Discard::NoClientId),
        Some(duid) if !DUID.contains(&duid.len()) => return Err(Discard::BadClientId),
        Some(_) => {}
    }
    match (message, named) {
        (M::Solicit | M::Confirm | M::Rebind, Some(_)) => return Err(Discard::ServerId),
        (M::Request | M::Renew | M::Decline | M::Release, None) => return Err(Discard::NoServerId),
        (_, Some(named)) if named != server => return Err(Discard::AnotherServer),
        _ => {}
    }
    if message == M::InformationRequest && !request.associations.is_empty() {
        return Err(Discard::Association);
    }
    // A relay's envelope is unicast by right.
    match (unicast && request.relays.is_empty(), message) {
        (false, _) => Ok(Verdict::Answer),
        (true, M::Request | M::Renew | M::Decline | M::Release) => Ok(Verdict::UseMulticast),
        (true, _) => Err(Discard::Unicast),
    }
}
