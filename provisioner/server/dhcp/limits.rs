//! PURE. How many questions of machines that nobody declared are answered: per port of a relay, per relay, and in all.
//! Declared machines are never counted and never held back, so a flood of made-up MACs does not keep a real one from
//! booting.

use super::{
    Who,
    intake::{Request, code, sub_option},
};
use crate::machine::Time;
use dhcproto::v4::MessageType;
use provisioner_wire::Mac;
use serde::Deserialize;
use std::{collections::HashMap, net::Ipv4Addr};

/// Ports and relays that are told apart. What comes from more shares one bucket.
const SOURCES_MAX: usize = 4096;
/// Bytes of a relay's circuit and remote id that tell ports apart; firmware and switches use less.
const ID_MAX: usize = 64;

/// `[dhcp.limits]`: DISCOVERs a second of unknown machines; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Of one port of a relay, as its option 82 names it; ten times as many at once.
    pub unknown_per_port: u32,
    /// Of one relay; ten times as many at once.
    pub unknown_per_relay: u32,
    /// Of all; twice as many at once.
    pub unknown_per_second: u32,
}

impl Default for LimitsConfig {
    /// A switch port has a machine or two, a relay a few racks. In all, more than a boot storm of ten thousand.
    fn default() -> Self {
        Self { unknown_per_port: 50, unknown_per_relay: 2000, unknown_per_second: 20_000 }
    }
}

/// Tokens that come back with time. Counts thousandths, so that no division loses any.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    per_second: u64,
    room: u64,
    thousandths: u64,
    at: Time,
}

impl Bucket {
    /// Full. `per_second` 0 never runs empty.
    pub fn new(per_second: u32, burst: u32, now: Time) -> Self {
        let room = u64::from(burst) * 1000;
        Self { per_second: per_second.into(), room, thousandths: room, at: now }
    }

    fn fill(&mut self, now: Time) {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.thousandths =
            self.thousandths.saturating_add(passed.saturating_mul(self.per_second)).min(self.room);
        self.at = self.at.max(now);
    }

    fn has_one(&mut self, now: Time) -> bool {
        self.fill(now);
        self.per_second == 0 || self.thousandths >= 1000
    }

    fn spend(&mut self) {
        self.thousandths = self.thousandths.saturating_sub(1000);
    }

    /// Takes one token where there is one.
    pub fn take(&mut self, now: Time) -> bool {
        let has = self.has_one(now);
        if has {
            self.spend();
        }
        has
    }

    fn is_full(&mut self, now: Time) -> bool {
        self.fill(now);
        self.thousandths == self.room
    }
}

/// Where a question comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Relay(Ipv4Addr),
    /// Circuit id and remote id, as the relay at this address says them.
    Port(Ipv4Addr, Vec<u8>, Vec<u8>),
    /// Every source beyond [`SOURCES_MAX`].
    Others,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limited {
    Port,
    Relay,
    All,
}

impl Limited {
    /// As it stands in the timeline. The doctor knows these by their beginning.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Port => "too many unknown machines ask on this port of the relay",
            Self::Relay => "too many unknown machines ask through this relay",
            Self::All => "too many unknown machines ask",
        }
    }
}

#[derive(Debug)]
pub struct Limits {
    config: LimitsConfig,
    all: Bucket,
    sources: HashMap<Source, Bucket>,
}

impl Limits {
    pub fn new(config: LimitsConfig) -> Self {
        let all =
            Bucket::new(config.unknown_per_second, config.unknown_per_second.saturating_mul(2), Time(0));
        Self { config, all, sources: HashMap::new() }
    }

