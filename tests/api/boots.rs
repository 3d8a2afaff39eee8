//! What machines are told to boot, and the images they fetch.

use super::{MAC, Server, mac};
use provisioner::{http::Settings, machine::Event, store};
use provisioner_wire::machine::Phase;
use reqwest::{Method, StatusCode, header};
use serde_json::json;

const UNKNOWN: &str = "52:54:00:00:00:99";

/// Neither a kernel nor a disk.
fn is_nothing(script: &str) -> bool {
    script.starts_with("#!ipxe") && !script.contains("kernel") && !script.contains("sanboot")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_machine_boots_nothing_without_discovery() {
    let server = Server::start().await;
    assert!(is_nothing(&server.script(UNKNOWN).await));
    assert!(store::machines::all(&mut server.db().read().await.unwrap()).await.unwrap().is_empty());
    for bad in ["zz", "52:54:00:00:00", "%0a"] {
        let url = format!("{}/boot/{bad}.ipxe", server.plain);
        assert_eq!(server.http.get(url).send().await.unwrap().status(), 404, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discovered_machine_is_inspected_and_waits() {
    let server = Server::with(Settings { discovery: true, ..Settings::default() }).await;
    let agent = server.boot(UNKNOWN).await;
    assert_eq!(agent.claim().await.0, 200);
    let (_, order) = agent.say("/agent/v1/order", &json!({})).await;
    assert_eq!(order["order"], "wait");
    let name = "discovered-525400000099";
    let machine = server.get(&format!("/api/v1/machines/{name}")).await;
    assert_eq!(machine["phase"], "discovered");
    assert_eq!(machine["report"]["disks"][0]["serial"], "DISK1");
    // A multicast address is nobody's.
    assert!(is_nothing(&server.script("01:00:5e:00:00:01").await));

    // Declared under a name of its own, it is the same machine.
    server.declare("node-9", UNKNOWN).await;
    let declared = server.until("node-9", |m| m.phase == Phase::Available).await;
    assert!(declared.report.is_some());
    assert!(server.machine(name).await.is_none());
    let macs = store::machines::macs(&mut server.db().read().await.unwrap(), declared.id).await.unwrap();
    assert_eq!(macs, [mac(UNKNOWN)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_machine_boots_its_disk() {
    let server = Server::with(Settings { discovery: true, ..Settings::default() }).await;
    let agent = server.boot(UNKNOWN).await;
    assert_eq!(server.post("/api/v1/machines/discovered-525400000099/reject").await.0, 200);
    assert!(server.script(UNKNOWN).await.contains("sanboot"));
    assert_eq!(agent.claim().await.0, 410);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_sent_to_its_disk_as_its_record_says() {
    let server = Server::start().await;
    server.declare_profile().await;
    let url = format!("{}/boot/{MAC}.ipxe", server.plain);
    for (disk, status, has, has_not) in [
        (None, 200, "sanboot", "shell"),
        (Some("exit"), 200, "exit 1", "sanboot"),
        (Some("sanboot"), 200, "sanboot", "exit"),
        (Some("not-found"), 404, "boots its own disk", "sanboot"),
    ] {
        let mut hardware = super::hardware("node-1", MAC);
        if let Some(disk) = disk {
            hardware["quirks"] = json!({ "disk": disk });
        }
        let put = server.api(Method::PUT, "/api/v1/machines/node-1", Some(hardware)).await;
        assert!(put.0.is_success(), "{put:?}");
        server.until("node-1", |m| m.phase == Phase::Available).await;
        let answer = server.http.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), status, "{disk:?}");
        let text = answer.text().await.unwrap();
        let commands: String = text.lines().filter(|l| !l.starts_with("# ")).collect();
        assert!(commands.contains(has) && !commands.contains(has_not), "{disk:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_machine_keeps_its_identity_though_it_was_rejected() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    assert_eq!(server.post("/api/v1/machines/node-1/reject").await.0, 200);
    let stolen = super::hardware("node-2", MAC);
    assert_eq!(server.api(Method::PUT, "/api/v1/machines/node-2", Some(stolen)).await.0, 422);
    assert_eq!(server.machine("node-1").await.unwrap().phase, Phase::Rejected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_carries_the_agents_words_and_the_last_boot_is_the_disk() {
    let settings = Settings { kernel_arguments: vec!["console=ttyS0".into()], ..Settings::default() };
    let server = Server::with(settings).await;
    server.powered("node-1", MAC).await;
    let script = server.script("52-54-00-00-00-01").await;
    for word in [
        &*format!("provisioner.server={}", server.plain),
        "provisioner.boot=",
        "provisioner.key=",
        "console=ttyS0",
        "quiet",
    ] {
        assert!(script.contains(word), "{word}: {script}");
    }
    for _ in 0..10 {
        let looked = server.http.head(format!("{}/boot/{MAC}.ipxe", server.plain)).send().await.unwrap();
        assert_eq!(looked.status(), 200);
    }
    for _ in 1..provisioner::machine::boot::SCRIPTS_MAX {
        assert!(server.script(MAC).await.contains("kernel"));
    }
    assert!(server.script(MAC).await.contains("sanboot"));
    assert_eq!(server.machine("node-1").await.unwrap().phase, Phase::Failed);
    let mut tx = server.db().read().await.unwrap();
    let id = server.machine("node-1").await.unwrap().id;
    let events = store::events::since(&mut tx, id, 0, 1000).await.unwrap();
    assert!(matches!(&events.last().unwrap().event, Event::Heard { what } if what == "boots its disk"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_served_by_hash_with_ranges() {
    let server = Server::start().await;
    let hash = "ab".repeat(32);
    std::fs::write(server.file(&hash), b"0123456789").unwrap();
    let url = format!("{}/images/{hash}", server.plain);
    let etag = format!("\"{hash}\"");
    let get = |headers: &[(header::HeaderName, &str)]| {
        let request = headers.iter().fold(server.http.get(&url), |r, (name, value)| r.header(name, *value));
        async move { request.send().await.unwrap() }
    };
    let whole = get(&[]).await;
    assert_eq!(whole.headers()[header::ETAG], *etag);
    assert_eq!(whole.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    assert_eq!(whole.headers()[header::CONTENT_TYPE], "application/octet-stream");
    assert_eq!(whole.text().await.unwrap(), "0123456789");
    let head = server.http.head(&url).send().await.unwrap();
    assert_eq!(head.headers()[header::CONTENT_LENGTH], "10");
    let part = get(&[(header::RANGE, "bytes=4-"), (header::IF_RANGE, &etag)]).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.text().await.unwrap(), "456789");
    let changed = get(&[(header::RANGE, "bytes=4-"), (header::IF_RANGE, "\"other\"")]).await;
    assert_eq!((changed.status(), changed.text().await.unwrap()), (StatusCode::OK, "0123456789".into()));
    assert_eq!(get(&[(header::RANGE, "bytes=99-")]).await.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(get(&[(header::IF_NONE_MATCH, &etag)]).await.status(), StatusCode::NOT_MODIFIED);
    for wrong in ["cd".repeat(32), "..%2fadmin-token".into(), "admin-token".into(), hash.to_uppercase()] {
        let response = server.http.get(format!("{}/images/{wrong}", server.plain)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{wrong}");
    }
    let posted = server.http.request(Method::POST, &url).send().await.unwrap();
    assert_eq!(posted.status(), 405);
}
