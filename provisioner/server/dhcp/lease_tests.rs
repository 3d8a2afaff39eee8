//! RFC 2131 §4.3, one named test for each rule, and I9 as a property.

use super::{
    super::{config::SubnetConfig, intake::tests as intake},
    *,
};
use proptest::prelude::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0a];
const B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0b];

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, last)
}

fn unknown() -> Who {
    Who::Unknown { netboot: false }
}

fn known(address: Ipv4Addr) -> Who {
    Who::Known { name: "alpha".parse().unwrap(), address: Some(address), netboot: true }
}

/// A table with one subnet, pool .100 to .103.
struct World {
    leases: Leases,
    subnet: Subnet,
    reserved: HashSet<Ipv4Addr>,
    now: Time,
    records: Vec<LeaseRecord>,
}

impl World {
    fn new() -> Self {
        let config = SubnetConfig {
            pools: vec![[ip(100), ip(103)]],
            lease_seconds: 600,
            ..SubnetConfig::of("10.88.0.0/24".parse().unwrap())
        };
        Self {
            leases: Leases::new([SERVER], &[]),
            subnet: Subnet::new(0, &config).unwrap(),
            reserved: HashSet::new(),
            now: Time(1_000_000),
            records: Vec::new(),
        }
    }

    fn say(&mut self, mac: [u8; 6], who: &Who, ciaddr: Ipv4Addr, options: &[(u8, &[u8])]) -> Decision {
        let mut bytes = intake::packet(mac, options);
        bytes[12..16].copy_from_slice(&ciaddr.octets());
        let request = Request::read(&bytes).unwrap();
        let asked =
            Asked { request: &request, subnet: &self.subnet, who, reserved: &self.reserved, now: self.now };
        let (decision, records) = self.leases.decide(&asked, &[SERVER]);
        self.records = records;
        decision
    }

    fn discover(&mut self, mac: [u8; 6], who: &Who) -> Decision {
        self.say(mac, who, Ipv4Addr::UNSPECIFIED, &[(53, &[1])])
    }

    fn select(&mut self, mac: [u8; 6], who: &Who, wanted: Ipv4Addr) -> Decision {
        self.say(
            mac,
            who,
            Ipv4Addr::UNSPECIFIED,
            &[(53, &[3]), (54, &SERVER.octets()), (50, &wanted.octets())],
        )
    }

    fn init_reboot(&mut self, mac: [u8; 6], who: &Who, wanted: Ipv4Addr) -> Decision {
        self.say(mac, who, Ipv4Addr::UNSPECIFIED, &[(53, &[3]), (50, &wanted.octets())])
    }

    fn renew(&mut self, mac: [u8; 6], who: &Who, own: Ipv4Addr) -> Decision {
        self.say(mac, who, own, &[(53, &[3])])
    }

    /// DISCOVER, REQUEST; the address.
    fn lease(&mut self, mac: [u8; 6], who: &Who) -> Ipv4Addr {
        let Decision::Offer(offered) = self.discover(mac, who) else { panic!("no offer") };
        assert_eq!(self.select(mac, who, offered), Decision::Ack(offered));
        offered
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }
}

#[test]
fn an_offer_holds_and_does_not_commit() {
    let mut world = World::new();
    let Decision::Offer(offered) = world.discover(A, &unknown()) else { panic!() };
    assert!(world.records.is_empty());
    assert_eq!(world.leases.live(world.now).count(), 0);
    assert_eq!(world.discover(A, &unknown()), Decision::Offer(offered), "asked again, the same");
    assert_ne!(world.discover(B, &unknown()), Decision::Offer(offered), "it is held");
    assert_eq!(world.select(A, &unknown(), offered), Decision::Ack(offered));
    assert!(matches!(world.records[..], [LeaseRecord::Bound { ip, .. }] if ip == offered));
}

