//! The rules of turns, for any requests, rates and times.

use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn limits(server: Option<u64>, domain: Option<u64>) -> Limits {
    Limits { server: server.map(Rate), domain: domain.map(Rate) }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs until `until`; (time, number) of each grant.
fn run(fair: &mut Fair<u8>, until: Duration) -> Vec<(Duration, u64)> {
    let (mut now, mut sent) = (Duration::ZERO, Vec::new());
    loop {
        sent.extend(fair.grant(now).into_iter().map(|number| (now, number)));
        match fair.due() {
            Some(due) if due <= until => {
                assert!(due > now, "nothing is granted when it is due");
                now = due;
            }
            _ => return sent,
        }
    }
}

#[test]
fn without_limits_nobody_waits() {
    let mut fair = Fair::new(Limits::default(), Duration::ZERO);
    (0..100).for_each(|n| fair.ask(n, (n % 3) as u8, Some("a"), 10 * MIB, Duration::ZERO));
    assert_eq!(fair.grant(Duration::ZERO).len(), 100);
    assert_eq!((fair.due(), fair.waiting()), (None, 0));
}

#[test]
fn a_full_rack_does_not_hold_up_another() {
    let mut fair = Fair::new(limits(None, Some(MIB)), Duration::ZERO);
    for n in 0..20 {
        fair.ask(n, 1, Some("full"), MIB, Duration::ZERO);
    }
    assert_eq!(fair.grant(Duration::ZERO), [0]);
    fair.ask(100, 2, Some("idle"), MIB, ms(1));
    fair.ask(101, 3, None, MIB, ms(1));
    assert_eq!(fair.grant(ms(1)), [100, 101]);
    assert!(fair.due().unwrap() > ms(800));
}

#[test]
fn who_has_gone_leaves_nothing_behind() {
    let mut fair = Fair::new(limits(Some(1), None), Duration::ZERO);
    fair.ask(1, 1, None, MIB, Duration::ZERO);
    fair.ask(2, 1, None, MIB, Duration::ZERO);
    fair.ask(3, 2, None, MIB, Duration::ZERO);
    assert_eq!(fair.grant(Duration::ZERO), [1]);
    fair.forget(&1, 2);
    fair.forget(&1, 2);
    assert_eq!((fair.waiting(), fair.waiting_of(&1)), (1, 0));
    fair.forget(&2, 3);
    assert_eq!((fair.due(), fair.grant(ms(1 << 40)).len()), (None, 0));
}

proptest! {
    #[test]
    fn no_more_is_sent_than_the_rates_allow(
        asks in proptest::collection::vec((0u8..5, 0u8..3, 1u64..2 * MIB), 1..60),
        server in 1u64..100 * MIB,
        domain in 1u64..100 * MIB,
        milliseconds in 0u64..2000,
    ) {
        let mut fair = Fair::new(limits(Some(server), Some(domain)), Duration::ZERO);
        let mut numbered = 0..;
        for (machine, rack, bytes) in &asks {
            // A machine is in one rack.
            fair.ask(numbered.next().unwrap(), *machine * 3 + rack, Some(&rack.to_string()), *bytes, Duration::ZERO);
        }
        let sent = run(&mut fair, ms(milliseconds));
        let largest = asks.iter().map(|(_, _, bytes)| *bytes).max().unwrap();
        let allowed = |rate: u64| u128::from(rate) * u128::from(milliseconds + 100) / 1000 + u128::from(largest) + 1;
        let of = |wanted: &dyn Fn(u8) -> bool| -> u128 {
            sent.iter().map(|(_, n)| asks[*n as usize]).filter(|(_, rack, _)| wanted(*rack)).map(|(_, _, b)| u128::from(b)).sum()
        };
        prop_assert!(of(&|_| true) <= allowed(server));
        for rack in 0..3 {
            prop_assert!(of(&|r| r == rack) <= allowed(domain));
        }
        let mut seen: Vec<u64> = sent.iter().map(|(_, n)| *n).collect();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), sent.len(), "granted twice");
    }

    #[test]
    fn all_are_sent_in_the_end_and_none_early(
        asks in proptest::collection::vec((0u8..5, 1u64..4 * MIB), 1..40),
        server in MIB..50 * MIB,
    ) {
        let mut fair = Fair::new(limits(Some(server), None), Duration::ZERO);
        for (n, (machine, bytes)) in asks.iter().enumerate() {
            fair.ask(n as u64, *machine, None, *bytes, Duration::ZERO);
        }
        let sent = run(&mut fair, Duration::from_secs(3600));
        prop_assert_eq!(sent.len(), asks.len());
        // The rate is used: no slower than it by more than the last request.
        let total: u64 = asks.iter().map(|(_, bytes)| bytes).sum();
        let last = sent.last().unwrap().0;
        prop_assert!(last.as_secs_f64() <= total as f64 / server as f64 + 0.001, "{last:?}");
        // A machine's own requests keep their order.
        for machine in 0..5 {
            let own: Vec<u64> = sent.iter().map(|(_, n)| *n).filter(|n| asks[*n as usize].0 == machine).collect();
            prop_assert!(own.is_sorted());
        }
    }

    #[test]
    fn machines_that_want_more_than_there_is_get_the_same(
        sizes in proptest::collection::vec(10_000u64..MIB, 2..6),
        crowds in proptest::collection::vec(1u64..16, 6),
        server in 5 * MIB..50 * MIB,
    ) {
        // Machine n asks for chunks of its own size, some with many requests at once, for as long as it runs.
        let mut fair = Fair::new(limits(Some(server), None), Duration::ZERO);
        let mut next = 0u64;
        let mut owner = HashMap::new();
        let mut got = vec![0u64; sizes.len()];
        let mut ask = |fair: &mut Fair<u8>, machine: usize, now| {
            owner.insert(next, machine);
            fair.ask(next, machine as u8, None, sizes[machine], now);
            next += 1;
            owner.clone()
        };
        let mut owners = HashMap::new();
        for machine in 0..sizes.len() {
            // Enough that it never runs dry between two looks.
            for _ in 0..crowds[machine] + 2 * TURN / sizes[machine] + 2 {
                owners = ask(&mut fair, machine, Duration::ZERO);
            }
        }
        let mut now = Duration::ZERO;
        for _ in 0..400 {
            for number in fair.grant(now) {
                let machine = owners[&number];
                got[machine] += sizes[machine];
                owners = ask(&mut fair, machine, now);
            }
            now = fair.due().unwrap();
        }
        let (most, least) = (got.iter().max().unwrap(), got.iter().min().unwrap());
        prop_assert!(most - least <= 2 * TURN, "{got:?}");
    }
}
