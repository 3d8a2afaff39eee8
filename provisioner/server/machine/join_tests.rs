//! Tokens that are owed, as tables: what is asked of an issuer, and when nothing is owed any more.

use super::{
    Act, ActResult, Event, Machine, MachineId, Time,
    join::{MINT_WITHIN, dead},
    on,
    state::{BootGrant, Claim, Joined, Leaving, Minter, Owed},
    wants::{Want, wants},
};
use proptest::prelude::*;
use provisioner_wire::{Generation, machine::Phase, order::Step};
use std::time::Duration;
use uuid::Uuid;

const NOW: Time = Time(1_700_000_000_000);

/// Claimed as `a`, with its image on the disk or nearly.
fn installing() -> Machine {
    let machine = Machine::declared(MachineId(Uuid::nil()), "m".parse().unwrap(), true, NOW);
    let event = Event::Provision { workflow: Uuid::from_u128(1), profile: "p".into() };
    let mut machine = on(&machine, &event, NOW).unwrap();
    machine.phase = Phase::Installing;
    machine.workflow.as_mut().unwrap().done.push(Step::WriteImage);
    machine.boot = Some(BootGrant { hash: "a".into(), expires: NOW });
    machine.claim = Some(Claim { boot_hash: "a".into(), public_key: "k".into(), at: NOW });
    machine
}

fn owed(claim: &str, expires: Time) -> Owed {
    let minter = Minter { cluster: "c".into(), issuer: "kubernetes".into() };
    let minted_for = claim.to_owned();
    Owed { minter, minted_for, generation: Generation(1), first: NOW, asked: NOW, expires, revoked: None }
}

fn minting(machine: &Machine, claim: &str, at: Time) -> Result<Machine, super::Refusal> {
    let event =
        Event::Minting { generation: Generation(1), owed: owed(claim, at + Duration::from_secs(600)) };
    on(machine, &event, at)
}

fn acted(machine: &Machine, result: ActResult, at: Time) -> Machine {
    let tried = Event::Tried { act: Act::Revoke, generation: machine.generation };
    let machine = on(machine, &tried, at).unwrap();
    on(&machine, &Event::Acted { act: Act::Revoke, generation: machine.generation, result }, at).unwrap()
}

fn gone() -> ActResult {
    ActResult::Revoked { minted_for: vec!["a".into()] }
}

#[test]
fn only_the_live_claim_is_minted_for_and_its_end_is_owed() {
    let machine = installing();
    assert!(minting(&machine, "b", NOW).is_err(), "another claim");
    let asked = minting(&machine, "a", NOW).unwrap();
    assert_eq!(dead(&asked).count(), 0);
    assert!(!matches!(wants(&asked, NOW), Want::Do(Act::Revoke)));
    let cancelled = on(&asked, &Event::Cancel, NOW).unwrap();
    assert!(minting(&cancelled, "a", NOW).is_err(), "nobody may have one any more");
    assert_eq!(wants(&cancelled, NOW), Want::Do(Act::Revoke));
}

#[test]
fn a_request_that_may_still_arrive_is_revoked_once_more() {
    let asked = minting(&installing(), "a", NOW).unwrap();
    let cancelled = on(&asked, &Event::Cancel, NOW).unwrap();
    let soon = acted(&cancelled, gone(), NOW + Duration::from_secs(2));
    assert_eq!(soon.owed.len(), 1);
    let Want::Wait { until: Some(until), .. } = wants(&soon, NOW + Duration::from_secs(3)) else { panic!() };
    assert_eq!(until, NOW + MINT_WITHIN);
    assert_eq!(wants(&soon, until), Want::Do(Act::Revoke));
    let over = acted(&soon, gone(), until);
    assert!(over.owed.is_empty() && matches!(wants(&over, until), Want::Wait { until: None, .. }));
}

