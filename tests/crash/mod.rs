//! The real server program, killed at each named point of the engine and at any moment, and started again: the machine
//! becomes Ready all the same, and nothing was done twice in effect.

mod played;
pub mod site;

use provisioner::{
    crash::POINTS,
    store::{self, Db},
};
use provisioner_wire::machine::Phase;
use site::{NAME, Site};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Whole runs at once: each mostly waits.
const AT_ONCE: usize = 12;
/// A crash within the network boot costs the engine's pace of ten seconds, and slow machines are slow.
const READY_WITHIN: Duration = Duration::from_secs(40);

/// How the server is made to die.
#[derive(Debug, Clone)]
enum Death {
    None,
    At(&'static str, usize),
    /// SIGKILL so long after it was started.
    Killed(Duration),
}

/// One provision from Off to Ready; how often the server died on the way. Panics with the log where anything is wrong.
fn provision(number: usize, death: &Death) -> usize {
    let crash = match death {
        Death::At(name, nth) => Some(format!("{name}:{nth}")),
        _ => None,
    };
    let mut site = Site::start(number, crash.as_deref());
    let (begun, mut deaths, mut asked, mut killed) = (Instant::now(), 0, false, false);
    while !site.machine.is_ready() {
        assert!(begun.elapsed() < READY_WITHIN, "{death:?}: not Ready\n{}", site.story());
        if let Death::Killed(after) = death
            && !killed
            && begun.elapsed() >= *after
        {
            site.kill();
            killed = true;
        }
        if site.has_died() {
            deaths += 1;
            assert!(deaths <= 1, "{death:?}: died again ({:?})\n{}", site.how(), site.story());
            site.restart();
        }
        asked = asked || site.ask_to_provision();
        std::thread::sleep(Duration::from_millis(10));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A server that has just been started again still has to fold what its start recorded.
    while begun.elapsed() < READY_WITHIN && !runtime.block_on(all_folded(&site)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    site.end();
    runtime.block_on(look(&site, death));
    deaths
}

async fn all_folded(site: &Site) -> bool {
    let db = Db::sqlite(&site.database()).await.unwrap();
    let mut tx = db.read().await.unwrap();
    let machine = store::machines::by_name(&mut tx, &NAME.parse().unwrap()).await.unwrap().unwrap();
    let events = store::events::since(&mut tx, machine.id, 0, 10_000).await.unwrap();
    drop(tx);
    db.close().await;
    events.iter().all(|stored| stored.verdict.is_some())
}

/// What must be true of the store, the disk and the BMC after any run.
async fn look(site: &Site, death: &Death) {
    let db = Db::sqlite(&site.database()).await.unwrap();
    let mut tx = db.write().await.unwrap();
    let machine = store::machines::by_name(&mut tx, &NAME.parse().unwrap()).await.unwrap().unwrap();
    let story = || format!("{death:?}\n{}", site.story());
    assert_eq!((machine.phase, machine.generation.0), (Phase::Ready, 1), "{}", story());
    assert!(machine.token.is_none() && machine.licence.is_none(), "{}", story());

    let trail = store::audit::of_machine(&mut tx, machine.id).await.unwrap();
    assert_eq!(store::audit::verify(&mut tx).await.unwrap(), Ok(trail.len() as u64), "{}", story());
    assert!(trail.iter().all(|row| row.kind == "transition"), "an alarm: {trail:#?}");
    for pair in trail.windows(2) {
        assert_eq!(pair[0].after, pair[1].before, "{trail:#?}");
    }
    // One row a transition, so no phase is entered twice in one generation that failed nowhere.
    let entered: BTreeSet<_> = trail.iter().map(|row| (&row.after, row.generation)).collect();
    assert_eq!(entered.len(), trail.len(), "{trail:#?}");
    assert_eq!(trail.last().unwrap().after, "ready");

    let mut minted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for stored in store::events::since(&mut tx, machine.id, 0, 10_000).await.unwrap() {
        assert!(stored.verdict.is_some(), "{stored:?} was never folded\n{}", story());
        if let provisioner::machine::Event::ConfigRendered { boot_hash, token_hash, .. } = stored.event {
            minted.entry(boot_hash).or_default().insert(token_hash);
        }
    }
    assert!(minted.len() == 1 && minted.values().all(|hashes| hashes.len() == 1), "{minted:?}");

    assert_eq!(licences(&db, tx).await, [(1, true)], "{}", story());
    db.close().await;
    let boots = site.machine.network_boots();
    assert!((1..=2).contains(&boots), "{boots} network boots asked\n{}", story());
    assert!(site.resets().len() <= 3, "{:?}", site.resets());
    assert_eq!(site.machine.installs(), 1, "{}", story());
    assert!(site.machine.disk_is(&site.image), "the disk is not the image\n{}", story());
}

/// Generation, and whether it was spent, of each licence.
async fn licences(db: &Db, tx: store::Tx) -> Vec<(i64, bool)> {
    drop(tx);
    let Db::Sqlite { reader, .. } = db else { unreachable!() };
    let query = "SELECT generation, spent_at IS NOT NULL FROM licences";
    sqlx::query_as(query).fetch_all(reader).await.unwrap()
}

/// Runs every case, some at a time; how often the server died in each.
fn all(cases: &[Death], first: usize) -> Vec<usize> {
    let (next, deaths) = (AtomicUsize::new(0), Mutex::new(vec![0; cases.len()]));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(case) = cases.get(at) else { return };
                    let died = provision(first + at, case);
                    deaths.lock().unwrap()[at] = died;
                }
            });
        }
    });
    deaths.into_inner().unwrap()
}

#[test]
fn a_run_without_a_crash_is_the_measure() {
    assert_eq!(provision(1, &Death::None), 0);
}

#[test]
fn the_server_may_die_at_every_named_point() {
    // A provision passes each act's points three times and a turn's about a dozen times, more or less with the timer:
    // one passage beyond the last shows that the last was among them.
    let passages = |name: &str| if name.starts_with("act") { (3, 4) } else { (8, 16) };
    let cases: Vec<Death> =
        POINTS.iter().flat_map(|name| (1..=passages(name).1).map(|n| Death::At(name, n))).collect();
    let deaths = all(&cases, 10);
    for name in POINTS {
        let of_point = |case: &Death| matches!(case, Death::At(n, _) if *n == name);
        let died: Vec<usize> =
            cases.iter().zip(&deaths).filter(|(c, _)| of_point(c)).map(|(_, d)| *d).collect();
        println!("{name}: {died:?}");
        assert!(died[..passages(name).0].iter().all(|d| *d == 1), "{name}: {died:?}: not reached");
        // A slow machine takes more turns by the timer; acts are counted.
        let all_tried = !name.starts_with("act") || died.contains(&0);
        assert!(all_tried, "{name}: {died:?}: passed more often than was tried");
    }
}

#[test]
fn the_server_may_be_killed_at_any_moment() {
    // Seeded, so that a failing moment is one that can be had again.
    let mut random = fastrand::Rng::with_seed(20);
    let cases: Vec<Death> =
        (0..20).map(|_| Death::Killed(Duration::from_millis(random.u64(0..1500)))).collect();
    let deaths = all(&cases, 150);
    // How many come before the end depends on the machine's speed; a quarter shows that the test still bites.
    assert!(deaths.iter().sum::<usize>() >= 5, "{deaths:?}: most were killed after the end");
}
