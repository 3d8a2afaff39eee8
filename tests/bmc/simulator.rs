//! The whole client against our simulator.

use super::{FAST, LONG, close, open, open_pinned, simulated, target};
use provisioner::{
    bmc::{
        Bmc, BmcTarget, Cause, NetBoot, OverrideSet, Power, PowerChange, Visits,
        governor::{Hold, Kind, Policy},
        redfish::{Redfish, RedfishDoor},
    },
    machine::Time,
};
use provisioner_lab::bmc_simulator::{
    BootFrom, Etags, Fault, FaultKind, MemoryMachine, ResetTypes, SimulatedSystem,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

#[tokio::test]
async fn reads_who_the_machine_is_and_leaves_no_session() {
    let (sim, _) = simulated(true, |_| {}).await;
    let bmc = open(&sim).await.unwrap();
    assert_eq!(sim.open_sessions(), 1);
    let identity = bmc.identity(LONG).await.unwrap();
    assert_eq!(identity.manufacturer.as_deref(), Some("Simulated"));
    assert_eq!(identity.model.as_deref(), Some("Simulator 1"));
    assert_eq!(identity.serial.as_deref(), Some("SIM0001"));
    assert_eq!(identity.uuid.unwrap().to_string(), "38947555-7742-3448-3784-823347823834");
    let macs: Vec<String> = identity.macs.iter().map(ToString::to_string).collect();
    assert_eq!(macs, ["52:54:00:00:00:01", "52:54:00:00:00:02"]);
    assert_eq!(identity.firmware_version.as_deref(), Some("1.2.3-sim"));
    assert_eq!((identity.power, bmc.pin()), (Power::On, None));
    close(bmc).await;
    assert_eq!((sim.open_sessions(), sim.session_counts()), (0, (1, 0, 1)));
}

#[tokio::test]
async fn once_is_consumed_by_the_next_boot() {
    for etags in [Etags::None, Etags::Checked, Etags::Required, Etags::StrongOnly] {
        let (sim, machine) = simulated(false, |config| config.etags = etags).await;
        let bmc = open(&sim).await.unwrap();
        assert_eq!(bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap(), OverrideSet::Once, "{etags:?}");
        assert_eq!(machine.boots(), [], "setting the override must not touch the power");
        bmc.set_power(PowerChange::On, LONG).await.unwrap();
        bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
        assert_eq!(machine.boots(), [BootFrom::Pxe, BootFrom::Order], "{etags:?}");
        close(bmc).await;
    }
}

#[tokio::test]
async fn uefi_http_with_a_url_and_clearing() {
    let (sim, machine) = simulated(false, |_| {}).await;
    let bmc = open(&sim).await.unwrap();
    let url = Some("http://10.0.0.1/ipxe.efi".to_owned());
    let method = NetBoot::UefiHttp { url: url.clone() };
    assert_eq!(bmc.network_boot_once(method.clone(), LONG).await.unwrap(), OverrideSet::Once);
    bmc.set_power(PowerChange::On, LONG).await.unwrap();
    bmc.network_boot_once(method, LONG).await.unwrap();
    bmc.clear_boot_override(LONG).await.unwrap();
    bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
    assert_eq!(machine.boots(), [BootFrom::UefiHttp(url), BootFrom::Order]);
    close(bmc).await;
}

#[tokio::test]
async fn a_bmc_that_never_does_once_is_told_and_cleared_by_name() {
    let (sim, machine) = simulated(false, |config| config.never_once = true).await;
    let bmc = open(&sim).await.unwrap();
    assert_eq!(bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap(), OverrideSet::Continuous);
    bmc.set_power(PowerChange::On, LONG).await.unwrap();
    bmc.clear_boot_override(LONG).await.unwrap();
    bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
    assert_eq!(machine.boots(), [BootFrom::Pxe, BootFrom::Disk]);
    close(bmc).await;
}

#[tokio::test]
async fn power_reads_the_state_before_it_resets() {
    let (sim, machine) = simulated(true, |config| config.power_lag = Duration::from_millis(150)).await;
    let bmc = open(&sim).await.unwrap();
    bmc.set_power(PowerChange::On, LONG).await.unwrap();
    assert_eq!(sim.resets(), [""; 0], "on when on is no reset");
    bmc.set_power(PowerChange::GracefulOff, LONG).await.unwrap();
    assert_eq!(bmc.power(LONG).await.unwrap(), Power::Off, "verified: the lag is waited out");
    bmc.set_power(PowerChange::ForceOff, LONG).await.unwrap();
    bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
    bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
    bmc.set_power(PowerChange::ForceOff, LONG).await.unwrap();
    assert_eq!(sim.resets(), ["GracefulShutdown", "On", "ForceRestart", "ForceOff"]);
    assert_eq!((machine.boots().len(), machine.offs()), (2, 2));
    close(bmc).await;
}

#[tokio::test]
async fn reset_types_are_taken_from_wherever_the_bmc_says_them() {
    let types = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (said, expected) in [
        (ResetTypes::Unsaid, "ForceRestart"),
        (ResetTypes::AllowableValues(types(&["On", "PowerCycle"])), "PowerCycle"),
        (ResetTypes::ActionInfo(types(&["On", "ForceOff", "PowerCycle"])), "PowerCycle"),
    ] {
        let (sim, _) = simulated(true, |config| config.reset_types = said).await;
        let bmc = open(&sim).await.unwrap();
        bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
        assert_eq!(sim.resets(), [expected]);
        close(bmc).await;
    }
    let only_on = ResetTypes::AllowableValues(types(&["On"]));
    let (sim, _) = simulated(true, |config| config.reset_types = only_on).await;
    let bmc = open(&sim).await.unwrap();
    let error = bmc.set_power(PowerChange::ForceOff, LONG).await.unwrap_err();
    assert!(matches!(&error.cause, Cause::Refused { status: 0, .. }) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains("no reset of type ForceOff, only On"), "{error}");
    close(bmc).await;
}

#[tokio::test]
async fn several_systems_are_told_apart_by_the_address() {
    let more: Vec<Arc<MemoryMachine>> = (0..5).map(|_| Arc::new(MemoryMachine::new(false))).collect();
    let machines = more.clone();
    let (sim, _) = simulated(true, move |config| {
        config.page_size = 2;
        let first = config.systems[0].clone();
        config.systems.extend(machines.into_iter().enumerate().map(|(n, machine)| SimulatedSystem {
            id: format!("node-{n}"),
            machine,
            ..first.clone()
        }));
    })
    .await;
    let error = open(&sim).await.unwrap_err();
    assert!(matches!(&error.cause, Cause::Misdeclared(_)), "{error}");
    assert!(error.to_string().contains("6 systems") && error.to_string().contains("node-4"), "{error}");
    assert_eq!(sim.open_sessions(), 0, "an error while opening leaves no session");

    let url = format!("{}/redfish/v1/Systems/node-4", sim.url());
    let bmc = Redfish::open(target(&url, "admin", "secret-canary-bmc", None), FAST, LONG).await.unwrap();
    bmc.set_power(PowerChange::On, LONG).await.unwrap();
    assert_eq!((more[4].boots().len(), more[3].boots().len()), (1, 0));
    close(bmc).await;
    let url = format!("{}/redfish/v1/Systems/nobody", sim.url());
    let error =
        Redfish::open(target(&url, "admin", "secret-canary-bmc", None), FAST, LONG).await.unwrap_err();
    assert!(error.to_string().contains("no system /redfish/v1/Systems/nobody"), "{error}");
}

#[tokio::test]
async fn an_expired_session_is_renewed_once() {
    let (sim, _) = simulated(true, |_| {}).await;
    let bmc = open(&sim).await.unwrap();
    for _ in 0..3 {
        sim.forget_sessions();
        assert_eq!(bmc.power(LONG).await.unwrap(), Power::On);
    }
    sim.forget_sessions();
    bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
    close(bmc).await;
    assert_eq!((sim.open_sessions(), sim.session_counts()), (0, (5, 0, 1)));
    assert_eq!(sim.resets(), ["ForceRestart"]);
}

#[tokio::test]
async fn a_dropped_client_gives_its_session_back() {
    let (sim, _) = simulated(true, |_| {}).await;
    drop(open(&sim).await.unwrap());
    for _ in 0..500 {
        if sim.open_sessions() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the session is still open");
}

/// Visits whose clock is in the test's hand.
fn visits() -> (Visits, Arc<AtomicI64>) {
    let clock = Arc::new(AtomicI64::new(0));
    let hand = clock.clone();
    let door = Box::new(RedfishDoor { limits: FAST });
    (Visits::new(door, Policy::USUAL, move || Time(hand.load(Ordering::SeqCst))), clock)
}

#[tokio::test]
async fn a_wrong_password_is_not_shown_and_the_breaker_keeps_the_account() {
    let (sim, _) = simulated(true, |_| {}).await;
    let (visits, clock) = visits();
    let wrong = target(&sim.url(), "admin", "wrong-canary", None);
    let read = |target: BmcTarget| visits.pay(target, Kind::Read, LONG, |bmc, within| bmc.power(within));
    let mut refused = vec![];
    for minute in 1..=20 {
        clock.store(minute * 60_000, Ordering::SeqCst);
        let error = read(wrong.clone()).await.outcome.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        match &error.cause {
            Cause::Unauthorized => refused.push(minute),
            Cause::Held(wait) => assert_eq!(wait.why, Hold::LoginsRefused),
            _ => panic!("{error}"),
        }
    }
    assert_eq!(refused, [1, 2, 17], "two, then one probe in 15 minutes");
    assert_eq!(sim.session_counts(), (0, 3, 0));

    let right = target(&sim.url(), "admin", "secret-canary-bmc", None);
    assert!(matches!(read(right.clone()).await.outcome.unwrap_err().cause, Cause::Held(_)));
    visits.redeclared(&right);
    assert_eq!(read(right).await.outcome.unwrap(), Power::On);
    assert_eq!((sim.open_sessions(), sim.session_counts()), (0, (1, 3, 1)));
}

#[tokio::test]
async fn a_visit_closes_its_session_also_when_its_act_fails_and_tells_the_pin() {
    let (sim, machine) = simulated(false, |config| config.tls = true).await;
    let (visits, clock) = visits();
    let target = target(&sim.url(), "admin", "secret-canary-bmc", None);
    let visit = visits.pay(target.clone(), Kind::Change, LONG, |bmc, within| {
        Box::pin(async move {
            bmc.network_boot_once(NetBoot::Pxe, within).await?;
            bmc.set_power(PowerChange::On, within).await
        })
    });
    let held = visits
        .pay(target.clone(), Kind::Change, LONG, |bmc, within| bmc.set_power(PowerChange::ForceOff, within));
    let (visit, held) = tokio::join!(visit, held);
    visit.outcome.unwrap();
    assert!(visit.pin.is_some());
    let Cause::Held(wait) = held.outcome.unwrap_err().cause else { panic!("two changes at once") };
    assert_eq!(wait.why, Hold::InFlight);

    clock.store(60_000, Ordering::SeqCst);
    sim.arm(Fault { nth: 5, kind: FaultKind::Status(403) });
    let failed =
        visits.pay(target, Kind::Change, LONG, |bmc, within| bmc.set_power(PowerChange::Cycle, within)).await;
    assert!(matches!(failed.outcome.unwrap_err().cause, Cause::Refused { status: 403, .. }));
    assert_eq!((failed.pin, sim.open_sessions()), (visit.pin, 0));
    assert_eq!(machine.boots(), [BootFrom::Pxe]);
}

#[tokio::test]
async fn tls_is_pinned_on_first_use_and_another_key_is_refused() {
    let (sim, machine) = simulated(false, |config| config.tls = true).await;
    let bmc = open(&sim).await.unwrap();
    let pin = bmc.pin().unwrap();
    close(bmc).await;
    let bmc = open_pinned(&sim, Some(pin)).await.unwrap();
    assert_eq!(bmc.pin(), Some(pin));

    sim.renew_certificate().unwrap();
    let before = sim.calls().len();
    let error = open_pinned(&sim, Some(pin)).await.unwrap_err();
    let Cause::TlsPinChanged { expected, seen } = error.cause else { panic!("{error}") };
    assert!(expected == pin && seen != pin && !error.is_transient());
    assert!(error.to_string().contains("re-pin"), "{error}");
    assert_eq!(sim.calls().len(), before, "nothing was sent to the other key: no credentials, no requests");
    assert_eq!(machine.boots(), []);
    drop(bmc);
}

#[tokio::test]
async fn a_bmc_without_sessions_gets_basic_and_one_with_sessions_never() {
    let (sim, _) = simulated(true, |config| config.session_service = false).await;
    let bmc = open(&sim).await.unwrap();
    assert_eq!(bmc.power(LONG).await.unwrap(), Power::On);
    close(bmc).await;
    assert_eq!(sim.session_counts(), (0, 0, 0));

    // Takes Basic too, but refuses the login: must stay refused.
    let (sim, _) = simulated(true, |config| {
        config.basic = true;
        config.session_limit = 0;
    })
    .await;
    let error = open(&sim).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Refused { status: 503, .. }), "{error}");
    assert!(sim.calls().iter().all(|call| !call.contains("/Systems")), "{:?}", sim.calls());
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = target(&format!("http://{unused}"), "admin", "x", None);
    let error = Redfish::open(target, FAST, LONG).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Unreachable(_)) && error.is_transient(), "{error}");
    assert!(error.to_string().starts_with(&format!("BMC {unused}: opening: unreachable")), "{error}");
}

#[tokio::test]
async fn a_bmc_that_hangs_ends_at_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(&format!("http://{}", listener.local_addr().unwrap()), "admin", "x", None);
    let begun = tokio::time::Instant::now();
    let error = Redfish::open(target, FAST, Duration::from_millis(700)).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Timeout { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn changes_by_task_are_waited_for() {
    let span = Duration::from_millis(120);
    let (sim, machine) = simulated(false, |config| config.tasks = Some(span)).await;
    let bmc = open(&sim).await.unwrap();
    let begun = tokio::time::Instant::now();
    bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap();
    assert!(begun.elapsed() >= span);
    bmc.set_power(PowerChange::On, LONG).await.unwrap();
    assert!(begun.elapsed() >= 2 * span);
    assert_eq!(machine.boots(), [BootFrom::Pxe]);
    close(bmc).await;
}

#[tokio::test]
async fn a_login_without_location_is_still_logged_out() {
    let (sim, _) = simulated(true, |config| config.session_without_location = true).await;
    close(open(&sim).await.unwrap()).await;
    assert_eq!((sim.open_sessions(), sim.session_counts()), (0, (1, 0, 1)));
}
