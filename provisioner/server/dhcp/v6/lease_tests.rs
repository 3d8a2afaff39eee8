//! The lease table of DHCPv6: what each message gets, and that no address is ever two machines'.

use super::{
    super::{config::Subnet6Config, intake::tests as intake},
    *,
};
use intake::{ia, message, option};
use proptest::prelude::*;

const NOW: Time = Time(1_700_000_000_000);
const DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

fn ip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, last)
}

fn subnet(pool: u16) -> Subnet {
    Subnet::new(&Subnet6Config {
        network: "fd88::/64".parse().unwrap(),
        pool: Some([ip(0x100), ip(0x100 + pool - 1)]),
        dns: vec![],
        lease_seconds: 3600,
    })
    .unwrap()
}

fn owner(n: u8) -> Owner {
    Owner::Mac(Mac([2, 0, 0, 0, 0, n]))
}

struct Table {
    leases: Leases,
    subnet: Subnet,
    reserved: HashSet<Ipv6Addr>,
    now: Time,
}

impl Table {
    fn new(pool: u16) -> Self {
        let leases = Leases::new([ip(1)], &[]);
        Self { leases, subnet: subnet(pool), reserved: HashSet::new(), now: NOW }
    }

    fn say(
        &mut self,
        kind: u8,
        who: u8,
        wishes: &[Ipv6Addr],
        reservation: Option<Ipv6Addr>,
    ) -> (Decision, Vec<LeaseRecord>) {
        let request = intake::read(&message(kind, &[option(1, DUID), ia(7, wishes)])).unwrap();
        let asked = Asked {
            request: &request,
            subnet: &self.subnet,
            owner: &owner(who),
            machine: None,
            reservation,
            reserved: &self.reserved,
            rapid: false,
            now: self.now,
        };
        self.leases.decide(&asked)
    }

    /// SOLICIT and REQUEST.
    fn lease(&mut self, who: u8) -> Option<Ipv6Addr> {
        let offered = self.say(1, who, &[], None).0.address()?;
        let (decision, records) = self.say(3, who, &[offered], None);
        assert!(matches!(&records[..], [LeaseRecord::Bound { ip, .. }] if *ip == offered), "{records:?}");
        decision.address()
    }
}

fn status(decision: &Decision) -> Option<Status> {
    match decision {
        Decision::Advertise(given)
        | Decision::Reply { given, .. }
        | Decision::Noted(given)
        | Decision::Conflict(_, given) => given.iter().find_map(|g| g.status).map(|(status, _)| status),
        Decision::Status(status, _) => Some(*status),
        Decision::Silent(_) => None,
    }
}

