//! The lifecycle as tables and properties.

use super::{
    boot::{BOOTS_MAX, Boot, SCRIPTS_MAX, boots, orders},
    event::RefusalKind,
    state::Target,
    wants::{self, Want, wants},
    *,
};
use proptest::prelude::*;
use provisioner_wire::{
    Generation,
    machine::{Phase, WorkflowKind},
    order::{Image, ImageFormat, LicenceId, Order, Outcome, PartitionSelector, Place, Step, WipeMethod},
    report::{DiskIdentity, HardwareReport},
};
use std::time::Duration;
use uuid::Uuid;

const NOW: Time = Time(1_000_000);
const BOOT: &str = "boot-hash";
const LICENCE: LicenceId = LicenceId(Uuid::from_u128(77));

fn fresh() -> Machine {
    Machine::declared(MachineId(Uuid::from_u128(1)), "node-1".parse().unwrap(), true, NOW)
}

fn disk(serial: &str) -> DiskIdentity {
    DiskIdentity { wwn: None, serial: Some(serial.into()), size_bytes: 1 << 33 }
}

fn target(kind: WorkflowKind) -> Box<Target> {
    let provision = kind == WorkflowKind::Provision;
    Box::new(Target {
        image: provision.then(|| Image {
            name: "debian".into(),
            url: "/images/x".into(),
            format: ImageFormat::Zst,
            sha256: "0".repeat(64),
            size_bytes: 5,
            raw_sha256: None,
            raw_size_bytes: None,
            chunks: None,
        }),
        place: provision
            .then(|| Place { partition: PartitionSelector::Number(2), directory: "/seed".into() }),
        netboot: None,
        by_url: None,
        wipe: WipeMethod::Metadata,
        read_back: None,
        token_ttl_ms: 3_600_000,
        join: None,
        ready_deadline_ms: 60_000,
        kernel_arguments: vec![],
        profile: serde_json::Value::Null,
    })
}

fn provision() -> Event {
    Event::Provision { workflow: Uuid::from_u128(5), profile: "debian-node".into() }
}

fn acted(act: Act, result: ActResult) -> Event {
    Event::Acted { act, generation: Generation(1), result }
}

fn preflighted(kind: WorkflowKind) -> Event {
    acted(Act::Preflight, ActResult::Preflighted { target: target(kind) })
}

fn served(hash: &str) -> Event {
    Event::ScriptServed { boot_hash: hash.into(), expires: NOW + Duration::from_secs(900) }
}

fn claim(hash: &str, key: &str) -> Event {
    Event::Claimed {
        boot_hash: hash.into(),
        public_key: key.into(),
        report: Box::new(HardwareReport::default()),
    }
}

fn chosen(serial: &str) -> Event {
    acted(Act::ChooseDisks, ActResult::DisksChosen { licence: LICENCE, disks: vec![disk(serial)] })
}

fn spend(serial: &str) -> Event {
    Event::SpendLicence {
        boot_hash: BOOT.into(),
        generation: Generation(1),
        licence: LICENCE,
        disks: vec![disk(serial)],
    }
}

fn done(step: Step) -> Event {
    ended(step, Outcome::Done { read_back_sha256: None })
}

fn ended(step: Step, outcome: Outcome) -> Event {
    Event::StepEnded { boot_hash: BOOT.into(), generation: Generation(1), step, outcome }
}

fn rendered(token: &str) -> Event {
    Event::ConfigRendered {
        boot_hash: BOOT.into(),
        generation: Generation(1),
        token_hash: token.into(),
        token_expires: NOW + Duration::from_secs(3600),
        config_hash: "c".into(),
    }
}

fn home(token: &str) -> Event {
    Event::PhonedHome { token_hash: token.into() }
}

/// The whole way of a machine to Ready, one event a line.
fn story() -> Vec<(Event, Phase)> {
    use WorkflowKind::Provision;
    vec![
        (provision(), Phase::Assigned),
        (preflighted(Provision), Phase::Powering),
        (Event::Tried { act: Act::NetworkBoot, generation: Generation(1) }, Phase::Powering),
        (acted(Act::NetworkBoot, ActResult::Done), Phase::Powering),
        (served(BOOT), Phase::Booting),
        (claim(BOOT, "key"), Phase::Inspected),
        (chosen("A"), Phase::Installing),
        (spend("A"), Phase::Installing),
        (done(Step::WriteImage), Phase::Installing),
        (rendered("t"), Phase::Installing),
        (done(Step::PlaceConfig), Phase::Placed),
        (done(Step::Reboot), Phase::Rebooting),
        (home("t"), Phase::Ready),
    ]
}