#[test]
fn an_issuer_that_never_comes_back_is_given_up_at_the_tokens_end() {
    let asked = minting(&installing(), "a", NOW).unwrap();
    let mut machine = on(&asked, &Event::Cancel, NOW).unwrap();
    let (mut now, mut tries) = (NOW, 0);
    while !machine.owed.is_empty() {
        match wants(&machine, now) {
            Want::Do(Act::Revoke) => {
                tries += 1;
                machine = acted(&machine, ActResult::Failed { reason: "away".into() }, now);
            }
            Want::Wait { until: Some(until), .. } => now = until,
            other => panic!("{other:?}"),
        }
        assert!(tries < 50);
    }
    let took = now.since(NOW);
    assert!(took >= Duration::from_secs(600) && took < Duration::from_secs(900), "{took:?}, {tries} tries");
}

#[test]
fn a_node_leaves_before_anything_else_or_the_release_fails_with_its_reason() {
    let mut machine = installing();
    (machine.phase, machine.boot, machine.claim) = (Phase::Ready, None, None);
    machine.joined =
        Some(Joined { cluster: "c".into(), node: "n".into(), provider_id: None, drain_within_ms: 900_000 });
    let workflow = Uuid::from_u128(2);
    let released = on(&machine, &Event::Release { workflow }, NOW).unwrap();
    assert_eq!(wants(&released, NOW), Want::Do(Act::Leave));
    let leave = |machine: &Machine, result, at| {
        let generation = machine.generation;
        let tried = on(machine, &Event::Tried { act: Act::Leave, generation }, at).unwrap();
        on(&tried, &Event::Acted { act: Act::Leave, generation, result }, at).unwrap()
    };
    let held = leave(&released, ActResult::Failed { reason: "default/db: its budget".into() }, NOW);
    assert_eq!(held.reason, "default/db: its budget");
    let late = wants(&held, NOW + Duration::from_secs(900));
    assert!(
        matches!(&late, Want::Expire { reason } if reason.contains("budget") && reason.contains("--skip-drain"))
    );
    let left = leave(&held, ActResult::Done, NOW);
    assert_eq!((left.joined.as_ref(), wants(&left, NOW)), (None, Want::Do(Act::Preflight)));
    let forced = on(&machine, &Event::ReleaseBy { workflow, how: Leaving::Forced }, NOW).unwrap();
    assert_eq!(wants(&forced, NOW), Want::Do(Act::Preflight));
    assert_eq!(on(&forced, &Event::ReleaseBy { workflow, how: Leaving::Forced }, NOW), Ok(forced.clone()));
}

proptest! {
    /// Clocks that jump, results late and twice: nothing breaks, and what is live is never called dead.
    #[test]
    fn jumping_clocks_break_nothing(steps in proptest::collection::vec((0u8..7, -7_200_000i64..7_200_000), 1..40)) {
        let mut machine = installing();
        for (what, jump) in steps {
            let now = Time(NOW.0 + jump);
            let generation = machine.generation;
            let act = |result| Event::Acted { act: Act::Revoke, generation, result };
            let event = match what {
                0 => Event::Minting { generation, owed: owed("a", now) },
                1 => act(gone()),
                2 => act(ActResult::Failed { reason: "away".into() }),
                3 => Event::Tried { act: Act::Revoke, generation },
                4 => Event::IssuerDown { generation, reason: "away".into() },
                5 => Event::Cancel,
                _ => Event::Retry { workflow: Uuid::from_u128(9) },
            };
            let before = machine.clone();
            if let Ok(next) = on(&machine, &event, now) {
                prop_assert_eq!(next.breach(), None);
                machine = next;
            }
            let live = before.phase == Phase::Installing && machine.phase == Phase::Installing;
            prop_assert!(!live || machine.owed.len() >= before.owed.len(), "a live token was forgotten");
            let _ = wants(&machine, now);
            prop_assert!(machine.phase == Phase::Installing || dead(&machine).count() == machine.owed.len());
        }
    }
}
