//! PURE. Which addresses a message gets: (table, message, who, time) → answer and the records to keep (RFC 8415 §18.3).
//!
//! A lease belongs to the interface's MAC where the link shows it, as with DHCPv4: the ROM, iPXE, the agent and the
//! installed system come with different identifiers and are one machine. Where the link hides it (addresses made at
//! random), it belongs to the client's identifier and its association.
//!
//! One interface gets one address: the first lasting association of a message. Every other is told that there is none.

use super::{
    LeaseRecord,
    intake::{Association, Kind, Request},
    subnet::Subnet,
};
use crate::{
    dhcp::lease::{DECLINED_FOR, OFFER_HELD},
    machine::Time,
};
use dhcproto::v6::{MessageType as M, Status};
use provisioner_wire::{
    Mac, MachineName,
    ids::{hex, hex_into},
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::Ipv6Addr,
    str::FromStr,
};

/// More programs than ever hold one machine's address at a time.
const HOLDERS_MAX: usize = 4;

/// Whose a lease is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Mac(Mac),
    /// A client identifier and the number of its association.
    Duid(Vec<u8>, u32),
}

/// `52:54:00:00:00:01`, or `0004…/1` (identifier in hexadecimal, number of the association).
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Duid(duid, id) => write!(f, "{}/{id}", hex(duid)),
        }
    }
}

/// What is no [`Owner`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither a MAC nor a DHCPv6 identifier with its association")]
pub struct OwnerError(String);

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        let wrong = || OwnerError(text.chars().take(60).collect());
        let Some((duid, id)) = text.split_once('/') else {
            return text.parse().map(Self::Mac).map_err(|_| wrong());
        };
        let mut bytes = vec![0; duid.len() / 2];
        hex_into(duid, &mut bytes).ok_or_else(wrong)?;
        Ok(Self::Duid(bytes, id.parse().map_err(|_| wrong())?))
    }
}

/// What one association gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub kind: Kind,
    pub id: u32,
    /// With the subnet's lifetimes.
    pub address: Option<Ipv6Addr>,
    /// Addresses that the client has and shall drop: with lifetimes of 0.
    pub dead: Vec<Ipv6Addr>,
    pub status: Option<(Status, &'static str)>,
}