    /// Whether this request is answered. Only a DISCOVER of an unknown machine takes anything of a limit: every other
    /// message follows an answer.
    pub fn admit(&mut self, request: &Request, who: &Who, now: Time) -> Result<(), Limited> {
        if matches!(who, Who::Known { .. }) || request.message != MessageType::Discover {
            return Ok(());
        }
        let (port, relay) = (port(request), relay(request));
        if !port.as_ref().is_none_or(|port| self.source(port, now).has_one(now)) {
            return Err(Limited::Port);
        }
        if !relay.as_ref().is_none_or(|relay| self.source(relay, now).has_one(now)) {
            return Err(Limited::Relay);
        }
        if !self.all.take(now) {
            return Err(Limited::All);
        }
        // Taken only now: a question that one limit refuses must not use up another.
        for source in port.iter().chain(&relay) {
            self.source(source, now).spend();
        }
        Ok(())
    }

    fn source(&mut self, source: &Source, now: Time) -> &mut Bucket {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(source) {
            // A full bucket remembers nothing.
            self.sources.retain(|_, bucket| !bucket.is_full(now));
        }
        let room = self.sources.len() < SOURCES_MAX || self.sources.contains_key(source);
        let key = if room { source.clone() } else { Source::Others };
        let per_second = match source {
            Source::Port(..) => self.config.unknown_per_port,
            Source::Relay(_) | Source::Others => self.config.unknown_per_relay,
        };
        self.sources.entry(key).or_insert_with(|| Bucket::new(per_second, per_second.saturating_mul(10), now))
    }
}

/// What stands before every answer: the limits, and an ear for our own question to other servers.
#[derive(Debug, Default)]
pub struct Guard {
    limits: Option<Limits>,
    probe: Option<Mac>,
}

impl Guard {
    /// `probe`: in whose name [`super::watch`] asks.
    pub fn new(config: LimitsConfig, probe: Mac) -> Self {
        Self { limits: Some(Limits::new(config)), probe: Some(probe) }
    }

    /// Our own question, which is not for us.
    pub fn is_probe(&self, request: &Request) -> bool {
        self.probe == Some(request.mac)
    }

    /// The reason of a refusal is for the timeline.
    pub fn admit(&mut self, request: &Request, who: &Who, now: Time) -> Result<(), &'static str> {
        let Some(limits) = &mut self.limits else { return Ok(()) };
        limits.admit(request, who, now).map_err(Limited::reason)
    }
}

fn relay(request: &Request) -> Option<Source> {
    (!request.giaddr.is_unspecified()).then_some(Source::Relay(request.giaddr))
}

fn port(request: &Request) -> Option<Source> {
    let information = request.raw(code::RELAY).filter(|_| !request.giaddr.is_unspecified())?;
    let id = |wanted| {
        let bytes = sub_option(information, wanted).unwrap_or_default();
        bytes.get(..ID_MAX).unwrap_or(bytes).to_vec()
    };
    let (circuit, remote) = (id(1), id(2));
    let named = !circuit.is_empty() || !remote.is_empty();
    named.then_some(Source::Port(request.giaddr, circuit, remote))
}

#[cfg(test)]
mod tests {
    use super::{super::intake::tests::packet, *};
    use proptest::prelude::*;

    fn request(mac: u32, relay: Option<(u8, u8)>) -> Request {
        let [_, b, c, d] = mac.to_be_bytes();
        let mut options: Vec<(u8, &[u8])> = vec![(53, &[1])];
        let information = [1, 2, 0, relay.map_or(0, |(_, port)| port)];
        if relay.is_some_and(|(_, port)| port > 0) {
            options.push((82, &information));
        }
        let mut bytes = packet([0x52, 0x54, 0, b, c, d], &options);
        if let Some((relay, _)) = relay {
            bytes[24..28].copy_from_slice(&[10, 9, relay, 1]);
        }
        Request::read(&bytes).unwrap()
    }

    const UNKNOWN: Who = Who::Unknown { netboot: true };

    fn known() -> Who {
        Who::Known { name: "alpha".parse().unwrap(), address: None, netboot: true }
    }

