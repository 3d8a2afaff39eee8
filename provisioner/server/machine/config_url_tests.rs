//! One-shot URLs and the hand-over as tables and properties.

use super::{
    boot::{Boot, SCRIPTS_MAX, boots, orders},
    event::RefusalKind,
    state::{ByUrl, Licence, Netboot, Target, Workflow},
    wants::{NETBOOT_WITHIN, Want, wants},
    *,
};
use proptest::prelude::*;
use provisioner_wire::{
    Generation,
    machine::{Phase, WorkflowKind},
    order::{Image, ImageFormat, LicenceId, Order, Outcome, Step, WipeMethod},
    report::DiskIdentity,
};
use std::time::Duration;
use uuid::Uuid;

const NOW: Time = Time(1_000_000);
const BOOT: &str = "boot-hash";
const LICENCE: LicenceId = LicenceId(Uuid::from_u128(77));

fn disk() -> DiskIdentity {
    DiskIdentity { wwn: None, serial: Some("A".into()), size_bytes: 1 << 33 }
}

/// Its agent has claimed, and may be told to hand the disk over.
fn installing() -> Machine {
    let id = MachineId(Uuid::from_u128(1));
    let mut machine = Machine::declared(id, "node-1".parse().unwrap(), true, NOW);
    let image = |name: &str| Image {
        name: name.into(),
        url: format!("/images/{name}"),
        format: ImageFormat::Raw,
        sha256: "0".repeat(64),
        size_bytes: 5,
        raw_sha256: None,
        raw_size_bytes: None,
        chunks: None,
    };
    let netboot = Netboot {
        kernel: image("kernel"),
        initramfs: vec![image("initramfs")],
        rootfs: None,
        arguments: vec![],
    };
    machine.workflow = Some(Workflow {
        leaving: Default::default(),
        id: Uuid::from_u128(5),
        kind: WorkflowKind::Provision,
        profile: Some("p".into()),
        target: Some(Target {
            image: None,
            place: None,
            netboot: Some(netboot),
            by_url: Some(ByUrl { tls: true, own_address: true, files: vec!["config".into()] }),
            wipe: WipeMethod::Metadata,
            read_back: None,
            join: None,
            token_ttl_ms: 3_600_000,
            ready_deadline_ms: 60_000,
            kernel_arguments: vec![],
            profile: serde_json::Value::Null,
        }),
        tried: Default::default(),
        scripts: 0,
        boots: 1,
        done: vec![],
        held: None,
        despite_rogue: false,
    });
    machine.generation = Generation(1);
    machine.phase = Phase::Installing;
    machine.boot = Some(state::BootGrant { hash: BOOT.into(), expires: NOW + Duration::from_secs(900) });
    machine.claim = Some(state::Claim { boot_hash: BOOT.into(), public_key: "k".into(), at: NOW });
    machine.licence = Some(Licence {
        id: LICENCE,
        generation: Generation(1),
        purpose: WorkflowKind::Provision,
        disks: vec![disk()],
        issued: NOW,
        spent: None,
    });
    machine
}

fn spend() -> Event {
    let (boot_hash, generation) = (BOOT.to_owned(), Generation(1));
    Event::SpendLicence { boot_hash, generation, licence: LICENCE, disks: vec![disk()] }
}

fn done(step: Step) -> Event {
    let outcome = Outcome::Done { read_back_sha256: None };
    Event::StepEnded { boot_hash: BOOT.into(), generation: Generation(1), step, outcome }
}

fn served(hash: &str) -> Event {
    Event::NetbootServed { url_hash: hash.into(), expires: NOW + NETBOOT_WITHIN }
}

fn asked(hash: &str, fetch: &str) -> Event {
    let (file, fetch) = ("config".to_owned(), fetch.to_owned());
    Event::ConfigAsked { url_hash: hash.into(), generation: Generation(1), file, fetch }
}

fn rendered(hash: &str) -> Event {
    Event::ConfigRendered {
        boot_hash: hash.into(),
        generation: Generation(1),
        token_hash: format!("token of {hash}"),
        token_expires: NOW + Duration::from_secs(3600),
        config_hash: "c".into(),
    }
}

fn home(hash: &str) -> Event {
    Event::PhonedHome { token_hash: format!("token of {hash}") }
}

fn after(events: &[Event]) -> Machine {
    events.iter().fold(installing(), |machine, event| {
        let next = on(&machine, event, NOW).unwrap_or_else(|e| panic!("{event:?}: {e}"));
        assert_eq!(next.breach(), None, "{event:?}");
        next
    })
}