/// What a message gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Advertise(Vec<Given>),
    /// `rapid`: it answers a SOLICIT.
    Reply {
        given: Vec<Given>,
        rapid: bool,
    },
    /// A reply with nothing but this.
    Status(Status, &'static str),
    /// A reply that accepts what the client told (RELEASE, DECLINE), and what it told wrongly.
    Noted(Vec<Given>),
    /// The client says that this address is in use.
    Conflict(Ipv6Addr, Vec<Given>),
    Silent(&'static str),
}

impl Decision {
    /// The address that it holds out or gives.
    pub fn address(&self) -> Option<Ipv6Addr> {
        match self {
            Self::Advertise(given) | Self::Reply { given, .. } => given.iter().find_map(|g| g.address),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Binding {
    owner: Owner,
    state: State,
    /// Which identifiers and associations of the owner live on it, the latest last. EDK2 has two at a time, and gives one
    /// up while it fetches by the other. Not kept over restarts: then the first release ends the lease.
    holders: Vec<(Vec<u8>, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered {
        until: Time,
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
            Self::Offered { until: end } | Self::Bound { expires: end } | Self::Declined { until: end } => {
                now < end
            }
            Self::Ended => false,
        }
    }

    fn is_bound(self, now: Time) -> bool {
        matches!(self, Self::Bound { expires } if now < expires)
    }
}

/// All that a decision needs besides the table.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub request: &'a Request,
    pub subnet: &'a Subnet,
    pub owner: &'a Owner,
    pub machine: Option<&'a MachineName>,
    /// The interface's reservation.
    pub reservation: Option<Ipv6Addr>,
    /// Every address that is some machine's reservation.
    pub reserved: &'a HashSet<Ipv6Addr>,
    /// The client allows, and the configuration too, to be given the lease at once.
    pub rapid: bool,
    pub now: Time,
}

impl Asked<'_> {
    fn reservation(&self) -> Option<Ipv6Addr> {
        self.reservation.filter(|ip| self.subnet.has_host(*ip))
    }

    /// This machine may have `ip`, whoever has it now.
    fn may_have(&self, ip: Ipv6Addr) -> bool {
        self.reservation() == Some(ip) || (self.subnet.in_pool(ip) && !self.reserved.contains(&ip))
    }

    /// Every association with what `lasting` makes of the first lasting one; the others get nothing.
    fn each(&self, mut lasting: impl FnMut(&Association) -> Given) -> Vec<Given> {
        let mut seen = false;
        let one = |association: &Association| match association.kind {
            Kind::Prefix => Given::refused(association, Status::NoPrefixAvail, "no prefixes are given here"),
            Kind::Lasting if !std::mem::replace(&mut seen, true) => lasting(association),
            Kind::Lasting => Given::refused(association, Status::NoAddrsAvail, "one address an interface"),
            Kind::Temporary => {
                Given::refused(association, Status::NoAddrsAvail, "no temporary addresses are given here")
            }
        };
        self.request.associations.iter().map(one).collect()
    }
}

impl Given {
    fn nothing(association: &Association) -> Self {
        Self { kind: association.kind, id: association.id, address: None, dead: Vec::new(), status: None }
    }

    fn refused(association: &Association, status: Status, why: &'static str) -> Self {
        Self { status: Some((status, why)), ..Self::nothing(association) }
    }
}

/// The lease table. Its size is bounded by the pools and the reservations: an offer holds an address, too.
#[derive(Debug)]
pub struct Leases {
    /// Addresses of the server itself: never given away.
    ours: HashSet<Ipv6Addr>,
    by_ip: HashMap<Ipv6Addr, Binding>,
    by_owner: HashMap<Owner, Vec<Ipv6Addr>>,
}

impl Leases {
    /// A table with what was kept before. `ours` are addresses that no machine may have.
    pub fn new(ours: impl IntoIterator<Item = Ipv6Addr>, kept: &[LeaseRecord]) -> Self {
        let mut leases =
            Self { ours: ours.into_iter().collect(), by_ip: HashMap::new(), by_owner: HashMap::new() };
        for record in kept {
            match record {
                LeaseRecord::Bound { ip, owner, expires, .. } => {
                    leases.put(*ip, owner, State::Bound { expires: *expires });
                }
                LeaseRecord::Declined { ip, owner, until } => {
                    leases.put(*ip, owner, State::Declined { until: *until });
                }
                LeaseRecord::Ended { ip, owner } => leases.put(*ip, owner, State::Ended),
            }
        }
        leases
    }

    /// Decides, and changes the table accordingly. The records are to be committed before the answer is sent. The message
    /// is one that [`super::validate`] lets pass.
    pub fn decide(&mut self, asked: &Asked<'_>) -> (Decision, Vec<LeaseRecord>) {
        let mut records = Vec::new();
        let decision = match asked.request.message {
            M::Solicit if asked.rapid => {
                let given = asked.each(|a| self.bind_any(asked, a, &mut records));
                // §18.3.1: a commitment of nothing is none; it hears what there is not by an advertisement.
                match given.iter().any(|g| g.address.is_some()) {
                    true => Decision::Reply { given, rapid: true },
                    false => Decision::Advertise(given),
                }
            }
            M::Solicit => Decision::Advertise(asked.each(|a| self.offer(asked, a))),
            M::Request => {
                Decision::Reply { given: asked.each(|a| self.request(asked, a, &mut records)), rapid: false }
            }
            M::Confirm => Self::confirm(asked),
            M::Renew | M::Rebind => self.prolong(asked, &mut records),
            M::Release => Decision::Noted(asked.each(|a| self.release(asked, a, &mut records))),
            M::Decline => self.decline(asked, &mut records),
            _ => Decision::Silent("it asks for no address"),
        };
        (decision, records)
    }

    /// Live leases, for figures and tests.
    pub fn live(&self, now: Time) -> impl Iterator<Item = (Ipv6Addr, &Owner)> + '_ {
        self.by_ip.iter().filter(move |(_, b)| b.state.is_bound(now)).map(|(ip, b)| (*ip, &b.owner))
    }

    /// §18.3.1, §18.3.9: held, not committed.
    fn offer(&mut self, asked: &Asked<'_>, association: &Association) -> Given {
        let Some(ip) = self.choose(asked, association) else { return no_address(asked, association) };
        if !self.by_ip.get(&ip).is_some_and(|b| b.state.is_bound(asked.now)) {
            self.drop_offers(asked.owner);
            self.hold(ip, asked.owner, State::Offered { until: asked.now + OFFER_HELD }, asked.now);
        }
        Given { address: Some(ip), ..Given::nothing(association) }
    }

    /// §18.3.2: an address of another link makes the whole association wrong; any other that it cannot have is replaced.
    fn request(
        &mut self,
        asked: &Asked<'_>,
        association: &Association,
        records: &mut Vec<LeaseRecord>,
    ) -> Given {
        if association.addresses.iter().any(|ip| !asked.subnet.has_host(*ip)) {
            return Given::refused(association, Status::NotOnLink, "the address is of another link");
        }
        self.bind_any(asked, association, records)
    }

    /// §18.3.3: only whether the addresses fit the link. Nothing is known of a client without any.
    fn confirm(asked: &Asked<'_>) -> Decision {
        let mut all = asked.request.associations.iter().flat_map(|a| &a.addresses).peekable();
        if all.peek().is_none() {
            return Decision::Silent("it names no address to confirm");
        }
        match all.all(|ip| asked.subnet.has_host(*ip)) {
            true => Decision::Status(Status::Success, "the addresses are of this link"),
            false => Decision::Status(Status::NotOnLink, "an address is of another link"),
        }
    }

    /// §18.3.4 RENEW, §18.3.5 REBIND: what it has, for longer. What it cannot have any more ends with lifetimes of 0, and
    /// it gets what it can have. A lease of which nothing is known is made anew where the address is this machine's to
    /// have: the table may have been lost, the machine lives on it.
    fn prolong(&mut self, asked: &Asked<'_>, records: &mut Vec<LeaseRecord>) -> Decision {
        let rebind = asked.request.message == M::Rebind;
        let named = || asked.request.associations.iter().flat_map(|a| &a.addresses);
        // Another server on the link may know what this one does not (§18.3.5).
        let ours = |ip: &Ipv6Addr| !asked.subnet.has_host(*ip) || asked.may_have(*ip) || self.has(asked, *ip);
        if rebind && !named().any(ours) {
            return Decision::Silent("nothing is known of its addresses");
        }
        let given = asked.each(|association| {
            let wanted = association.addresses.iter().copied();
            let fits = |ip: &Ipv6Addr| asked.reservation().is_none_or(|own| own == *ip);
            let kept = wanted.clone().find(|ip| fits(ip) && self.can_bind(asked, *ip));
            let known = self.by_owner.contains_key(asked.owner) || asked.reservation().is_some();
            let given = match kept {
                Some(ip) => {
                    self.bind(asked, association, ip, records);
                    Given { address: Some(ip), ..Given::nothing(association) }
                }
                None if known && !association.addresses.is_empty() => {
                    self.bind_any(asked, association, records)
                }
                None => {
                    Given::refused(association, Status::NoBinding, "nothing is known of this association")
                }
            };
            let dead: Vec<_> = wanted.filter(|ip| given.address != Some(*ip)).collect();
            let lost = given.address.is_none() && dead.iter().any(|ip| !asked.subnet.has_host(*ip));
            // Wrong for the link is wrong for sure: lifetimes of 0 say more than NoBinding.
            Given {
                dead: if given.address.is_some() || lost { dead } else { Vec::new() },
                status: given.status.filter(|_| !lost),
                ..given
            }
        });
        Decision::Reply { given, rapid: false }
    }

    /// §18.3.7: over, but remembered; and not over while another program of the machine lives on it.
    fn release(
        &mut self,
        asked: &Asked<'_>,
        association: &Association,
        records: &mut Vec<LeaseRecord>,
    ) -> Given {
        let had =
            association.addresses.iter().filter(|ip| self.has(asked, **ip)).copied().collect::<Vec<_>>();
        for ip in &had {
            let holders = self.by_ip.get_mut(ip).map(|b| &mut b.holders);
            let still_held = holders.is_some_and(|holders| {
                holders.retain(|(duid, id)| duid != asked.request.duid() || *id != association.id);
                !holders.is_empty()
            });
            if !still_held {
                self.forget(*ip, asked.owner, records);
            }
        }
        noted(association, !had.is_empty())
    }

    /// §18.3.8. Only of an address that the client was given: else anyone could empty the pool.
    fn decline(&mut self, asked: &Asked<'_>, records: &mut Vec<LeaseRecord>) -> Decision {
        let mut conflict = None;
        let given = asked.each(|association| {
            let mut found = false;
            for ip in association.addresses.iter().copied() {
                let live = self.by_ip.get(&ip).is_some_and(|b| b.state.is_live(asked.now));
                if live && self.has(asked, ip) {
                    let until = asked.now + DECLINED_FOR;
                    self.put(ip, asked.owner, State::Declined { until });
                    records.push(LeaseRecord::Declined { ip, owner: asked.owner.clone(), until });
                    conflict = Some(ip);
                    found = true;
                }
            }
            noted(association, found)
        });
        match conflict {
            Some(ip) => Decision::Conflict(ip, given),
            None => Decision::Noted(given),
        }
    }

    fn bind_any(
        &mut self,
        asked: &Asked<'_>,
        association: &Association,
        records: &mut Vec<LeaseRecord>,
    ) -> Given {
        let Some(ip) = self.choose(asked, association) else { return no_address(asked, association) };
        self.bind(asked, association, ip, records);
        Given { address: Some(ip), ..Given::nothing(association) }
    }

    /// The reservation, what it has or had, what it asks for, any free one.
    fn choose(&mut self, asked: &Asked<'_>, association: &Association) -> Option<Ipv6Addr> {
        let had = self.by_owner.get(asked.owner).into_iter().flatten().copied();
        let wishes = association.addresses.iter().copied();
        let mut first = asked.reservation().into_iter().chain(had).chain(wishes);
        first.find(|ip| self.can_bind(asked, *ip)).or_else(|| self.any_free(asked))
    }

    fn can_bind(&self, asked: &Asked<'_>, ip: Ipv6Addr) -> bool {
        asked.subnet.has_host(ip) && asked.may_have(ip) && self.is_free(ip, asked.owner, asked.now)
    }

    fn bind(
        &mut self,
        asked: &Asked<'_>,
        association: &Association,
        ip: Ipv6Addr,
        records: &mut Vec<LeaseRecord>,
    ) {
        let (owner, expires) = (asked.owner, asked.now + asked.subnet.lease);
        let others: Vec<_> = self.by_owner.get(owner).into_iter().flatten().copied().collect();
        for other in others.into_iter().filter(|o| *o != ip && asked.subnet.has_host(*o)) {
            self.forget(other, owner, records);
        }
        let before = self.by_ip.get_mut(&ip).filter(|b| b.owner == *owner && b.state.is_bound(asked.now));
        let mut holders = before.map(|b| std::mem::take(&mut b.holders)).unwrap_or_default();
        let holder = (asked.request.duid().to_vec(), association.id);
        holders.retain(|other| *other != holder);
        holders.push(holder);
        if holders.len() > HOLDERS_MAX {
            holders.remove(0);
        }
        self.hold(ip, owner, State::Bound { expires }, asked.now);
        if let Some(binding) = self.by_ip.get_mut(&ip) {
            binding.holders = holders;
        }
        records.push(LeaseRecord::Bound {
            ip,
            owner: owner.clone(),
            duid: asked.request.duid().to_vec(),
            machine: asked.machine.cloned(),
            expires,
        });
    }

    fn has(&self, asked: &Asked<'_>, ip: Ipv6Addr) -> bool {
        self.by_ip.get(&ip).is_some_and(|b| b.owner == *asked.owner)
    }

    /// Ends what `owner` has at `ip`; a conflict stays one.
    fn forget(&mut self, ip: Ipv6Addr, owner: &Owner, records: &mut Vec<LeaseRecord>) {
        let Some(binding) = self.by_ip.get_mut(&ip).filter(|b| b.owner == *owner) else { return };
        match binding.state {
            State::Bound { .. } => records.push(LeaseRecord::Ended { ip, owner: owner.clone() }),
            State::Offered { .. } => {}
            State::Ended | State::Declined { .. } => return,
        }
        binding.state = State::Ended;
    }

    fn drop_offers(&mut self, owner: &Owner) {
        for ip in self.by_owner.get(owner).into_iter().flatten() {
            if let Some(binding) = self.by_ip.get_mut(ip)
                && matches!(binding.state, State::Offered { .. })
            {
                binding.state = State::Ended;
            }
        }
    }

    /// `owner` could have `ip` now: nobody else holds it, and it is not in conflict.
    fn is_free(&self, ip: Ipv6Addr, owner: &Owner, now: Time) -> bool {
        let held = |b: &Binding| {
            let conflict = matches!(b.state, State::Declined { .. });
            b.state.is_live(now) && (b.owner != *owner || conflict)
        };
        !self.ours.contains(&ip) && !self.by_ip.get(&ip).is_some_and(held)
    }

    /// An address of the pool: never used before, else no longer used. Where the search begins depends on the owner, so
    /// that a machine finds the same address again even where the table was lost.
    fn any_free(&self, asked: &Asked<'_>) -> Option<Ipv6Addr> {
        let subnet = asked.subnet;
        let start = u128::from(stable(&asked.owner.to_string())) % subnet.pool_size().max(1);
        let around = || (0..subnet.pool_size()).filter_map(|n| subnet.pool_nth(start + n));
        let may = |ip: &Ipv6Addr| asked.may_have(*ip) && !self.ours.contains(ip);
        let unused = around().find(|ip| may(ip) && !self.by_ip.contains_key(ip));
        unused.or_else(|| around().find(|ip| may(ip) && self.is_free(*ip, asked.owner, asked.now)))
    }

    /// Gives `ip` to `owner`. I9: it must be nobody else's.
    fn hold(&mut self, ip: Ipv6Addr, owner: &Owner, state: State, now: Time) {
        let other = self.by_ip.get(&ip).is_some_and(|b| b.owner != *owner && b.state.is_live(now));
        assert!(!other, "I9: {ip} would belong to two machines");
        self.put(ip, owner, state);
    }

    fn put(&mut self, ip: Ipv6Addr, owner: &Owner, state: State) {
        let before = self.by_ip.insert(ip, Binding { owner: owner.clone(), state, holders: Vec::new() });
        if let Some(before) = before.filter(|b| b.owner != *owner)
            && let Some(list) = self.by_owner.get_mut(&before.owner)
        {
            list.retain(|i| *i != ip);
            if list.is_empty() {
                self.by_owner.remove(&before.owner);
            }
        }
        let list = self.by_owner.entry(owner.clone()).or_default();
        // The latest first: it is what the machine means when it asks again.
        list.retain(|i| *i != ip);
        list.insert(0, ip);
    }
}

fn no_address(asked: &Asked<'_>, association: &Association) -> Given {
    let why = match asked.subnet.pool {
        None => "it has no reservation, and the subnet has no pool",
        Some(_) => "the pool has no free address",
    };
    Given::refused(association, Status::NoAddrsAvail, why)
}

fn noted(association: &Association, known: bool) -> Given {
    match known {
        true => Given::nothing(association),
        false => Given::refused(association, Status::NoBinding, "nothing is known of this association"),
    }
}

/// FNV-1a: the same over restarts.
fn stable(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