/// The machine after the first `steps` events of the story.
fn after(steps: usize) -> Machine {
    story().into_iter().take(steps).fold(fresh(), |machine, (event, phase)| {
        let next = on(&machine, &event, NOW).unwrap_or_else(|e| panic!("{event:?}: {e}"));
        assert_eq!((next.phase, next.breach()), (phase, None), "{event:?}");
        next
    })
}

/// How many events lead into this phase.
fn until(phase: Phase) -> usize {
    story().iter().position(|(_, p)| *p == phase).unwrap() + 1
}

#[test]
fn the_way_to_ready() {
    let ready = after(story().len());
    assert!(ready.token.is_none() && ready.licence.is_none() && ready.boot.is_none());
    assert_eq!(boots(&ready), Boot::Disk);
}

#[test]
fn each_event_of_the_way_heard_twice_changes_nothing_more() {
    for steps in 1..=story().len() {
        let machine = after(steps);
        for (event, _) in story().into_iter().take(steps) {
            if matches!(event, Event::Tried { .. } | Event::SpendLicence { .. }) {
                continue;
            }
            if let Ok(again) = on(&machine, &event, NOW) {
                assert_eq!(again, machine, "after {steps}: {event:?}");
            }
        }
    }
}

#[test]
fn a_network_boot_of_a_ready_machine_changes_nothing() {
    let ready = after(story().len());
    assert_eq!(on(&ready, &served("another"), NOW).unwrap_err().kind, RefusalKind::NotNow);
    assert_eq!(on(&ready, &provision(), NOW), Ok(ready.clone()), "the intent was heard before");
    let anew = Event::Provision { workflow: Uuid::from_u128(6), profile: "p".into() };
    assert!(on(&ready, &anew, NOW).unwrap_err().reason.contains("release it first"));
}

#[test]
fn the_second_claim_with_another_key_is_an_alarm() {
    let machine = after(until(Phase::Inspected));
    assert_eq!(on(&machine, &claim(BOOT, "key"), NOW), Ok(machine.clone()));
    assert_eq!(on(&machine, &claim(BOOT, "other"), NOW).unwrap_err().kind, RefusalKind::Alarm);
    assert_eq!(on(&machine, &claim("older", "key"), NOW).unwrap_err().kind, RefusalKind::Stale);
}

#[test]
fn a_boot_id_expires() {
    let machine = after(until(Phase::Booting));
    let late = NOW + Duration::from_secs(900);
    assert_eq!(on(&machine, &claim(BOOT, "key"), late).unwrap_err().kind, RefusalKind::Stale);
}

#[test]
fn a_new_boot_kills_the_old_claim_and_resumes_on_the_same_disk_only() {
    let writing = after(8);
    let booted = on(&writing, &served("second"), NOW).unwrap();
    assert_eq!((booted.phase, &booted.claim), (Phase::Booting, &None));
    assert_eq!(on(&booted, &done(Step::WriteImage), NOW).unwrap_err().kind, RefusalKind::Stale);
    let claimed = on(&booted, &claim("second", "key2"), NOW).unwrap();
    let resumed = on(&claimed, &chosen("A"), NOW).unwrap();
    assert_eq!(resumed.phase, Phase::Installing);
    assert!(resumed.licence.as_ref().unwrap().spent.is_some(), "the same licence, spent");
    let other = on(&claimed, &chosen("B"), NOW).unwrap();
    assert_eq!((other.phase, other.licence), (Phase::Failed, None));
}

#[test]
fn a_licence_is_for_its_disk_and_its_phase() {
    let machine = after(until(Phase::Installing));
    assert_eq!(on(&machine, &spend("B"), NOW).unwrap_err().kind, RefusalKind::Alarm);
    let mut twice = on(&machine, &spend("A"), NOW).unwrap();
    twice = on(&twice, &spend("A"), NOW).unwrap();
    assert_eq!(twice.licence.unwrap().spent.unwrap().times, 2);
    let early = after(until(Phase::Inspected));
    assert_eq!(on(&early, &spend("A"), NOW).unwrap_err().kind, RefusalKind::Alarm);
}

