//! The real server: what it says while it fetches, and what it serves when nobody declares it any more.

use super::{
    contents,
    liar::{Liar, Way},
    sha256,
};
use crate::crash::site::{NAME, PROFILE, Site};
use provisioner::{
    machine::{
        Machine,
        state::{Netboot, Target, Workflow},
    },
    store::{self, Db, declared::Kind},
};
use provisioner_wire::{
    machine::{Phase, WorkflowKind},
    order::{Image, ImageFormat, WipeMethod},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

const LENGTH: usize = 5 << 20;

fn state(site: &Site) -> Value {
    serde_json::from_str(&site.api(Method::GET, "/api/v1/images/far/state")).unwrap()
}

fn until(site: &Site, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let now = state(site);
        if is(&now) {
            return now;
        }
        assert!(Instant::now() < end, "{what}: {now}\n{}", site.story());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn gc(site: &Site) -> Value {
    serde_json::from_str(&site.api(Method::POST, "/api/v1/images-gc")).unwrap()
}

/// A workflow in the middle of its way, with `image` as the kernel that it boots.
fn running(machine: &mut Machine, image: Image) {
    let netboot = Netboot { kernel: image, initramfs: Vec::new(), rootfs: None, arguments: Vec::new() };
    let target = Target {
        image: None,
        place: None,
        netboot: Some(netboot),
        by_url: None,
        wipe: WipeMethod::default(),
        read_back: None,
        token_ttl_ms: 0,
        join: None,
        ready_deadline_ms: 0,
        kernel_arguments: Vec::new(),
        profile: Value::Null,
    };
    machine.phase = Phase::Booting;
    machine.workflow = Some(Workflow {
        id: Uuid::new_v4(),
        kind: WorkflowKind::Provision,
        profile: None,
        target: Some(target),
        tried: Default::default(),
        scripts: 0,
        boots: 0,
        done: Vec::new(),
        held: None,
        leaving: Default::default(),
        despite_rogue: false,
    });
}

/// Behind the back of a server that does not run.
fn change(site: &Site, hash: &str) {
    let image = Image {
        name: "far".into(),
        url: format!("/images/{hash}"),
        format: ImageFormat::Raw,
        sha256: hash.to_owned(),
        size_bytes: LENGTH as u64,
        raw_sha256: None,
        raw_size_bytes: None,
        chunks: None,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let db = Db::sqlite(&site.database()).await.unwrap();
        let mut tx = db.write().await.unwrap();
        assert!(store::declared::delete(&mut tx, Kind::Image, "far").await.unwrap());
        let mut machine = store::machines::by_name(&mut tx, &NAME.parse().unwrap()).await.unwrap().unwrap();
        running(&mut machine, image);
        let since = machine.since;
        store::machines::save(&mut tx, &mut machine, since).await.unwrap();
        tx.commit().await.unwrap();
        db.close().await;
    });
}

#[test]
fn how_fast_an_image_comes_is_said_and_a_workflow_keeps_it_without_a_declaration() {
    let bytes = contents(LENGTH);
    let (mirror, hash) = (Liar::new(&bytes, &[Way::Slow]), sha256(&bytes));
    let url = mirror.url();
    let record = format!("name: far\nsource: {{url: \"{url}\"}}\nformat: raw\nsha256: {hash}\n");
    let mut site = Site::with(900, None, PROFILE, &[("hardware/images/far.yaml", record)]);
    site.is_up();
    let going = until(&site, "no rate", |now| now["bytes_per_second"].as_u64().is_some_and(|rate| rate > 0));
    let said = going["said"].as_str().unwrap();
    assert!(said.starts_with("fetching, ") && said.contains("B/s, about ") && said.ends_with(" s"), "{said}");
    assert_eq!((going["of"].as_u64(), going["error"].as_str()), (Some(LENGTH as u64), None));
    // A disk that the site does not take is refused when it is declared.
    let huge =
        json!({"name": "huge", "source": {"file": "x"}, "format": "zst", "sha256": hash, "raw_size": "2TiB"});
    let refused = site.api_with(Method::PUT, "/api/v1/images/huge", Some(&huge));
    assert!(refused.contains("raw_size") && refused.contains("images.raw_max (1099511627776)"), "{refused}");
    until(&site, "not ready", |now| now["said"] == "ready");
    site.kill();
    change(&site, &hash);
    site.forget("hardware/images/far.yaml");
    site.restart();
    site.is_up();
    // The start has collected already; nothing is taken from the workflow now, either.
    assert_eq!(gc(&site)["files"], 0, "{}", site.story());
    let (status, served) = site.plain(&format!("/images/{hash}"));
    assert_eq!((status, sha256(&served)), (200, hash.clone()), "{}", site.story());
    site.api(Method::POST, &format!("/api/v1/machines/{NAME}/cancel"));
    let end = Instant::now() + Duration::from_secs(20);
    while gc(&site)["files"] != 1 {
        assert!(Instant::now() < end, "{}", site.story());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(site.plain(&format!("/images/{hash}")).0, 404);
}
