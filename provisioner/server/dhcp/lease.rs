//! PURE. Which address a request gets: (table, request, who, time) → decision and the records to keep (RFC 2131 §4.3).
//!
//! A lease belongs to a MAC, not to a client identifier: in one boot the ROM, iPXE, the agent and the installed system
//! come with different identifiers and are one machine. The identifier is kept and echoed.

use super::{
    LeaseRecord, Who,
    intake::{Request, code},
    subnet::Subnet,
};
use crate::machine::Time;
use dhcproto::v4::MessageType;
use provisioner_wire::{Mac, MachineName};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    time::Duration,
};

/// How long an address is held for a client that was offered it. Firmware takes up to 4 s to ask for it.
pub const OFFER_HELD: Duration = Duration::from_secs(60);
/// How long an address that a client found in use is given to nobody.
pub const DECLINED_FOR: Duration = Duration::from_secs(600);
/// An offer that nobody took up may end sooner, for another client, but not before this age.
pub const OFFER_SURE: Duration = Duration::from_secs(10);
/// Open offers of the pools of one subnet: more than the machines of a rack row that come up at once.
pub const OFFERS_MAX: usize = 16_384;
/// Of a pool, at most this part is given to nobody because clients found it in use: else one of them could empty it.
const DECLINED_PART: usize = 10;
/// After a pool was found full it is not searched again for so long.
const FULL_FOR: Duration = Duration::from_secs(1);