#[test]
fn a_write_is_not_done_before_its_licence_is_spent() {
    let machine = after(until(Phase::Installing));
    assert_eq!(on(&machine, &done(Step::WriteImage), NOW).unwrap_err().kind, RefusalKind::NotNow);
}

#[test]
fn a_token_is_minted_once_a_claim_and_dies() {
    let machine = after(10);
    assert_eq!(on(&machine, &rendered("t"), NOW), Ok(machine.clone()));
    assert_eq!(on(&machine, &rendered("u"), NOW).unwrap_err().kind, RefusalKind::Alarm);
    assert_eq!(on(&machine, &home("t"), NOW).unwrap_err().kind, RefusalKind::Alarm, "the agent still runs");
    let rebooting = after(until(Phase::Rebooting));
    assert_eq!(on(&rebooting, &home("x"), NOW).unwrap_err().kind, RefusalKind::Alarm);
    let late = NOW + Duration::from_secs(3600);
    assert_eq!(on(&rebooting, &home("t"), late).unwrap_err().kind, RefusalKind::Stale);
    for end in [Event::Cancel, ended(Step::PlaceConfig, Outcome::Failed { reason: "full".into() })] {
        assert_eq!(on(&machine, &end, NOW).unwrap().token, None, "{end:?}");
    }
}

#[test]
fn only_an_agent_that_is_not_heard_is_given_up_before_the_limit_of_its_step() {
    let writing = after(until(Phase::Installing));
    let minutes = |n: u64| NOW + Duration::from_secs(60 * n);
    let heard = Event::AgentHeard { boot_hash: BOOT.into(), generation: Generation(1) };
    assert!(matches!(wants(&writing, minutes(29)), Want::Wait { until: Some(t), .. } if t == minutes(30)));
    let Want::Expire { reason } = wants(&writing, minutes(30)) else { panic!("silence was not seen") };
    assert!(reason.starts_with("the agent was not heard for 30 min"), "{reason}");

    let spoke = on(&writing, &heard, minutes(25)).unwrap();
    assert_eq!((spoke.phase, spoke.since), (writing.phase, writing.since));
    assert!(matches!(wants(&spoke, minutes(54)), Want::Wait { .. }));
    assert!(matches!(wants(&spoke, minutes(55)), Want::Expire { .. }));
    let stranger = Event::AgentHeard { boot_hash: "older".into(), generation: Generation(1) };
    assert_eq!(on(&writing, &stranger, minutes(25)).unwrap_err().kind, RefusalKind::Stale);

    // What was said while the server was down could not be heard.
    let restarted = on(&writing, &Event::Listening, minutes(90)).unwrap();
    assert!(matches!(wants(&restarted, minutes(119)), Want::Wait { .. }));
    let late = on(&restarted, &heard, minutes(239)).unwrap();
    let Want::Expire { reason } = wants(&late, minutes(240)) else { panic!("the step has no limit") };
    assert!(reason.starts_with("the image is not on the disk"), "{reason}");
    assert_eq!(after(until(Phase::Placed)).heard, None);
}

/// A machine whose image must be proven, with its licence spent.
fn to_be_proven() -> Machine {
    let mut machine = after(until(Phase::Installing));
    machine = on(&machine, &spend("A"), NOW).unwrap();
    let workflow = machine.workflow.as_mut().unwrap();
    workflow.target.as_mut().unwrap().read_back = Some(provisioner_wire::order::ReadBack::Sampled);
    machine
}

fn challenged(nonce: &str) -> Event {
    Event::Challenged {
        boot_hash: BOOT.into(),
        generation: Generation(1),
        licence: LICENCE,
        nonce: nonce.into(),
        expected: "right".into(),
    }
}

fn shown(proof: &str) -> Event {
    Event::ReadBack { boot_hash: BOOT.into(), generation: Generation(1), proof: proof.into() }
}

