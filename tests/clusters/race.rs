//! Races: many claimers, many askings, one winner and one token.

use super::{CLAIM, House, double::Double, objects::Kind, profile};
use futures_util::future::join_all;
use provisioner::{
    clock::Clock,
    machine::{Act, ActResult, Event, Machine, MachineId, Time, Verdict},
    store::{self, Db},
    workflow::{Engine, Hands},
};
use serde_json::json;
use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc};
use uuid::Uuid;

#[tokio::test]
async fn sixty_four_askings_for_one_claim_make_one_token() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let profile = profile("kubernetes", json!({}));
    let grants = join_all((0..64).map(|_| house.mint(&profile, CLAIM))).await;
    let tokens: BTreeSet<String> =
        grants.iter().map(|g| g.as_ref().unwrap().token.reveal().to_owned()).collect();
    assert_eq!((tokens.len(), double.all(Kind::Secret).len()), (1, 1));
}

struct NoHands;

impl Hands for NoHands {
    fn perform(&self, _: Machine, _: Act) -> Pin<Box<dyn Future<Output = ActResult> + Send + '_>> {
        Box::pin(async { ActResult::Failed { reason: "nothing is done here".into() } })
    }
}

/// The real engine and its store, on memory where there is some: what is looked at is who wins, not the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_claimers_in_a_thousand_rounds_have_one_winner_each() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let db = Db::sqlite(&folder.path().join("db")).await.unwrap();
    let id = MachineId(Uuid::from_u128(1));
    let machine = Machine::discovered(id, "node-1".parse().unwrap(), Time(0));
    let mut tx = db.write().await.unwrap();
    store::machines::insert(&mut tx, &machine, Time(0)).await.unwrap();
    tx.commit().await.unwrap();
    let engine = Engine::new(db, Clock::system());
    tokio::spawn(engine.clone().run(Arc::new(NoHands)));
    for round in 0..1000 {
        let boot_hash = format!("boot-{round}");
        let expires = Time(engine.now().0 + 900_000);
        let served = Event::ScriptServed { boot_hash: boot_hash.clone(), expires };
        assert_eq!(engine.submit(id, &served).await.unwrap(), Verdict::Accepted);
        let claims: Vec<Event> = (0..64)
            .map(|n| Event::Claimed {
                boot_hash: boot_hash.clone(),
                public_key: format!("key-{n}"),
                report: Box::default(),
            })
            .collect();
        let verdicts = join_all(claims.iter().map(|claim| engine.submit(id, claim))).await;
        let won = verdicts.iter().filter(|v| *v.as_ref().unwrap() == Verdict::Accepted).count();
        assert_eq!(won, 1, "round {round}");
    }
}
