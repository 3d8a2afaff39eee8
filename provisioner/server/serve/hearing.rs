//! What the boot plane hears: counted here, and handed to the [`super::recorder`].

use super::signs;
use crate::{
    clock::Clock,
    dhcp::{
        self, Heard, Said,
        intake::Malformed,
        rogue::{Foreign, How, Kind},
    },
    doctor::sign::{Platform, Sign},
    http::boot_plane::Fetched,
    machine::Time,
    tftp::{self, Transferred},
};
use provisioner_wire::Mac;
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// Things heard and not yet written down; more are dropped, and counted.
pub const HEARD_MAX: usize = 4096;

/// One thing heard.
#[derive(Debug)]
pub enum Line {
    Sign { whose: Whose, at: Time, sign: Box<Sign>, address: Option<IpAddr> },
    Foreign(Foreign),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Mac(Mac),
    /// Whoever has this address.
    Address(IpAddr),
}

/// Counts since the start, by what and why.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<(&'static str, String), u64>>);

impl Counters {
    pub fn add(&self, what: &'static str, why: impl Into<String>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((what, why.into())).or_default() += 1;
    }

    /// Everything counted as `what`.
    pub fn of(&self, what: &str) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().filter(|((w, _), _)| *w == what).map(|((_, why), n)| (why.clone(), *n)).collect()
    }
}

/// Names of [`Counters`].
pub mod count {
    /// DHCP packets by message.
    pub const PACKETS: &str = "packets";
    pub const MALFORMED: &str = "malformed";
    /// Packets that got no answer, by reason.
    pub const UNANSWERED: &str = "unanswered";
    pub const TRANSFERS: &str = "transfers";
    pub const FETCHES: &str = "fetches";
    pub const UNKEPT: &str = "unkept";
}

/// Hears without waiting: the line goes to the recorder, or is dropped where that is behind.
pub struct Ear {
    pub told: mpsc::Sender<Line>,
    pub counters: std::sync::Arc<Counters>,
    pub clock: Clock,
    /// What each boot file is made for.
    pub made_for: HashMap<String, Platform>,
    /// Identifiers that mean this server.
    pub ours: Vec<Ipv4Addr>,
}

impl Ear {
    fn tell(&self, line: Line) {
        if self.told.try_send(line).is_err() {
            self.counters.add(count::UNKEPT, "the timeline was behind");
        }
    }

    fn sign(&self, whose: Whose, at: Time, sign: Sign, address: Option<IpAddr>) {
        self.tell(Line::Sign { whose, at, sign: Box::new(sign), address });
    }

    /// The last part of a path names the file.
    fn made_for(&self, path: &str) -> Option<Platform> {
        self.made_for.get(path.rsplit('/').next().unwrap_or(path)).copied()
    }

    /// A boot script or a boot file was asked for by HTTP.
    pub fn fetched(&self, fetched: Fetched) {
        self.counters.add(count::FETCHES, fetched.status.to_string());
        let (made_for, peer) = (self.made_for(&fetched.path), fetched.peer);
        // A script's name is its machine, whatever address it comes from.
        let named = fetched.path.strip_prefix("/boot/").and_then(|f| f.strip_suffix(".ipxe")?.parse().ok());
        let whose = named.map_or(Whose::Address(peer), Whose::Mac);
        self.sign(whose, self.clock.now(), signs::fetch(fetched, made_for), None);
    }

    /// A machine that has chosen another server.
    fn choice(&self, heard: &Heard) -> Option<Foreign> {
        let server = heard.details.server.filter(|ip| !self.ours.contains(ip))?;
        let answered = matches!(heard.said, Said::Offer { .. } | Said::Ack { .. } | Said::Nak { .. });
        (heard.message == "request" && !answered).then_some(Foreign {
            at: heard.at,
            server,
            mac: None,
            kind: Kind::Unknown,
            boot_file: None,
            client: heard.mac,
            how: How::Request,
        })
    }
}

impl dhcp::Hearing for Ear {
    fn heard(&self, heard: Heard) {
        self.counters.add(count::PACKETS, heard.message);
        if let Said::Nothing { reason } = &heard.said {
            self.counters.add(count::UNANSWERED, *reason);
        }
        if heard.machine.is_none() {
            tracing::debug!(mac = %heard.mac, "unknown machine: dhcp {}", heard.line());
        }
        let foreign = self.choice(&heard);
        let given = match heard.said {
            Said::Ack { ip, .. } if !ip.is_unspecified() => Some(ip),
            _ => heard.details.address.filter(|_| heard.message == "request"),
        };
        let given = given.map(IpAddr::V4);
        self.sign(Whose::Mac(heard.mac), heard.at, signs::packet(&heard), given);
        if let Some(foreign) = foreign {
            self.tell(Line::Foreign(foreign));
        }
    }

    fn malformed(&self, why: Malformed) {
        tracing::debug!("DHCP: ignored a packet: {why}");
        self.counters.add(count::MALFORMED, why.to_string());
    }

    fn foreign(&self, foreign: Foreign) {
        self.tell(Line::Foreign(foreign));
    }
}

impl dhcp::v6::Hearing for Ear {
    fn heard6(&self, heard: dhcp::v6::Heard) {
        self.counters.add(count::PACKETS, heard.message);
        if let dhcp::v6::Said::Nothing { reason } = &heard.said {
            self.counters.add(count::UNANSWERED, *reason);
        }
        if let (Some(other), Some(machine)) = (&heard.conflict, &heard.machine) {
            tracing::warn!(%machine, "its DHCPv6 identifier is that of machine {other}; was its disk cloned?");
        }
        let Some(mac) = heard.mac else {
            let duid = provisioner_wire::ids::hex(&heard.duid);
            tracing::info!(duid, "a machine without a MAC: {}", heard.line());
            return;
        };
        let given = match heard.said {
            dhcp::v6::Said::Reply { ip, .. } => ip.map(IpAddr::V6),
            _ => None,
        };
        self.sign(Whose::Mac(mac), heard.at, signs::packet6(&heard), given);
    }

    fn malformed6(&self, why: &(dyn std::error::Error + Send + Sync)) {
        tracing::debug!("DHCPv6: ignored a packet: {why}");
        self.counters.add(count::MALFORMED, why.to_string());
    }
}

impl tftp::Hearing for Ear {
    fn transferred(&self, t: Transferred) {
        let end = match &t.end {
            tftp::End::Complete => "complete",
            tftp::End::Aborted(_) => "ended by the client",
            tftp::End::Silent => "the client went silent",
            tftp::End::Refused(_) => "refused",
        };
        self.counters.add(count::TRANSFERS, end);
        let (made_for, whose) = (self.made_for(&t.file), Whose::Address(t.peer.ip().to_canonical()));
        self.sign(whose, self.clock.now(), signs::transfer(t, made_for), None);
    }
}