    fn admitted(limits: &mut Limits, count: u32, relay: Option<(u8, u8)>, now: Time) -> u32 {
        (0..count).filter(|n| limits.admit(&request(*n, relay), &UNKNOWN, now).is_ok()).count() as u32
    }

    #[test]
    fn one_port_is_held_back_and_no_other() {
        let mut limits = Limits::new(LimitsConfig::default());
        let now = Time(1_000_000);
        assert_eq!(admitted(&mut limits, 1000, Some((1, 7)), now), 500);
        assert_eq!(limits.admit(&request(5, Some((1, 7))), &UNKNOWN, now), Err(Limited::Port));
        assert_eq!(admitted(&mut limits, 100, Some((1, 8)), now), 100);
        assert_eq!(admitted(&mut limits, 100, None, now), 100);
        assert_eq!(admitted(&mut limits, 100, Some((1, 7)), Time(now.0 + 1000)), 50);
    }

    #[test]
    fn one_relay_is_held_back_and_no_other() {
        let config = LimitsConfig { unknown_per_relay: 100, ..LimitsConfig::default() };
        let mut limits = Limits::new(config);
        assert_eq!(admitted(&mut limits, 5000, Some((1, 0)), Time(9)), 1000);
        assert_eq!(limits.admit(&request(1, Some((1, 0))), &UNKNOWN, Time(9)), Err(Limited::Relay));
        assert_eq!(admitted(&mut limits, 500, Some((2, 0)), Time(9)), 500);
    }

    #[test]
    fn a_boot_storm_of_ten_thousand_passes_and_a_flood_does_not() {
        let mut limits = Limits::new(LimitsConfig::default());
        assert_eq!(admitted(&mut limits, 10_000, None, Time(5)), 10_000);
        assert_eq!(admitted(&mut limits, 100_000, None, Time(5)), 30_000);
        assert_eq!(limits.admit(&request(1, None), &UNKNOWN, Time(5)), Err(Limited::All));
        // Declared machines are answered all the while, and an unknown one's request after its offer.
        for n in 0..1000 {
            assert_eq!(limits.admit(&request(n, Some((1, 1))), &known(), Time(5)), Ok(()));
        }
        let later = Request::read(&packet([0x52, 0x54, 0, 0, 0, 1], &[(53, &[3])])).unwrap();
        assert_eq!(limits.admit(&later, &UNKNOWN, Time(5)), Ok(()));
    }

    #[test]
    fn nothing_is_no_limit_and_made_up_ports_take_no_memory() {
        let none = LimitsConfig { unknown_per_port: 0, unknown_per_relay: 0, unknown_per_second: 0 };
        assert_eq!(admitted(&mut Limits::new(none), 50_000, Some((1, 1)), Time(1)), 50_000);
        let mut limits = Limits::new(LimitsConfig::default());
        for n in 0..3 * SOURCES_MAX as u32 {
            let mut bytes =
                packet([0x52, 0x54, 0, 0, 0, 1], &[(53, &[1]), (82, &[1, 4, 0, 0, (n >> 8) as u8, n as u8])]);
            bytes[24..28].copy_from_slice(&[10, 9, (n >> 8) as u8, n as u8]);
            let _ = limits.admit(&Request::read(&bytes).unwrap(), &UNKNOWN, Time(7));
        }
        assert!(limits.sources.len() <= SOURCES_MAX + 1, "{}", limits.sources.len());
    }

    proptest! {
        /// However the questions come, no more than burst and rate allow are admitted.
        #[test]
        fn never_more_than_the_rate(gaps in proptest::collection::vec(0..2000i64, 1..400)) {
            let mut bucket = Bucket::new(3, 10, Time(0));
            let (mut now, mut taken) = (0, 0u64);
            for gap in gaps {
                now += gap;
                taken += u64::from(bucket.take(Time(now)));
                prop_assert!(taken <= 10 + (now as u64) * 3 / 1000 + 1);
            }
        }
    }
}