#[test]
fn an_image_counts_as_written_only_when_the_challenge_was_answered() {
    let machine = to_be_proven();
    let kind = |machine: &Machine, event| on(machine, &event, NOW).unwrap_err().kind;
    assert_eq!(kind(&machine, done(Step::WriteImage)), RefusalKind::NotNow, "an agent that only says so");
    assert_eq!(kind(&machine, shown("right")), RefusalKind::NotNow, "nothing was asked");
    let asked = on(&machine, &challenged("n1"), NOW).unwrap();
    assert_eq!(on(&asked, &challenged("n2"), NOW).unwrap(), asked, "the first question stands");
    assert_eq!(kind(&asked, shown("wrong")), RefusalKind::Alarm, "a disk that lies");
    assert_eq!(kind(&asked, done(Step::WriteImage)), RefusalKind::NotNow);
    let proven = on(&asked, &shown("right"), NOW).unwrap();
    assert_eq!(on(&proven, &shown("right"), NOW).unwrap(), proven, "told twice");
    let written = on(&proven, &done(Step::WriteImage), NOW).unwrap();
    assert!(written.has_done(Step::WriteImage));
    assert_eq!(kind(&written, challenged("n3")), RefusalKind::NotNow);
    // Another boot has to prove it anew.
    let again = on(&proven, &served("b2"), NOW).unwrap();
    assert_eq!((again.challenge, again.claim), (None, None));
    let unspent = after(until(Phase::Installing));
    assert_eq!(kind(&unspent, challenged("n")), RefusalKind::NotNow, "no licence was spent");
    let failed = ended(Step::WriteImage, Outcome::Failed { reason: "the disk lies".into() });
    assert_eq!(on(&asked, &failed, NOW).unwrap().challenge, None);
}

#[test]
fn cancel_and_retry_work_in_every_step() {
    for steps in 1..story().len() {
        let machine = after(steps);
        let cancelled = on(&machine, &Event::Cancel, NOW).unwrap();
        let touched =
            machine.phase == Phase::Rebooting || machine.licence.as_ref().is_some_and(|l| l.spent.is_some());
        assert_eq!(
            cancelled.phase,
            if touched { Phase::Failed } else { Phase::Available },
            "{}",
            machine.phase
        );
        assert_eq!((cancelled.breach(), boots(&cancelled)), (None, Boot::Disk));
        if cancelled.phase == Phase::Failed {
            let again = on(&cancelled, &Event::Retry { workflow: Uuid::from_u128(9) }, NOW).unwrap();
            assert_eq!((again.phase, again.generation), (Phase::Assigned, Generation(2)));
            assert_eq!(on(&again, &done(Step::WriteImage), NOW).unwrap_err().kind, RefusalKind::Stale);
        }
    }
}

#[test]
fn a_failed_step_names_itself_and_takes_the_licence_away() {
    let failed =
        on(&after(8), &ended(Step::WriteImage, Outcome::Failed { reason: "wrong hash".into() }), NOW)
            .unwrap();
    assert_eq!((failed.phase, &*failed.reason), (Phase::Failed, "write-image failed: wrong hash"));
    assert_eq!(failed.licence, None);
}

#[test]
fn a_release_wipes_and_powers_off() {
    let ready = after(story().len());
    let mut machine = on(&ready, &Event::Release { workflow: Uuid::from_u128(8) }, NOW).unwrap();
    let gen2 = |act, result| Event::Acted { act, generation: Generation(2), result };
    let step = |step| Event::StepEnded {
        boot_hash: "b2".into(),
        generation: Generation(2),
        step,
        outcome: Outcome::Done { read_back_sha256: None },
    };
    for event in [
        gen2(Act::Preflight, ActResult::Preflighted { target: target(WorkflowKind::Wipe) }),
        served("b2"),
        claim("b2", "k"),
        gen2(Act::ChooseDisks, ActResult::DisksChosen { licence: LICENCE, disks: vec![disk("A")] }),
        Event::SpendLicence {
            boot_hash: "b2".into(),
            generation: Generation(2),
            licence: LICENCE,
            disks: vec![disk("A")],
        },
    ] {
        machine = on(&machine, &event, NOW).unwrap();
    }
    assert!(matches!(orders(&machine), Order::Wipe(_)));
    let wiped = on(&machine, &step(Step::Wipe), NOW).unwrap();
    assert!(matches!((wiped.phase, orders(&wiped)), (Phase::PoweringOff, Order::PowerOff { .. })));
    assert_eq!(on(&wiped, &step(Step::PowerOff), NOW).unwrap().phase, Phase::Available);
}