#[test]
fn address_choice_reservation_then_present_then_previous_then_wish_then_any() {
    let mut world = World::new();
    assert_eq!(world.discover(A, &known(ip(20))), Decision::Offer(ip(20)));
    let wish: &[(u8, &[u8])] = &[(53, &[1]), (50, &[10, 88, 0, 102])];
    assert_eq!(world.say(B, &unknown(), Ipv4Addr::UNSPECIFIED, wish), Decision::Offer(ip(102)));
    assert_eq!(world.select(B, &unknown(), ip(102)), Decision::Ack(ip(102)));
    world.pass(601);
    let other: &[(u8, &[u8])] = &[(53, &[1]), (50, &[10, 88, 0, 101])];
    let again = world.say(B, &unknown(), Ipv4Addr::UNSPECIFIED, other);
    assert_eq!(again, Decision::Offer(ip(102)), "what it had before its wish");
}

#[test]
fn a_reservation_inside_the_pool_is_given_to_nobody_else() {
    let mut world = World::new();
    world.reserved = HashSet::from([ip(100), ip(101), ip(102)]);
    assert_eq!(world.discover(A, &unknown()), Decision::Offer(ip(103)));
    let wish: &[(u8, &[u8])] = &[(53, &[1]), (50, &[10, 88, 0, 101])];
    let decision = world.say(B, &unknown(), Ipv4Addr::UNSPECIFIED, wish);
    assert_eq!(decision, Decision::Silent("the pool has no free address"));
    assert_eq!(world.discover(B, &known(ip(101))), Decision::Offer(ip(101)));
}

#[test]
fn selecting_another_server_releases_our_offer_silently() {
    let mut world = World::new();
    let Decision::Offer(offered) = world.discover(A, &unknown()) else { panic!() };
    let elsewhere: &[(u8, &[u8])] = &[(53, &[3]), (54, &[10, 88, 0, 2]), (50, &[10, 88, 0, 50])];
    let decision = world.say(A, &unknown(), Ipv4Addr::UNSPECIFIED, elsewhere);
    assert!(matches!(decision, Decision::Silent(_)));
    let wish = [(53, &[1u8][..]), (50, &offered.octets()[..])];
    assert_eq!(world.say(B, &unknown(), Ipv4Addr::UNSPECIFIED, &wish), Decision::Offer(offered));
}

#[test]
fn selecting_after_a_restart_is_acknowledged_where_the_address_is_free() {
    let mut world = World::new();
    assert_eq!(world.select(A, &unknown(), ip(101)), Decision::Ack(ip(101)));
    assert!(matches!(world.select(B, &unknown(), ip(101)), Decision::Nak(_)));
    assert!(matches!(world.select(B, &unknown(), ip(50)), Decision::Nak(_)), "not of the pool");
    assert!(matches!(world.select(B, &unknown(), SERVER), Decision::Nak(_)), "the server's own");
}

#[test]
fn init_reboot_wrong_net_is_naked_and_no_record_is_silent() {
    let mut world = World::new();
    let elsewhere = world.init_reboot(A, &unknown(), Ipv4Addr::new(192, 168, 1, 5));
    assert_eq!(elsewhere, Decision::Nak("the address is not of this network"));
    assert!(matches!(world.init_reboot(A, &unknown(), ip(101)), Decision::Silent(_)));
    let leased = world.lease(A, &unknown());
    assert_eq!(world.init_reboot(A, &unknown(), leased), Decision::Ack(leased));
    assert_eq!(
        world.init_reboot(A, &unknown(), if leased == ip(100) { ip(101) } else { ip(100) }),
        Decision::Nak("the machine has another address")
    );
    assert_eq!(world.init_reboot(B, &known(ip(20)), ip(20)), Decision::Ack(ip(20)), "its reservation");
}

#[test]
fn renewing_extends_and_a_lost_table_is_silent() {
    let mut world = World::new();
    let leased = world.lease(A, &unknown());
    world.pass(500);
    assert_eq!(world.renew(A, &unknown(), leased), Decision::Ack(leased));
    world.pass(500);
    assert_eq!(world.leases.live(world.now).count(), 1);
    world.leases = Leases::new([SERVER], &[]);
    assert!(matches!(world.renew(A, &unknown(), leased), Decision::Silent(_)));
    assert_eq!(world.renew(A, &known(leased), leased), Decision::Ack(leased));
}

