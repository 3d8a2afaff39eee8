//! One image, several mirrors, and what each may do.

use super::{
    Site, contents, declaration,
    liar::{Liar, Way},
    sha256,
};
use provisioner::image::{ImageError, progress::Phase};
use serde_json::{Value, json};
use std::fs;

const LENGTH: usize = 3 << 20;

fn image(bytes: &[u8], mirrors: &[&Liar]) -> Value {
    let (first, others) = mirrors.split_first().unwrap();
    let others: Vec<String> = others.iter().map(|m| m.url()).collect();
    json!({"source": {"url": first.url()}, "mirrors": others, "sha256": sha256(bytes)})
}

/// Fetched and taken in: the manifest is that of the same file in the images folder.
async fn comes_whole(ways: &[Way]) -> Vec<String> {
    let (bytes, site) = (contents(LENGTH), Site::new());
    let mirror = Liar::new(&bytes, ways);
    let ready = site.ready(image(&bytes, &[&mirror])).await.unwrap_or_else(|e| panic!("{ways:?}: {e}"));
    let plain = Site::new();
    fs::write(plain.folder.path().join("i.img"), &bytes).unwrap();
    let same = plain.ready(json!({"source": {"file": "i.img"}, "sha256": sha256(&bytes)})).await.unwrap();
    assert!(ready.root().is_some() && ready.root() == same.root(), "{ways:?}");
    assert_eq!(site.images.taken(&declaration(image(&bytes, &[&mirror]))).phase, Phase::Ready);
    assert_eq!(site.fetched(), [(sha256(&bytes), LENGTH as u64)], "{ways:?}");
    mirror.seen()
}

