//! The folder of fetched images has a limit, whatever anybody says of a file's size.

use super::{
    Site, contents,
    custody::Store,
    declaration,
    liar::{Liar, Way},
    sha256,
};
use provisioner::image::Removed;
use serde_json::{Value, json};
use std::sync::Arc;

const LENGTH: usize = 3 << 20;
const LIMIT: u64 = 4 << 20;

fn small() -> Site {
    Site::with("allow = [\"127.0.0.0/8\"]\ncache_limit = \"4MiB\"", &[])
}

fn image(name: &str, bytes: &[u8], mirror: &Liar) -> Value {
    json!({"name": name, "source": {"url": mirror.url()}, "sha256": sha256(bytes)})
}

fn used(site: &Site) -> u64 {
    site.fetched().iter().map(|(_, size)| size).sum()
}

/// Two images that do not fit together; the second one's declared size is as given.
async fn second_is_refused(size: Option<usize>, way: Way) -> (String, usize) {
    let (site, first, second) = (small(), contents(LENGTH), contents(LENGTH + 1));
    let mirrors = [Liar::new(&first, &[Way::Honest]), Liar::new(&second, &[way])];
    site.ready(image("first", &first, &mirrors[0])).await.unwrap();
    let mut spec = image("second", &second, &mirrors[1]);
    if let Some(size) = size {
        spec["size"] = json!(size);
    }
    let error = site.ready(spec).await.unwrap_err();
    assert!(error.is_lasting(), "{error}");
    assert_eq!(site.fetched(), [(sha256(&first), LENGTH as u64)], "what was begun is not given back");
    (error.to_string(), mirrors[1].seen().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_size_is_refused_before_anybody_is_asked() {
    let (error, asked) = second_is_refused(Some(LENGTH + 1), Way::Honest).await;
    assert!(
        error.starts_with("image second: the cache of fetched images has 3145728 of at most 4194304 bytes")
    );
    assert!(error.contains("3145729 more do not fit") && error.contains("fetch.cache_limit"), "{error}");
    assert_eq!(asked, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_size_is_refused_before_it_is_fetched_and_an_unknown_one_as_it_grows() {
    let (error, asked) = second_is_refused(None, Way::Honest).await;
    assert!(error.starts_with("image second: ") && error.contains("fetch.cache_limit"), "{error}");
    assert_eq!(asked, 1);
    let (error, _) = second_is_refused(None, Way::Endless).await;
    assert!(error.starts_with("image second: ") && error.contains("of at most 4194304 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_get_no_more_than_there_is() {
    let site = small();
    let bytes = [contents(LENGTH), contents(LENGTH + 4)];
    let mirrors = bytes.each_ref().map(|bytes| Liar::new(bytes, &[Way::Unsized]));
    let [a, b] = [0, 1].map(|n| image(["a", "b"][n], &bytes[n], &mirrors[n]));
    let (one, other) = tokio::join!(site.ready(a.clone()), site.ready(b.clone()));
    assert!(used(&site) <= LIMIT, "{:?}", site.fetched());
    let refused = [one, other].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(!refused.is_empty(), "both fit");
    for error in refused {
        assert!(error.to_string().contains("fetch.cache_limit"), "{error}");
    }
    // Nobody holds anything any more: whichever is left out fits as soon as the other one is not declared.
    let images = Arc::new(site.images);
    for spec in [a, b] {
        let (store, declared) = (Store::default(), declaration(spec));
        store.declare(&declared);
        images.collect(&store, false).await.unwrap();
        images.ready(&declared).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_needs_makes_room_before_anything_is_refused() {
    let (site, store, bytes) = (small(), Store::default(), contents(LENGTH));
    site.images.needs_told_by(store.clone());
    let mirror = Liar::new(&bytes, &[Way::Honest]);
    let first = declaration(image("first", &bytes, &mirror));
    store.declare(&first);
    site.images.ready(&first).await.unwrap();
    let more = contents(LENGTH + 1);
    let other = Liar::new(&more, &[Way::Honest]);
    let second = declaration(image("second", &more, &other));
    store.declare(&second);
    let error = site.images.ready(&second).await.unwrap_err().to_string();
    assert!(error.contains("fetch.cache_limit"), "{error}");
    // What was begun of a third one that nobody fetches is less than a whole one.
    store.forget("first");
    let (third, gone) = (contents(LENGTH + 2), Liar::new(b"", &[Way::Status(404, String::new())]));
    let third_declared = declaration(image("third", &third, &gone));
    store.declare(&third_declared);
    std::fs::write(site.part(&sha256(&third)), &third[..1 << 20]).unwrap();
    site.images.ready(&second).await.unwrap();
    assert_eq!(site.fetched(), [(sha256(&more), LENGTH as u64 + 1)]);
    let images = Arc::new(site.images);
    let removed = images.collect(&store, false).await.unwrap();
    assert_eq!((removed.files, removed.manifests), (0, 1), "{removed:?}");
    assert_eq!(images.collect(&store, false).await, Ok(Removed::default()));
}