#[test]
fn a_temporary_lease_of_a_machine_that_became_known_is_naked() {
    let mut world = World::new();
    let leased = world.lease(A, &unknown());
    world.reserved.insert(ip(20));
    assert!(matches!(world.renew(A, &known(ip(20)), leased), Decision::Nak(_)));
    assert_eq!(world.records, [LeaseRecord::Ended { ip: leased, mac: Mac(A) }]);
    assert_eq!(world.lease(A, &known(ip(20))), ip(20));
}

#[test]
fn a_machine_that_changes_its_address_leaves_the_old_one() {
    let mut world = World::new();
    let leased = world.lease(A, &unknown());
    assert_eq!(world.lease(A, &known(ip(20))), ip(20));
    assert_eq!(world.records[0], LeaseRecord::Ended { ip: leased, mac: Mac(A) });
    assert_eq!(world.leases.live(world.now).collect::<Vec<_>>(), [(ip(20), Mac(A))]);
}

#[test]
fn a_reservation_that_another_still_holds_waits() {
    let mut world = World::new();
    let leased = world.lease(A, &unknown());
    world.reserved.insert(leased);
    let Decision::Offer(other) = world.discover(B, &known(leased)) else { panic!() };
    assert_ne!(other, leased, "I9 before the reservation");
    assert!(
        matches!(world.renew(A, &unknown(), leased), Decision::Nak(_)),
        "it is not the holder's any more"
    );
    assert_eq!(world.discover(B, &known(leased)), Decision::Offer(leased));
}

#[test]
fn decline_quarantines_and_only_what_was_given() {
    let mut world = World::new();
    let decline = |world: &mut World, mac, wanted: Ipv4Addr| {
        let options = [(53, &[4u8][..]), (54, &SERVER.octets()[..]), (50, &wanted.octets()[..])];
        world.say(mac, &unknown(), Ipv4Addr::UNSPECIFIED, &options)
    };
    assert!(matches!(decline(&mut world, A, ip(100)), Decision::Silent(_)));
    let leased = world.lease(A, &unknown());
    assert!(matches!(decline(&mut world, B, leased), Decision::Silent(_)));
    assert_eq!(decline(&mut world, A, leased), Decision::Conflict(leased));
    assert!(matches!(world.records[..], [LeaseRecord::Declined { .. }]));
    assert_ne!(world.lease(A, &unknown()), leased);
    world.pass(601);
    let wish = [(53, &[1u8][..]), (50, &leased.octets()[..])];
    assert_eq!(world.say(B, &unknown(), Ipv4Addr::UNSPECIFIED, &wish), Decision::Offer(leased));
}

#[test]
fn release_ends_the_lease_and_keeps_the_binding() {
    let mut world = World::new();
    let leased = world.lease(A, &unknown());
    world.say(B, &unknown(), leased, &[(53, &[7])]);
    assert_eq!(world.leases.live(world.now).count(), 1, "not its own");
    world.say(A, &unknown(), leased, &[(53, &[7])]);
    assert_eq!(world.records, [LeaseRecord::Ended { ip: leased, mac: Mac(A) }]);
    assert_eq!(world.leases.live(world.now).count(), 0);
    assert_eq!(world.discover(A, &unknown()), Decision::Offer(leased));
}

#[test]
fn inform_gets_parameters_only() {
    let mut world = World::new();
    assert_eq!(world.say(A, &unknown(), ip(77), &[(53, &[8])]), Decision::Inform);
    let outside = world.say(A, &unknown(), Ipv4Addr::new(9, 9, 9, 9), &[(53, &[8])]);
    assert!(matches!(outside, Decision::Silent(_)));
}