async fn refused(ways: &[Way], more: Value) -> String {
    let (bytes, site) = (contents(LENGTH), Site::new());
    let mirror = Liar::new(&bytes, ways);
    let mut spec = image(&bytes, &[&mirror]);
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let error = site.ready(spec.clone()).await.unwrap_err();
    assert!(matches!(error, ImageError::Fetch { .. }), "{error}");
    assert_eq!(site.images.taken(&declaration(spec)).error, Some(error.to_string()));
    assert!(!site.fetched().iter().any(|(name, _)| *name == sha256(&bytes)), "half a file counts as whole");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_gone_on_with_from_where_it_was() {
    let seen = comes_whole(&[Way::Cut(1 << 20), Way::Cut(1 << 20), Way::Honest]).await;
    assert_eq!(seen.len(), 3);
    assert!(
        seen[1].contains("range: bytes=1048576-") && seen[1].contains("if-range: \"one\""),
        "{}",
        seen[1]
    );
    assert!(seen[2].contains("range: bytes=2097152-"), "{}", seen[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_that_do_ranges_badly_cost_time_and_nothing_else() {
    comes_whole(&[Way::Cut(1 << 20), Way::IgnoresRanges]).await;
    // Its content has changed since, and then changes back: If-Range has it start anew each time.
    comes_whole(&[Way::Cut(1 << 20), Way::Status(503, String::new()), Way::Honest]).await;
    comes_whole(&[Way::Cut(5), Way::Status(416, "content-range: bytes */3\r\n".into()), Way::Honest]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mirror_says_of_itself_is_not_believed() {
    let cases = [
        (Way::Cut(1 << 20), json!({"size": LENGTH + 1}), "declared are 3145729"),
        (Way::Announces(1 << 50), json!({}), "it is larger than"),
        (Way::Endless, json!({"size": LENGTH}), "it is larger than 3145728 bytes"),
        (Way::Other, json!({}), "its SHA-256 is"),
        (Way::Coded, json!({}), "it comes as \"gzip\""),
        (Way::Status(404, String::new()), json!({}), "answered 404"),
        (Way::Status(500, String::new()), json!({}), "answered 500"),
    ];
    for (way, more, expected) in cases {
        let error = refused(std::slice::from_ref(&way), more).await;
        assert!(
            error.starts_with("image i: http://127.0.0.1") && error.contains(expected),
            "{way:?}: {error}"
        );
    }
    let error = refused(&[Way::Cut(1 << 20), Way::WrongRange], json!({})).await;
    assert!(error.contains("asked for the bytes from 1048576 on, it answered \"bytes 1048577-"), "{error}");
    // Announced more than comes: cut short, three times in vain.
    let error = refused(&[Way::Announces(LENGTH as u64 + 9)], json!({})).await;
    assert!(error.contains("the connection ended after 3145728 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_mirror_goes_on_and_the_hash_decides() {
    let (bytes, site) = (contents(LENGTH), Site::new());
    let first = Liar::new(&bytes, &[Way::Cut(1 << 20), Way::Status(404, String::new())]);
    let second = Liar::new(&bytes, &[Way::Honest]);
    site.ready(image(&bytes, &[&first, &second])).await.unwrap();
    assert!(second.seen()[0].contains("range: bytes=1048576-"), "{:?}", second.seen());
    assert!(!second.seen()[0].contains("if-range"), "another server's entity tag says nothing");

    // What the first one began was of another file: the second one's is fetched from the beginning.
    let site = Site::new();
    let first = Liar::new(&contents(LENGTH + 7)[7..], &[Way::Cut(1 << 20), Way::Status(410, String::new())]);
    let second = Liar::new(&bytes, &[Way::Honest]);
    site.ready(image(&bytes, &[&first, &second])).await.unwrap();
    assert_eq!(second.seen().len(), 2);
    assert!(!second.seen()[1].contains("range:"), "{:?}", second.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_and_a_whole_file_is_asked_for_never_again() {
    let (bytes, site) = (contents(LENGTH), Site::new());
    fs::create_dir_all(site.part("x").parent().unwrap()).unwrap();
    fs::write(site.part(&sha256(&bytes)), &bytes[..2_000_000]).unwrap();
    let mirror = Liar::new(&bytes, &[Way::Honest]);
    let first = site.ready(image(&bytes, &[&mirror])).await.unwrap();
    assert!(mirror.seen()[0].contains("range: bytes=2000000-"), "{:?}", mirror.seen());
    let site = site.again();
    let second = site.ready(image(&bytes, &[&mirror])).await.unwrap();
    assert_eq!((mirror.seen().len(), first.root()), (1, second.root()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_want_one_image_fetch_it_once() {
    let (bytes, site) = (contents(LENGTH), Site::new());
    let mirror = Liar::new(&bytes, &[Way::Honest]);
    let spec = image(&bytes, &[&mirror]);
    let (a, b, c) = tokio::join!(site.ready(spec.clone()), site.ready(spec.clone()), site.ready(spec));
    assert_eq!(
        (a.unwrap().root(), b.unwrap().root()),
        (c.as_ref().unwrap().root(), c.as_ref().unwrap().root())
    );
    assert_eq!(mirror.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_chunks_are_found_and_made_again() {
    let (bytes, site) = (contents(LENGTH), Site::new());
    let mirror = Liar::new(&bytes, &[Way::Honest]);
    let spec = image(&bytes, &[&mirror]);
    site.ready(spec.clone()).await.unwrap();
    let root = site.images.taken(&declaration(spec.clone())).root.unwrap();
    let clean = site.images.recheck(&declaration(spec.clone())).await.unwrap();
    assert_eq!((clean.chunks, clean.damaged.len()), (3, 0));
    let chunks: Vec<_> = walk(&site.folder.path().join("chunks"));
    let mut damaged = fs::read(&chunks[0]).unwrap();
    damaged[9] ^= 1;
    fs::write(&chunks[0], damaged).unwrap();
    fs::remove_file(&chunks[1]).unwrap();
    let checked = site.images.recheck(&declaration(spec.clone())).await.unwrap();
    assert_eq!(checked.damaged.len(), 2);
    let healed = site.images.recheck(&declaration(spec.clone())).await.unwrap();
    assert_eq!((healed.damaged.len(), site.images.taken(&declaration(spec.clone())).root), (0, Some(root)));
    // Declared otherwise, nothing is known of it yet.
    let mut other = spec;
    other["size"] = json!(LENGTH);
    assert_eq!(site.images.taken(&declaration(other)).phase, Phase::Declared);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
        if entry.path().is_dir() { all.extend(walk(&entry.path())) } else { all.push(entry.path()) }
    }
    all.sort();
    all
}