#[test]
fn orders_follow_the_steps() {
    assert!(matches!(orders(&after(until(Phase::Inspected))), Order::Wait { .. }));
    assert!(matches!(orders(&after(8)), Order::WriteImage(_)));
    assert!(matches!(orders(&after(9)), Order::PlaceConfig(_)));
    assert!(matches!(orders(&after(until(Phase::Placed))), Order::Reboot { .. }));
}

#[test]
fn a_discovered_machine_only_waits() {
    let mut machine = Machine::discovered(MachineId(Uuid::nil()), "discovered-1".parse().unwrap(), NOW);
    assert_eq!(boots(&machine), Boot::Agent);
    for event in [served(BOOT), claim(BOOT, "key")] {
        machine = on(&machine, &event, NOW).unwrap();
        assert_eq!((machine.phase, machine.licence.is_none()), (Phase::Discovered, true));
        assert!(matches!(orders(&machine), Order::Wait { .. }));
    }
    assert!(on(&machine, &provision(), NOW).is_err());
    assert_eq!(on(&machine, &Event::Approve, NOW).unwrap().phase, Phase::Available);
    let rejected = on(&machine, &Event::Reject, NOW).unwrap();
    assert_eq!((rejected.phase, boots(&rejected)), (Phase::Rejected, Boot::Disk));
}

#[test]
fn a_power_cycle_is_paced_and_counted() {
    let mut machine = after(until(Phase::Powering));
    let mut now = NOW;
    for times in 1..=wants::TRIES_MAX {
        assert_eq!(wants(&machine, now), Want::Do(Act::NetworkBoot));
        let tried = Event::Tried { act: Act::NetworkBoot, generation: Generation(1) };
        machine = on(&machine, &tried, now).unwrap();
        assert!(matches!(wants(&machine, now), Want::Wait { .. }), "one in flight");
        machine = on(&machine, &acted(Act::NetworkBoot, ActResult::Done), now).unwrap();
        assert!(matches!(wants(&machine, Time((now + wants::SCRIPT_WITHIN).0 - 1)), Want::Wait { .. }));
        now = now + wants::SCRIPT_WITHIN;
        assert_eq!(machine.tried(Act::NetworkBoot).unwrap().times, times);
    }
    let Want::Expire { reason } = wants(&machine, now) else { panic!("{:?}", wants(&machine, now)) };
    assert!(reason.contains("boot order"), "{reason}");
}

#[test]
fn an_agent_that_boots_for_ever_is_stopped() {
    let mut machine = after(until(Phase::Powering));
    for n in 0..=BOOTS_MAX {
        machine = on(&machine, &served(&format!("b{n}")), NOW).unwrap();
        machine = on(&machine, &claim(&format!("b{n}"), "key"), NOW).unwrap();
        assert_eq!(machine.phase, if n < BOOTS_MAX { Phase::Inspected } else { Phase::Failed });
    }
}

#[test]
fn scripts_without_an_agent_end_too() {
    let mut machine = after(until(Phase::Powering));
    for n in 0..=SCRIPTS_MAX {
        machine = on(&machine, &served(&format!("b{n}")), NOW).unwrap();
        assert_eq!(machine.phase, if n < SCRIPTS_MAX { Phase::Booting } else { Phase::Failed });
    }
}

#[test]
fn every_busy_phase_ends_by_itself() {
    for steps in 1..story().len() {
        let (mut machine, mut now) = (after(steps), NOW);
        for _ in 0..200 {
            match wants(&machine, now) {
                Want::Expire { reason } => {
                    let event = Event::DeadlinePassed { phase: machine.phase, since: machine.since, reason };
                    machine = on(&machine, &event, now).unwrap();
                }
                Want::Do(act) => {
                    let tried = Event::Tried { act, generation: machine.generation };
                    machine = on(&machine, &tried, now).unwrap();
                }
                Want::Wait { until: Some(until), .. } => now = until,
                Want::Wait { until: None, .. } => break,
            }
        }
        assert_eq!(machine.phase, Phase::Failed, "after {steps} steps (I12)");
    }
}