fn dead(decision: &Decision) -> Vec<Ipv6Addr> {
    match decision {
        Decision::Reply { given, .. } => given.iter().flat_map(|g| g.dead.clone()).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn an_advertisement_holds_and_does_not_commit() {
    let mut table = Table::new(1);
    let (first, records) = table.say(1, 1, &[], None);
    assert_eq!((first.address(), records), (Some(ip(0x100)), vec![]));
    assert_eq!(status(&table.say(1, 2, &[], None).0), Some(Status::NoAddrsAvail));
    table.now = NOW + OFFER_HELD;
    assert_eq!(table.say(1, 2, &[], None).0.address(), Some(ip(0x100)));
}

#[test]
fn the_reservation_goes_first_then_what_it_had_then_its_wish() {
    let mut table = Table::new(16);
    table.reserved.insert(ip(0x50));
    assert_eq!(table.say(1, 1, &[ip(0x105)], Some(ip(0x50))).0.address(), Some(ip(0x50)));
    assert_eq!(table.say(1, 2, &[ip(0x105)], None).0.address(), Some(ip(0x105)));
    assert_eq!(table.say(3, 2, &[ip(0x105)], None).0.address(), Some(ip(0x105)));
    assert_eq!(table.say(1, 2, &[ip(0x106)], None).0.address(), Some(ip(0x105)));
    // Another machine's reservation, this server's own address and one outside the pool are no wishes to grant.
    for wish in [ip(0x50), ip(1), ip(0x300)] {
        let got = table.say(1, 3, &[wish], None).0.address().unwrap();
        assert!(table.subnet.in_pool(got), "{wish} -> {got}");
    }
}

#[test]
fn a_lease_ends_and_is_remembered_for_its_machine() {
    let mut table = Table::new(2);
    let (one, two) = (table.lease(1).unwrap(), table.lease(2).unwrap());
    assert_ne!(one, two);
    assert_eq!(table.lease(3), None);
    table.now = NOW + std::time::Duration::from_secs(3601);
    assert_eq!(table.lease(1), Some(one));
    assert_eq!(table.lease(3), Some(two));
}

#[test]
fn a_restart_keeps_every_lease() {
    let mut table = Table::new(8);
    let one = table.lease(1).unwrap();
    let (_, records) = table.say(5, 1, &[one], None);
    table.leases = Leases::new([ip(1)], &records);
    assert_eq!(table.leases.live(table.now).collect::<Vec<_>>(), [(one, &owner(1))]);
    assert_eq!(table.say(5, 2, &[one], None).0.address(), None);
    assert_eq!(table.say(5, 1, &[one], None).0.address(), Some(one));
}

#[test]
fn renewing_what_became_anothers_reservation_moves_the_machine() {
    let mut table = Table::new(8);
    let old = table.lease(1).unwrap();
    let (decision, records) = table.say(5, 1, &[old], Some(ip(0x50)));
    assert_eq!((decision.address(), dead(&decision)), (Some(ip(0x50)), vec![old]));
    assert!(records.contains(&LeaseRecord::Ended { ip: old, owner: owner(1) }), "{records:?}");
}

#[test]
fn only_the_first_lasting_association_gets_an_address() {
    let mut table = Table::new(8);
    let prefix = option(25, &[&[0, 0, 0, 9][..], &[0; 8]].concat());
    let temporary = option(4, &[0, 0, 0, 8]);
    let packet = message(1, &[option(1, DUID), prefix, ia(1, &[]), ia(2, &[]), temporary]);
    let request = intake::read(&packet).unwrap();
    let asked = Asked {
        request: &request,
        subnet: &table.subnet,
        owner: &owner(1),
        machine: None,
        reservation: None,
        reserved: &table.reserved,
        rapid: false,
        now: NOW,
    };
    let (Decision::Advertise(given), _) = table.leases.decide(&asked) else { panic!() };
    let short: Vec<_> =
        given.iter().map(|g| (g.id, g.address.is_some(), g.status.map(|(status, _)| status))).collect();
    assert_eq!(
        short,
        [
            (9, false, Some(Status::NoPrefixAvail)),
            (1, true, None),
            (2, false, Some(Status::NoAddrsAvail)),
            (8, false, Some(Status::NoAddrsAvail)),
        ]
    );
}

#[test]
fn owners_are_written_and_read() {
    for owner in [owner(3), Owner::Duid(vec![0, 4, 255], 77), Owner::Duid(vec![0; 130], u32::MAX)] {
        assert_eq!(owner.to_string().parse(), Ok(owner));
    }
    for bad in ["", "xx", "0001/", "/1", "001/1", "zz/1", "0001/-1"] {
        let owner = bad.parse::<Owner>();
        assert!(owner.is_err() || bad == "/1", "{bad} {owner:?}");
    }
}

proptest! {
    /// I9, over any sequence of messages: the table asserts it, and what is live is told apart here.
    #[test]
    fn two_live_leases_never_share_an_address(
        steps in prop::collection::vec((0usize..6, 0u8..6, 0u16..8, any::<bool>(), 0u64..2000), 1..80),
    ) {
        let mut table = Table::new(4);
        table.reserved.insert(ip(0x102));
        let mut told: HashMap<Ipv6Addr, (u8, Time)> = HashMap::new();
        for (kind, who, wish, reserved, later) in steps {
            table.now = table.now + std::time::Duration::from_secs(later);
            let kind = [1u8, 3, 5, 6, 8, 9][kind];
            let reservation = (reserved && who == 0).then(|| ip(0x102));
            let (decision, _) = table.say(kind, who, &[ip(0x100 + wish)], reservation);
            if let (Decision::Reply { .. }, Some(ip)) = (&decision, decision.address()) {
                if let Some((other, expires)) = told.get(&ip) {
                    prop_assert!(*other == who || *expires <= table.now, "{ip}: {other} and {who}");
                }
                told.insert(ip, (who, table.now + table.subnet.lease));
            }
            // RELEASE and DECLINE give back only what is the sender's.
            if matches!(kind, 8 | 9) && status(&decision).is_none() {
                let ip = ip(0x100 + wish);
                told.retain(|had, (other, _)| *had != ip || *other != who);
            }
            // A machine that gets another address has lost the one before.
            if let Some(new) = decision.address().filter(|_| matches!(decision, Decision::Reply { .. })) {
                told.retain(|had, (other, _)| *had == new || *other != who);
            }
            let live: Vec<_> = table.leases.live(table.now).map(|(ip, _)| ip).collect();
            let set: HashSet<_> = live.iter().collect();
            prop_assert_eq!(live.len(), set.len());
        }
    }
}