fn story() -> Vec<Event> {
    vec![
        spend(),
        done(Step::HandOver),
        done(Step::Reboot),
        served("u"),
        asked("u", "1"),
        rendered("u"),
        home("u"),
    ]
}

#[test]
fn the_way_of_an_installer_to_ready() {
    use Phase::{Installing, Netbooting, Ready, Rebooting};
    let phases = [Installing, Netbooting, Netbooting, Netbooting, Rebooting, Rebooting, Ready];
    for (n, phase) in (1..).zip(phases) {
        assert_eq!(after(&story()[..n]).phase, phase, "after event {n}");
    }
    assert!(matches!(orders(&installing()), Order::HandOver(over) if over.licence == LICENCE));
    assert!(matches!(orders(&after(&story()[..2])), Order::Reboot { .. }));
    let answers = (1..=story().len()).map(|n| boots(&after(&story()[..n])));
    let expected =
        [Boot::Agent, Boot::Netboot, Boot::Netboot, Boot::Netboot, Boot::Disk, Boot::Disk, Boot::Disk];
    assert_eq!(answers.collect::<Vec<_>>(), expected);
    assert!(after(&story()[..4]).disk_step_is_live(), "no power-off under another's installer (I10)");
}

#[test]
fn nothing_is_handed_over_without_a_spent_licence() {
    let refused = on(&installing(), &done(Step::HandOver), NOW).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::NotNow);
    let mut forged = after(&story()[..2]);
    forged.licence = None;
    assert!(forged.breach().unwrap().starts_with("I3"));
    assert!(on(&installing(), &served("u"), NOW).is_err(), "the agent has the machine");
}

#[test]
fn nobody_asking_ends_it_and_so_do_too_many_scripts() {
    let waiting = after(&story()[..4]);
    let late = NOW + NETBOOT_WITHIN;
    assert!(matches!(wants(&waiting, NOW), Want::Wait { until: Some(until), .. } if until == late));
    assert!(matches!(wants(&waiting, late), Want::Expire { reason } if reason.contains("has not fetched")));
    assert_eq!(on(&waiting, &asked("u", "1"), late).unwrap_err().kind, RefusalKind::Stale);
    let mut machine = after(&story()[..3]);
    for n in 0..SCRIPTS_MAX {
        machine = on(&machine, &served(&format!("u{n}")), NOW).unwrap();
    }
    assert_eq!(machine.phase, Phase::Netbooting);
    assert_eq!(on(&machine, &served("one more"), NOW).unwrap().phase, Phase::Failed);
}

#[test]
fn no_token_before_somebody_has_asked() {
    let refused = on(&after(&story()[..4]), &rendered("u"), NOW).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::NotNow);
    assert!(on(&after(&story()[..4]), &home("u"), NOW).is_err());
}

fn event() -> impl Strategy<Value = Event> {
    let hash = prop::sample::select(vec!["u", "v", "w"]);
    prop_oneof![
        Just(spend()),
        Just(done(Step::HandOver)),
        Just(done(Step::Reboot)),
        hash.clone().prop_map(served),
        (hash.clone(), prop::sample::select(vec!["1", "2"])).prop_map(|(h, f)| asked(h, f)),
        hash.clone().prop_map(rendered),
        hash.prop_map(home),
        Just(Event::Cancel),
    ]
}

proptest! {
    /// Whatever is said in whatever order: no breach, nothing said twice changes more, and who has a live token is the only
    /// one who was ever given the file.
    #[test]
    fn any_order_keeps_the_rules(events in prop::collection::vec(event(), 1..60)) {
        let mut machine = after(&story()[..3]);
        let mut winner: Option<(String, String)> = None;
        for event in &events {
            let Ok(next) = on(&machine, event, NOW) else { continue };
            prop_assert_eq!(next.breach(), None);
            if !matches!(event, Event::SpendLicence { .. })
                && let Ok(again) = on(&next, event, NOW)
            {
                prop_assert_eq!(&again, &next);
            }
            if let (Event::ConfigAsked { url_hash, fetch, .. }, Phase::Rebooting) = (event, next.phase) {
                let this = (url_hash.clone(), fetch.clone());
                prop_assert!(winner.is_none() || winner.as_ref() == Some(&this), "two have won");
                winner = Some(this);
            }
            if let Some(token) = &next.token {
                let (url, _) = winner.as_ref().expect("a token without a winner");
                prop_assert_eq!(&token.boot_hash, url);
            }
            machine = next;
        }
    }
}
