//! PURE. The packet that answers: request and decision in, bytes and where to send them out.

use super::{
    client::INTEL,
    intake::{Kind, Request, code},
    lease::{Decision, Given},
    relay,
    subnet::Subnet,
};
use dhcproto::{
    Encodable,
    v6::{
        DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IATA, Message, MessageType, Status, StatusCode,
        UnknownOption,
    },
};
use std::{
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;
/// RFC 8415 §21.8: whoever is advertised this need not wait for others.
const PREFERENCE_MAX: u8 = 255;
/// RFC 8415 §7.6, IRT_MINIMUM.
const REFRESH_MIN: Duration = Duration::from_secs(600);

/// The boot part of an answer (RFC 5970).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootUrl {
    /// Absolute: `tftp://[fd88::1]/snponly.efi`.
    pub url: String,
    pub parameters: Vec<String>,
    /// The vendor class without which UEFI HTTP Boot ignores the answer.
    pub class: Option<&'static str>,
}

/// What an answer says.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub request: &'a Request,
    /// Where it was sent from: the client, or the last relay.
    pub sender: SocketAddrV6,
    pub decision: &'a Decision,
    /// None in stateless service of a link that is not configured.
    pub subnet: Option<&'a Subnet>,
    /// This server's DUID.
    pub server: &'a [u8],
    pub sole_server: bool,
    pub boot: Option<&'a BootUrl>,
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub to: SocketAddrV6,
}

impl Answer<'_> {
    /// `None` where the decision is silence.
    pub fn packet(&self) -> Option<Reply> {
        let kind = match self.decision {
            Decision::Silent(_) => return None,
            Decision::Advertise(_) => MessageType::Advertise,
            _ => MessageType::Reply,
        };
        let mut message = Message::new_with_id(kind, self.request.xid);
        message.set_opts(self.options());
        let bytes = relay::wrap(&self.request.relays, message.to_vec().ok()?)?;
        Some(Reply { bytes, to: self.destination() })
    }

    /// RFC 8415 §18.3.10, §19.3.
    fn destination(&self) -> SocketAddrV6 {
        let mut to = self.sender;
        match self.request.relays.first() {
            Some(outermost) if outermost.own_port => {}
            Some(_) => to.set_port(SERVER_PORT),
            None => to.set_port(CLIENT_PORT),
        }
        to
    }

    fn options(&self) -> DhcpOptions {
        let mut options = DhcpOptions::new();
        options.insert(DhcpOption::ServerId(self.server.to_vec()));
        if let Some(duid) = self.request.raw(code::CLIENT_ID) {
            options.insert(DhcpOption::ClientId(duid.to_vec()));
        }
        match self.decision {
            Decision::Silent(_) => {}
            Decision::Status(code, text) => options.insert(status(*code, text)),
            Decision::Noted(given) | Decision::Conflict(_, given) => {
                options.insert(status(Status::Success, "noted"));
                for wrong in given.iter().filter(|g| g.status.is_some()) {
                    options.insert(self.association(wrong));
                }
            }
            Decision::Advertise(given) => {
                self.leases(given, &mut options);
                if self.sole_server && given.iter().any(|g| g.address.is_some()) {
                    options.insert(DhcpOption::Preference(PREFERENCE_MAX));
                }
                self.parameters(&mut options);
            }
            Decision::Reply { given, rapid } => {
                self.leases(given, &mut options);
                if *rapid {
                    options.insert(DhcpOption::RapidCommit);
                }
                self.parameters(&mut options);
            }
        }
        options
    }

    fn leases(&self, given: &[Given], options: &mut DhcpOptions) {
        for one in given {
            options.insert(self.association(one));
        }
    }

    fn association(&self, given: &Given) -> DhcpOption {
        let valid = self.subnet.map_or(0, |s| u32::try_from(s.lease.as_secs()).unwrap_or(u32::MAX));
        let preferred = valid / 4 * 3;
        let mut opts = DhcpOptions::new();
        let mut address = |addr: Ipv6Addr, preferred_life, valid_life| {
            let lifetime = IAAddr { addr, preferred_life, valid_life, opts: DhcpOptions::new() };
            opts.insert(DhcpOption::IAAddr(lifetime));
        };
        if let Some(ip) = given.address {
            address(ip, preferred, valid);
        }
        for dead in &given.dead {
            address(*dead, 0, 0);
        }
        if let Some((code, text)) = given.status {
            opts.insert(status(code, text));
        }
        // RFC 8415 §21.4: half and four fifths of the preferred lifetime.
        let (t1, t2) = if given.address.is_some() { (preferred / 2, preferred / 5 * 4) } else { (0, 0) };
        match given.kind {
            Kind::Lasting => DhcpOption::IANA(IANA { id: given.id, t1, t2, opts }),
            Kind::Temporary => DhcpOption::IATA(IATA { id: given.id, opts }),
            Kind::Prefix => DhcpOption::IAPD(IAPD { id: given.id, t1: 0, t2: 0, opts }),
        }
    }

    /// Only what the client asked for (RFC 8415 §21.7).
    fn parameters(&self, options: &mut DhcpOptions) {
        let request = self.request;
        if let Some(subnet) = self.subnet.filter(|s| request.asks(code::DNS) && !s.dns.is_empty()) {
            options.insert(DhcpOption::DomainNameServers(subnet.dns.clone()));
        }
        if request.message == MessageType::InformationRequest && request.asks(code::REFRESH_TIME) {
            let time = self.subnet.map_or(REFRESH_MIN, |s| s.lease.max(REFRESH_MIN));
            let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
            options.insert(DhcpOption::InformationRefreshTime(seconds));
        }
        if let Some(boot) = self.boot {
            self.boot(boot, options);
        }
        if let Some(undi) = request.raw(code::UNDI).filter(|_| request.asks(code::UNDI)) {
            options.insert(raw(code::UNDI, undi.to_vec()));
        }
    }

    fn boot(&self, boot: &BootUrl, options: &mut DhcpOptions) {
        options.insert(raw(code::BOOT_URL, boot.url.as_bytes().to_vec()));
        if self.request.asks(code::BOOT_PARAMETERS) && !boot.parameters.is_empty() {
            options.insert(raw(code::BOOT_PARAMETERS, joined(boot.parameters.iter().map(String::as_bytes))));
        }
        if let Some(class) = boot.class {
            // dhcproto's own type for it counts pieces where the length is (0.15).
            let mut value = INTEL.to_be_bytes().to_vec();
            value.extend(joined([class.as_bytes()]));
            options.insert(raw(code::VENDOR_CLASS, value));
        }
    }
}

fn status(status: Status, text: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: text.to_owned() })
}

fn raw(code: u16, value: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code.into(), value))
}

/// Pieces with a 16-bit length before each. The configuration bounds them.
fn joined<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let with_length = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        [&length.to_be_bytes()[..], piece].concat()
    };
    pieces.into_iter().flat_map(with_length).collect()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