#[test]
fn offers_are_bounded_by_the_pool_and_end_after_a_minute() {
    let mut world = World::new();
    for n in 0..4u8 {
        assert!(matches!(world.discover([2, 0, 0, 0, 1, n], &unknown()), Decision::Offer(_)));
    }
    for n in 4..200u8 {
        assert!(matches!(world.discover([2, 0, 0, 0, 1, n], &unknown()), Decision::Silent(_)));
    }
    assert_eq!((world.leases.by_ip.len(), world.leases.by_mac.len()), (4, 4));
    world.pass(60);
    assert!(matches!(world.discover(A, &unknown()), Decision::Offer(_)));
    assert_eq!(world.leases.by_mac.len(), 4);
}

#[test]
fn where_the_pool_is_empty_the_oldest_offer_that_nobody_took_up_ends_first() {
    let mut world = World::new();
    let client = |n| [2, 0, 0, 0, 1, n];
    let Decision::Offer(first) = world.discover(client(0), &unknown()) else { panic!() };
    world.pass(3);
    let taken = world.lease(client(1), &unknown());
    for n in 2..4u8 {
        world.discover(client(n), &unknown());
        world.pass(3);
    }
    // 9 s old: firmware may still be choosing.
    assert!(matches!(world.discover(A, &unknown()), Decision::Silent(_)));
    world.pass(1);
    assert_eq!(world.discover(A, &unknown()), Decision::Offer(first));
    assert!(matches!(world.discover(B, &unknown()), Decision::Silent(_)), "the next is younger");
    assert!(matches!(world.select(client(0), &unknown(), first), Decision::Nak(_)), "it was too late");
    assert_eq!(world.renew(client(1), &unknown(), taken), Decision::Ack(taken), "a lease is no offer");
}

#[test]
fn open_offers_are_capped_and_leases_do_not_count() {
    let mut world = World::new();
    let pools = vec![[Ipv4Addr::new(10, 89, 0, 1), Ipv4Addr::new(10, 89, 200, 255)]];
    let config = SubnetConfig { pools, ..SubnetConfig::of("10.89.0.0/16".parse().unwrap()) };
    world.subnet = Subnet::new(0, &config).unwrap();
    let client = |n: usize| {
        let [.., a, b, c] = n.to_be_bytes();
        [2, 0, 0, a, b, c]
    };
    for n in 0..100 {
        world.lease(client(n), &unknown());
    }
    for n in 100..100 + OFFERS_MAX {
        assert!(matches!(world.discover(client(n), &unknown()), Decision::Offer(_)), "{n}");
    }
    assert_eq!(world.discover(A, &unknown()), Decision::Silent("too many offers are open"));
    let again = world.discover(client(100), &unknown());
    assert!(matches!(again, Decision::Offer(_)), "asked again, it is the same one");
    world.pass(10);
    assert!(matches!(world.discover(A, &unknown()), Decision::Offer(_)));
    let open = &world.leases.open[&world.subnet.network.network()];
    assert_eq!(open.len(), OFFERS_MAX);
}

#[test]
fn addresses_in_conflict_are_a_tenth_of_the_pool_at_most() {
    let mut world = World::new();
    let mut declined = Vec::new();
    for n in 0..3u8 {
        let mac = [2, 0, 0, 0, 1, n];
        let leased = world.lease(mac, &unknown());
        let options = [(53, &[4u8][..]), (54, &SERVER.octets()[..]), (50, &leased.octets()[..])];
        world.say(mac, &unknown(), Ipv4Addr::UNSPECIFIED, &options);
        declined.push(leased);
        world.pass(1);
    }
    let held = |world: &World, ip| matches!(world.leases.by_ip[&ip].state, State::Declined { .. });
    assert!(held(&world, declined[2]) && !held(&world, declined[1]));
    assert!(
        matches!(world.records[..], [LeaseRecord::Ended { .. }, LeaseRecord::Declined { .. }]),
        "what ended is also kept: {:?}",
        world.records
    );
}

#[test]
fn rebinding_extends_like_renewing_and_another_servers_client_hears_nothing() {
    // A broadcast of a client with an address; the packet is the same but for where it is sent (RFC 2131 §4.3.2).
    let mut world = World::new();
    let leased = world.lease(A, &unknown());
    world.pass(550);
    assert_eq!(world.renew(A, &unknown(), leased), Decision::Ack(leased));
    assert!(matches!(world.renew(B, &unknown(), ip(102)), Decision::Silent(_)));
}