/// What the request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Offer(Ipv4Addr),
    Ack(Ipv4Addr),
    /// Parameters only (RFC 2131 §4.3.5).
    Inform,
    Nak(&'static str),
    Silent(&'static str),
    /// The client says that this address is in use.
    Conflict(Ipv4Addr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Binding {
    mac: Mac,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered {
        until: Time,
        /// The network whose pools it is of; none: a reservation.
        pool: Option<Ipv4Addr>,
    },
    Bound {
        expires: Time,
    },
    /// Over, but the same machine gets it again while nobody needs it.
    Ended,
    Declined {
        until: Time,
    },
}

impl State {
    fn is_live(self, now: Time) -> bool {
        match self {
            Self::Offered { until: end, .. }
            | Self::Bound { expires: end }
            | Self::Declined { until: end } => now < end,
            Self::Ended => false,
        }
    }
}

/// All that a decision needs besides the table.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub request: &'a Request,
    pub subnet: &'a Subnet,
    pub who: &'a Who,
    /// Every address that is some machine's reservation.
    pub reserved: &'a HashSet<Ipv4Addr>,
    pub now: Time,
}

impl Asked<'_> {
    /// The machine's reservation, where it is of this subnet.
    fn reservation(&self) -> Option<Ipv4Addr> {
        self.who.reservation().filter(|ip| self.subnet.has_host(*ip))
    }

    /// This machine may have `ip`, whoever has it now.
    fn may_have(&self, ip: Ipv4Addr) -> bool {
        self.reservation() == Some(ip) || (self.subnet.in_pool(ip) && !self.reserved.contains(&ip))
    }
}

/// The lease table. Its size is bounded by the pools and the reservations: an offer holds an address, too.
#[derive(Debug)]
pub struct Leases {
    /// Addresses of the server itself and of routers: never given away.
    ours: HashSet<Ipv4Addr>,
    by_ip: HashMap<Ipv4Addr, Binding>,
    by_mac: HashMap<Mac, Vec<Ipv4Addr>>,
    /// By network, its pools' offers that were not taken up, the oldest first.
    open: HashMap<Ipv4Addr, BTreeSet<(Time, Ipv4Addr)>>,
    full_until: HashMap<Ipv4Addr, Time>,
}

impl Leases {
    /// A table with what was kept before. `ours` are addresses that no machine may have.
    pub fn new(ours: impl IntoIterator<Item = Ipv4Addr>, kept: &[LeaseRecord]) -> Self {
        let mut leases = Self {
            ours: ours.into_iter().collect(),
            by_ip: HashMap::new(),
            by_mac: HashMap::new(),
            open: HashMap::new(),
            full_until: HashMap::new(),
        };
        for record in kept {
            match record {
                LeaseRecord::Bound { ip, mac, expires, .. } => {
                    leases.put(*ip, *mac, State::Bound { expires: *expires });
                }
                LeaseRecord::Declined { ip, mac, until } => {
                    leases.put(*ip, *mac, State::Declined { until: *until });
                }
                LeaseRecord::Ended { ip, mac } => leases.put(*ip, *mac, State::Ended),
            }
        }
        leases
    }

    /// Decides, and changes the table accordingly. The records are to be committed before the answer is sent. `servers`
    /// are the identifiers that mean this server (its own, and the relay's override).
    pub fn decide(&mut self, asked: &Asked<'_>, servers: &[Ipv4Addr]) -> (Decision, Vec<LeaseRecord>) {
        let mut records = Vec::new();
        let request = asked.request;
        let chosen = request.address(code::SERVER_ID);
        let for_us = chosen.is_none_or(|id| servers.contains(&id));
        let decision = match request.message {
            MessageType::Discover => self.discover(asked),
            MessageType::Request if !for_us => {
                self.drop_offers(request.mac);
                Decision::Silent("it chose another server")
            }
            MessageType::Request => self.request(asked, chosen.is_some(), &mut records),
            MessageType::Decline if for_us => self.decline(asked, &mut records),
            MessageType::Release if for_us => self.release(asked, &mut records),
            MessageType::Inform if asked.subnet.has_host(request.ciaddr) => Decision::Inform,
            MessageType::Inform => Decision::Silent("it informs of an address of no subnet here"),
            _ => Decision::Silent("it is meant for another server"),
        };
        (decision, records)
    }

    /// Live leases, for figures and tests.
    pub fn live(&self, now: Time) -> impl Iterator<Item = (Ipv4Addr, Mac)> + '_ {
        let bound = move |s: State| matches!(s, State::Bound { expires } if now < expires);
        self.by_ip.iter().filter(move |(_, b)| bound(b.state)).map(|(ip, b)| (*ip, b.mac))
    }

    /// RFC 2131 §4.3.1: the reservation, what it has or had, what it asks for, any free one. Held, not committed.
    fn discover(&mut self, asked: &Asked<'_>) -> Decision {
        let mac = asked.request.mac;
        let free = |ip: &Ipv4Addr| asked.may_have(*ip) && self.is_free(*ip, mac, asked.now);
        let had =
            self.by_mac.get(&mac).into_iter().flatten().copied().filter(|ip| asked.subnet.has_host(*ip));
        let wish = asked.request.address(code::REQUESTED_ADDRESS);
        let known = asked.reservation().into_iter().chain(had).chain(wish).find(free);
        let found = known.or_else(|| self.any_free(asked)).or_else(|| self.end_oldest_offer(asked));
        let Some(ip) = found else {
            return Decision::Silent(match asked.subnet.pools.first() {
                None => "it has no reservation, and the subnet has no pool",
                Some(_) => "the pool has no free address",
            });
        };
        let bound = |b: &Binding| matches!(b.state, State::Bound { expires } if asked.now < expires);
        if !self.by_ip.get(&ip).is_some_and(bound) {
            self.drop_offers(mac);
            let network = asked.subnet.network.network();
            let pool = (asked.reservation() != Some(ip)).then_some(network);
            let full = pool.is_some() && self.open.get(&network).is_some_and(|open| open.len() >= OFFERS_MAX);
            if full && self.end_oldest_offer(asked).is_none() {
                return Decision::Silent("too many offers are open");
            }
            self.hold(ip, mac, State::Offered { until: asked.now + OFFER_HELD, pool }, asked.now);
        }
        Decision::Offer(ip)
    }

    /// RFC 2131 §4.3.2: SELECTING has chosen this server; INIT-REBOOT, RENEWING and REBINDING name none.
    fn request(&mut self, asked: &Asked<'_>, selecting: bool, records: &mut Vec<LeaseRecord>) -> Decision {
        let (request, mac) = (asked.request, asked.request.mac);
        let own = Some(request.ciaddr).filter(|ip| !ip.is_unspecified());
        let Some(ip) = own.or(request.address(code::REQUESTED_ADDRESS)) else {
            return Decision::Silent("it requests no address");
        };
        if !asked.subnet.has_host(ip) {
            return Decision::Nak("the address is not of this network");
        }
        let reserved = asked.reservation().filter(|r| *r != ip && self.is_free(*r, mac, asked.now));
        if reserved.is_some() {
            self.forget(ip, mac, records);
            return Decision::Nak("the machine has a reservation for another address");
        }
        let has = self.by_ip.get(&ip).is_some_and(|b| b.mac == mac);
        if !asked.may_have(ip) {
            self.forget(ip, mac, records);
            return match has || selecting || asked.reserved.contains(&ip) {
                true => Decision::Nak("the address is not for this machine"),
                false => Decision::Silent("nothing is known of this address"),
            };
        }
        if !self.is_free(ip, mac, asked.now) {
            return Decision::Nak("the address belongs to another machine");
        }
        // Else a late copy of an old request would end the lease that the machine lives on, and free it for others.
        if asked.reservation() != Some(ip) && self.is_bound_elsewhere(ip, asked) {
            return Decision::Nak("the machine has another address");
        }
        if !has && !selecting && asked.reservation() != Some(ip) {
            return match self.by_mac.contains_key(&mac) {
                true => Decision::Nak("the machine has another address"),
                false => Decision::Silent("no record of this machine"),
            };
        }
        self.bind(asked, ip, records);
        Decision::Ack(ip)
    }

    fn bind(&mut self, asked: &Asked<'_>, ip: Ipv4Addr, records: &mut Vec<LeaseRecord>) {
        let (mac, expires) = (asked.request.mac, asked.now + asked.subnet.lease);
        let others: Vec<_> = self.by_mac.get(&mac).into_iter().flatten().copied().collect();
        for other in others.into_iter().filter(|o| *o != ip && asked.subnet.has_host(*o)) {
            self.forget(other, mac, records);
        }
        self.hold(ip, mac, State::Bound { expires }, asked.now);
        records.push(LeaseRecord::Bound {
            ip,
            mac,
            client_id: asked.request.raw(code::CLIENT_ID).map(<[u8]>::to_vec),
            machine: asked.who.name().cloned() as Option<MachineName>,
            expires,
        });
    }

    /// RFC 2131 §4.3.3. Only of an address that the client was given: else anyone could empty the pool.
    fn decline(&mut self, asked: &Asked<'_>, records: &mut Vec<LeaseRecord>) -> Decision {
        let mac = asked.request.mac;
        let declined = asked.request.address(code::REQUESTED_ADDRESS);
        let given = declined
            .filter(|ip| self.by_ip.get(ip).is_some_and(|b| b.mac == mac && b.state.is_live(asked.now)));
        let Some(ip) = given else {
            return Decision::Silent("it declines an address that it was not given");
        };
        self.end_oldest_conflict(asked, records);
        let until = asked.now + DECLINED_FOR;
        self.put(ip, mac, State::Declined { until });
        records.push(LeaseRecord::Declined { ip, mac, until });
        Decision::Conflict(ip)
    }

    /// Makes room among the pool's addresses in conflict.
    fn end_oldest_conflict(&mut self, asked: &Asked<'_>, records: &mut Vec<LeaseRecord>) {
        let conflicts = self.by_ip.iter().filter_map(|(ip, binding)| match binding.state {
            State::Declined { until } if asked.now < until && asked.subnet.in_pool(*ip) => {
                Some((until, *ip, binding.mac))
            }
            _ => None,
        });
        let conflicts: Vec<_> = conflicts.collect();
        let most = (asked.subnet.pool_size() as usize / DECLINED_PART).max(1);
        if conflicts.len() >= most
            && let Some((_, ip, mac)) = conflicts.into_iter().min()
        {
            self.put(ip, mac, State::Ended);
            records.push(LeaseRecord::Ended { ip, mac });
        }
    }

    /// RFC 2131 §4.3.4: over, but remembered.
    fn release(&mut self, asked: &Asked<'_>, records: &mut Vec<LeaseRecord>) -> Decision {
        self.forget(asked.request.ciaddr, asked.request.mac, records);
        Decision::Silent("it released its address")
    }

    /// Ends what `mac` has at `ip`; a conflict stays one.
    fn forget(&mut self, ip: Ipv4Addr, mac: Mac, records: &mut Vec<LeaseRecord>) {
        let Some(binding) = self.by_ip.get(&ip).filter(|b| b.mac == mac) else { return };
        match binding.state {
            State::Bound { .. } => records.push(LeaseRecord::Ended { ip, mac }),
            State::Offered { .. } => {}
            State::Ended | State::Declined { .. } => return,
        }
        self.put(ip, mac, State::Ended);
    }

    fn drop_offers(&mut self, mac: Mac) {
        let all = self.by_mac.get(&mac).cloned().unwrap_or_default();
        let offered = |ip: &Ipv4Addr| {
            self.by_ip.get(ip).is_some_and(|binding| matches!(binding.state, State::Offered { .. }))
        };
        for ip in all.into_iter().filter(offered).collect::<Vec<_>>() {
            self.put(ip, mac, State::Ended);
        }
    }

    /// Ends the subnet's oldest offer that nobody took up; its address. None where it is too young to be given up.
    fn end_oldest_offer(&mut self, asked: &Asked<'_>) -> Option<Ipv4Addr> {
        let open = self.open.get(&asked.subnet.network.network())?;
        // Oldest first; an address may have become a reservation since.
        let sure = |until: Time| asked.now + (OFFER_HELD - OFFER_SURE) < until;
        let (_, ip) =
            *open.iter().take_while(|(until, _)| !sure(*until)).find(|(_, ip)| asked.may_have(*ip))?;
        let mac = self.by_ip.get(&ip)?.mac;
        self.put(ip, mac, State::Ended);
        Some(ip)
    }

    /// The machine has a running lease of another address of this subnet.
    fn is_bound_elsewhere(&self, ip: Ipv4Addr, asked: &Asked<'_>) -> bool {
        let bound = |b: &Binding| matches!(b.state, State::Bound { expires } if asked.now < expires);
        let others = self.by_mac.get(&asked.request.mac).into_iter().flatten();
        others
            .filter(|o| **o != ip && asked.subnet.has_host(**o))
            .any(|o| self.by_ip.get(o).is_some_and(bound))
    }

    /// `mac` could have `ip` now: nobody else holds it, and it is not in conflict.
    fn is_free(&self, ip: Ipv4Addr, mac: Mac, now: Time) -> bool {
        let held = |b: &Binding| {
            let conflict = matches!(b.state, State::Declined { .. });
            b.state.is_live(now) && (b.mac != mac || conflict)
        };
        !self.ours.contains(&ip) && !self.by_ip.get(&ip).is_some_and(held)
    }

    /// An address of the pool: never used before, else no longer used. Where the search begins depends on the MAC, so
    /// that a machine finds the same address again even where the table was lost.
    fn any_free(&mut self, asked: &Asked<'_>) -> Option<Ipv4Addr> {
        let (subnet, now) = (asked.subnet, asked.now);
        let key = subnet.network.network();
        if self.full_until.get(&key).is_some_and(|until| now < *until) {
            return None;
        }
        let start = asked
            .request
            .mac
            .0
            .iter()
            .fold(2_166_136_261u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619))
            % subnet.pool_size().max(1);
        let around = || (0..subnet.pool_size()).filter_map(|n| subnet.pool_nth(start + n));
        let may = |ip: &Ipv4Addr| asked.may_have(*ip) && !self.ours.contains(ip);
        let unused = around().find(|ip| may(ip) && !self.by_ip.contains_key(ip));
        let found =
            unused.or_else(|| around().find(|ip| may(ip) && self.is_free(*ip, asked.request.mac, now)));
        if found.is_none() {
            self.full_until.insert(key, now + FULL_FOR);
        }
        found
    }

    /// Gives `ip` to `mac`. I9: it must be nobody else's.
    fn hold(&mut self, ip: Ipv4Addr, mac: Mac, state: State, now: Time) {
        let other = self.by_ip.get(&ip).is_some_and(|b| b.mac != mac && b.state.is_live(now));
        assert!(!other, "I9: {ip} would belong to two machines");
        self.put(ip, mac, state);
    }

    fn put(&mut self, ip: Ipv4Addr, mac: Mac, state: State) {
        let before = self.by_ip.insert(ip, Binding { mac, state });
        if let Some(State::Offered { until, pool: Some(network) }) = before.as_ref().map(|b| b.state)
            && let Some(open) = self.open.get_mut(&network)
        {
            open.remove(&(until, ip));
        }
        if let State::Offered { until, pool: Some(network) } = state {
            self.open.entry(network).or_default().insert((until, ip));
        }
        if let Some(before) = before.filter(|b| b.mac != mac)
            && let Some(list) = self.by_mac.get_mut(&before.mac)
        {
            list.retain(|i| *i != ip);
            if list.is_empty() {
                self.by_mac.remove(&before.mac);
            }
        }
        let list = self.by_mac.entry(mac).or_default();
        // The latest first: it is what the machine means when it asks again.
        list.retain(|i| *i != ip);
        list.insert(0, ip);
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
