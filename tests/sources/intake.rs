//! The declared images, taken in beside each other.

use super::{
    Site, contents, declaration,
    liar::{Liar, Way},
    sha256,
};
use provisioner::{
    image::{
        Images,
        intake::{AT_ONCE, Form, Intake},
        progress::Phase,
    },
    inventory::ImageDeclaration,
    machine::Time,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

/// One image for each way, with names in this order.
struct Declared {
    all: Vec<(ImageDeclaration, Form)>,
    mirrors: Vec<Liar>,
}

fn declared(ways: &[&[Way]]) -> Declared {
    let (mut all, mut mirrors) = (Vec::new(), Vec::new());
    for (number, ways) in ways.iter().enumerate() {
        let bytes = contents((1 << 20) + number);
        let mirror = Liar::new(&bytes, ways);
        let spec =
            json!({"name": format!("i-{number}"), "source": {"url": mirror.url()}, "sha256": sha256(&bytes)});
        all.push((declaration(spec), Form::Chunks));
        mirrors.push(mirror);
    }
    Declared { all, mirrors }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn phases(images: &Images, declared: &Declared) -> Vec<Phase> {
    declared.all.iter().map(|(image, _)| images.taken(image).phase).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_mirrors_hold_up_nobody_else() {
    let declared =
        declared(&[&[Way::Stalls], &[Way::Stalls], &[Way::Stalls], &[Way::Honest], &[Way::Honest]]);
    let Site { folder: _folder, images } = Site::new();
    let images = Arc::new(images);
    let mut intake = Intake::new(images.clone(), || Time(0));
    intake.take_in(declared.all.clone());
    let slow = [Phase::Fetching; 3];
    let expected = [slow.as_slice(), &[Phase::Ready; 2]].concat();
    until("the others are not ready", || phases(&images, &declared) == expected).await;
    // Asked again, nothing is begun twice.
    intake.take_in(declared.all.clone());
    assert_eq!(phases(&images, &declared), expected);
    let half = images.taken(&declared.all[0].0);
    until("half of it", || images.taken(&declared.all[0].0).done == 1 << 19).await;
    assert_eq!(half.of, Some(1 << 20));
    assert_eq!(images.taken(&declared.all[0].0).sentence(), "fetching, 50 %");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_few_are_fetched_at_once_and_one_that_is_forgotten_makes_place() {
    let mut declared = declared(&[&[Way::Stalls][..]; AT_ONCE + 2]);
    let Site { folder: _folder, images } = Site::new();
    let images = Arc::new(images);
    let mut intake = Intake::new(images.clone(), || Time(0));
    intake.take_in(declared.all.clone());
    let asked = |declared: &Declared| declared.mirrors.iter().filter(|m| !m.seen().is_empty()).count();
    until("as many as may", || asked(&declared) == AT_ONCE).await;
    let expected = [[Phase::Fetching; AT_ONCE].as_slice(), &[Phase::Waiting; 2]].concat();
    assert_eq!(phases(&images, &declared), expected, "they are begun in their order");
    // A workflow does not wait for a slot.
    let last = declared.all[AT_ONCE + 1].0.clone();
    let asks = tokio::spawn({
        let images = images.clone();
        async move { images.ready(&last).await.map(|_| ()) }
    });
    until("what a workflow asks for", || !declared.mirrors[AT_ONCE + 1].seen().is_empty()).await;
    asks.abort();
    assert!(declared.mirrors[AT_ONCE].seen().is_empty());
    declared.all.remove(0);
    intake.take_in(declared.all.clone());
    until("the next one", || !declared.mirrors[AT_ONCE].seen().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_says_when_it_is_tried_again_and_is() {
    let busy = Way::Status(503, String::new());
    let declared = declared(&[&[busy.clone(), busy.clone(), busy, Way::Honest]]);
    let Site { folder: _folder, images } = Site::new();
    let images = Arc::new(images);
    let (clock, image) = (Arc::new(AtomicI64::new(1_795_000_000_000)), declared.all[0].0.clone());
    let hands = clock.clone();
    let mut intake = Intake::new(images.clone(), move || Time(hands.load(Ordering::Relaxed)));
    intake.take_in(declared.all.clone());
    until("it does not fail", || images.taken(&image).next_try_ms.is_some()).await;
    let said = images.taken(&image).sentence();
    assert!(said.contains("answered 503") && said.ends_with("next try at 2026-11-18T11:11:40Z"), "{said}");
    intake.take_in(declared.all.clone());
    assert_eq!(phases(&images, &declared), [Phase::Failed], "it is not time yet");
    clock.fetch_add(300_000, Ordering::Relaxed);
    intake.take_in(declared.all.clone());
    until("it is not tried again", || phases(&images, &declared) == [Phase::Ready]).await;
}