#[test]
fn a_machine_that_became_known_without_an_address_keeps_its_lease() {
    let mut world = World::new();
    let leased = world.lease(A, &unknown());
    let known = Who::Known { name: "alpha".parse().unwrap(), address: None, netboot: true };
    assert_eq!(world.renew(A, &known, leased), Decision::Ack(leased));
}

#[test]
fn several_pools_are_used_one_after_the_other_and_nothing_between() {
    let mut world = World::new();
    let pools = vec![[ip(10), ip(11)], [ip(30), ip(31)]];
    let config = SubnetConfig { pools, ..SubnetConfig::of("10.88.0.0/24".parse().unwrap()) };
    world.subnet = Subnet::new(0, &config).unwrap();
    let mut given: Vec<_> = (0..4u8).map(|n| world.lease([2, 0, 0, 0, 1, n], &unknown())).collect();
    given.sort();
    assert_eq!(given, [ip(10), ip(11), ip(30), ip(31)]);
    assert!(matches!(world.select(A, &unknown(), ip(20)), Decision::Nak(_)));
}

#[test]
fn what_was_kept_is_still_held_after_a_restart() {
    let mut world = World::new();
    let leased = world.lease(A, &unknown());
    world.leases = Leases::new([SERVER], &world.records.clone());
    assert!(matches!(world.select(B, &unknown(), leased), Decision::Nak(_)));
    assert_eq!(world.renew(A, &unknown(), leased), Decision::Ack(leased));
}

proptest! {
    /// Any sequence of messages of five machines: the addresses acknowledged and not yet over are all different (I9).
    #[test]
    fn two_live_leases_never_share_an_address(
        steps in proptest::collection::vec((0u8..5, 0u8..7, 98u8..106, 0u64..120, any::<bool>()), 1..120)
    ) {
        let mut world = World::new();
        let mut held: HashMap<Ipv4Addr, ([u8; 6], Time)> = HashMap::new();
        for (machine, kind, last, seconds, reserve) in steps {
            world.pass(seconds);
            let mac = [0x52, 0x54, 0, 0, 0, machine];
            let who = if reserve && machine < 2 { known(ip(100 + machine)) } else { unknown() };
            if reserve { world.reserved.insert(ip(100 + machine % 2)); } else { world.reserved.clear(); }
            let decision = match kind {
                0 | 1 => match world.discover(mac, &who) {
                    Decision::Offer(offered) if kind == 1 => world.select(mac, &who, offered),
                    other => other,
                },
                2 => world.select(mac, &who, ip(last)),
                3 => world.init_reboot(mac, &who, ip(last)),
                4 => world.renew(mac, &who, ip(last)),
                5 => world.say(mac, &who, ip(last), &[(53, &[7])]),
                _ => world.say(mac, &who, Ipv4Addr::UNSPECIFIED, &[(53, &[4]), (50, &ip(last).octets())]),
            };
            let records = world.records.clone();
            for record in &records {
                if let LeaseRecord::Ended { ip, .. } | LeaseRecord::Declined { ip, .. } = record {
                    held.remove(ip);
                }
            }
            if let Decision::Ack(given) = decision {
                if let Some((owner, until)) = held.get(&given) {
                    prop_assert!(*owner == mac || world.now >= *until, "{given} has two owners");
                }
                held.insert(given, (mac, world.now + world.subnet.lease));
                let recorded = matches!(records.last(), Some(LeaseRecord::Bound { ip, .. }) if *ip == given);
                prop_assert!(recorded, "acknowledged and not recorded");
            }
            let table: HashMap<_, _> = world.leases.live(world.now).collect();
            let expected: HashMap<_, _> = held
                .iter()
                .filter(|(_, (_, until))| world.now < *until)
                .map(|(ip, (mac, _))| (*ip, Mac(*mac)))
                .collect();
            prop_assert_eq!(table, expected);
        }
    }
}
