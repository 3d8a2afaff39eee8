//! PURE. Relays' envelopes: taken off a request, put around its answer (RFC 8415 §9, §19).

use super::intake::{Malformed, code, scan};
use std::net::Ipv6Addr;

/// RFC 8415 §7.6, HOP_COUNT_LIMIT: more is a loop.
pub const NESTING_MAX: usize = 8;

const FORWARD: u8 = 12;
const REPLY: u8 = 13;

/// One relay's envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    pub hops: u8,
    /// An address of the client's link; unspecified where this relay cannot say (RFC 6221).
    pub link: Ipv6Addr,
    /// Whom it heard: the client, or the next relay.
    pub peer: Ipv6Addr,
    /// Option 18: it goes back as it came, for the relay finds the client's port by it.
    pub interface: Option<Vec<u8>>,
    /// Option 79: hardware type and address of the client.
    pub link_layer: Option<Vec<u8>>,
    /// Option 135 was there: it goes back, and the answer to the port that the relay sent from.
    pub own_port: bool,
}

/// The envelopes, outermost first, and the client's message.
pub fn unwrap(packet: &[u8]) -> Result<(Vec<Relay>, &[u8]), Malformed> {
    let (mut relays, mut inner) = (Vec::new(), packet);
    while inner.first() == Some(&FORWARD) {
        if relays.len() == NESTING_MAX {
            return Err(Malformed::Relays);
        }
        let (relay, message) = envelope(inner)?;
        relays.push(relay);
        inner = message;
    }
    Ok((relays, inner))
}

fn envelope(bytes: &[u8]) -> Result<(Relay, &[u8]), Malformed> {
    let (header, rest) = bytes.split_at_checked(34).ok_or(Malformed::Short)?;
    let address = |at: usize| {
        let octets = header.get(at..).and_then(|h| h.first_chunk::<16>());
        octets.map(|octets| Ipv6Addr::from(*octets)).ok_or(Malformed::Short)
    };
    let options = scan(rest)?;
    let first = |wanted: u16| options.iter().find(|(code, _)| *code == wanted).map(|(_, value)| *value);
    let relay = Relay {
        hops: header.get(1).copied().unwrap_or_default(),
        link: address(2)?,
        peer: address(18)?,
        interface: first(code::INTERFACE_ID).map(<[u8]>::to_vec),
        link_layer: first(code::LINK_LAYER).map(<[u8]>::to_vec),
        own_port: first(code::RELAY_PORT).is_some(),
    };
    let message = first(code::RELAY_MESSAGE).filter(|m| !m.is_empty()).ok_or(Malformed::EmptyRelay)?;
    Ok((relay, message))
}

/// The answer in one RELAY-REPL for each envelope of the request, in the same order. `None` where it would not fit.
/// dhcproto has no way to make a relay's message of values.
pub fn wrap(relays: &[Relay], answer: Vec<u8>) -> Option<Vec<u8>> {
    relays.iter().rev().try_fold(answer, |inner, relay| {
        let mut outer = vec![REPLY, relay.hops];
        outer.extend_from_slice(&relay.link.octets());
        outer.extend_from_slice(&relay.peer.octets());
        if let Some(interface) = &relay.interface {
            put(&mut outer, code::INTERFACE_ID, interface)?;
        }
        if relay.own_port {
            // RFC 8357 §5.3: zero, from a server.
            put(&mut outer, code::RELAY_PORT, &[0, 0])?;
        }
        put(&mut outer, code::RELAY_MESSAGE, &inner)?;
        Some(outer)
    })
}

fn put(packet: &mut Vec<u8>, code: u16, value: &[u8]) -> Option<()> {
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
    packet.extend_from_slice(value);
    Some(())
}