proptest! {
    /// Whatever order events come in: no breach, no going back, a licence only while a workflow runs.
    #[test]
    fn no_order_of_events_breaks_an_invariant(order in proptest::collection::vec(0usize..22, 1..60)) {
        let mut events: Vec<Event> = story().into_iter().map(|(e, _)| e).collect();
        events.extend([
            Event::Cancel, Event::Approve, Event::Reject, Event::Release { workflow: Uuid::from_u128(50) },
            Event::Retry { workflow: Uuid::from_u128(51) }, served("x"), claim("x", "k"), chosen("B"),
            Event::Declared { bmc: true },
        ]);
        let mut machine = fresh();
        for index in order {
            let before = machine.clone();
            if let Ok(next) = on(&machine, &events[index], NOW) {
                prop_assert_eq!(next.breach(), None);
                prop_assert!(next.generation >= before.generation);
                let written = next.has_done(Step::WriteImage) && !before.has_done(Step::WriteImage);
                prop_assert!(!written || before.licence.as_ref().is_some_and(|l| l.spent.is_some()));
                machine = next;
            }
        }
    }
}

#[test]
fn what_leads_to_a_wipe_waits_while_another_dhcp_server_is_heard() {
    use hold::{Foreign, HELD_MAX, HELD_PACE, Hold, can_hold, hold};
    let foreign = |until| Foreign { server: "10.88.0.66".into(), until };
    let begun = |event: Event| {
        let machine = Machine::declared(MachineId(Uuid::nil()), "m".parse().unwrap(), true, Time(0));
        let mut machine = on(&machine, &event, Time(1)).unwrap();
        machine.phase = Phase::Powering;
        machine
    };
    let workflow = Uuid::from_u128(9);
    let provision = begun(Event::Provision { workflow, profile: "p".into() });
    let want = wants(&provision, Time(2));
    assert_eq!(want, Want::Do(Act::NetworkBoot));
    assert_eq!(hold(&provision, &want, None, Time(2)), Hold::Free);
    assert_eq!(hold(&provision, &want, Some(&foreign(Time(2))), Time(2)), Hold::Free, "it is silent again");
    let far = foreign(Time(i64::MAX));
    let Hold::Begin { reason } = hold(&provision, &want, Some(&far), Time(2)) else { panic!() };
    assert!(reason.contains("10.88.0.66") && reason.contains("--despite-rogue"), "{reason}");

    let record = |machine: &Machine, now| {
        let event = Event::Held { generation: machine.generation, reason: reason.clone() };
        on(machine, &event, now).unwrap()
    };
    let held = record(&provision, Time(2));
    assert!(matches!(hold(&held, &want, Some(&far), Time(3)), Hold::Wait { .. }));
    let again = Time(2) + HELD_PACE;
    assert!(matches!(hold(&held, &want, Some(&far), again), Hold::Begin { .. }));
    let late = Time(2) + HELD_MAX;
    assert!(matches!(hold(&record(&held, again), &want, Some(&far), late), Hold::Expire { .. }));
    // A deadline that passed while nobody looked is no end.
    assert!(can_hold(&held, &Want::Expire { reason: "late".into() }));
    assert!(!can_hold(&provision, &Want::Expire { reason: "late".into() }));

    let goes_on = on(&held, &Event::DespiteRogue, Time(9)).unwrap();
    assert_eq!(hold(&goes_on, &want, Some(&far), Time(10)), Hold::Free);
    assert_eq!((goes_on.since, goes_on.workflow.as_ref().unwrap().held), (Time(9), None));
    let ready = Machine { phase: Phase::Ready, ..provision };
    assert!(on(&ready, &Event::DespiteRogue, Time(9)).is_err());
    // Looking destroys nothing; the next workflow is not the one that somebody wanted.
    let inspect = begun(Event::Inspect { workflow });
    assert_eq!(hold(&inspect, &wants(&inspect, Time(2)), Some(&far), Time(2)), Hold::Free);
    let failed = Machine { phase: Phase::Failed, ..goes_on };
    let retried = on(&failed, &Event::Retry { workflow: Uuid::from_u128(10) }, Time(11)).unwrap();
    assert!(!retried.workflow.unwrap().despite_rogue);
}
