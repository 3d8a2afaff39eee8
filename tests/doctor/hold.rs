//! A workflow that wipes, while another DHCP server is heard: over the API, with the real engine.

use crate::api::Server;
use provisioner::{
    machine::Time,
    store::{self, foreign_servers::Row},
};
use provisioner_wire::machine::Phase;
use std::time::Duration;

const MAC: &str = "52:54:00:00:00:77";

async fn heard(server: &Server, until: Time) {
    let row = Row {
        ip: "10.88.0.66".into(),
        mac: Some("52:54:00:66:66:66".into()),
        kind: "dhcp".into(),
        boot_file: Some("evil.efi".into()),
        heard_by: "probe".into(),
        first_at: server.engine.now().0,
        last_at: server.engine.now().0,
        times: 1,
        blocks_until: until.0,
    };
    let mut tx = server.db().write().await.unwrap();
    store::foreign_servers::put(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_before_power_until_somebody_wants_it() {
    let server = Server::start().await;
    let long = server.engine.now() + Duration::from_secs(7200);
    heard(&server, long).await;
    server.declare("node-1", MAC).await;
    assert_eq!(server.post("/api/v1/machines/node-1/despite-rogue").await.0, 409);
    assert_eq!(server.post("/api/v1/machines/node-1/provision").await.0, 200);
    let held = server.until("node-1", |m| m.reason.contains("another DHCP server")).await;
    assert_eq!(held.phase, Phase::Powering);
    assert!(held.reason.contains("10.88.0.66") && held.workflow.unwrap().tried.len() == 1, "{}", held.reason);
    // Longer than the deadline of any phase that it is held in: it waits all the same.
    for _ in 0..3 {
        server.pass(Duration::from_secs(400));
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let still = server.machine("node-1").await.unwrap();
    assert!(still.phase == Phase::Powering && still.reason.contains("another DHCP server"), "{still:?}");
    let explained = server.get("/api/v1/explain/node-1").await;
    assert_eq!(explained["foreign"][0]["boot_file"], "evil.efi", "{explained:#}");

    assert_eq!(server.post("/api/v1/machines/node-1/despite-rogue").await.0, 200);
    server.until("node-1", |m| m.reason.contains("powered on")).await;
    assert_eq!(server.alarms("node-1").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_by_itself_when_the_network_is_quiet() {
    let server = Server::start().await;
    let until = server.engine.now() + Duration::from_secs(100);
    heard(&server, until).await;
    server.declare("node-1", MAC).await;
    assert_eq!(server.post("/api/v1/machines/node-1/provision").await.0, 200);
    server.until("node-1", |m| m.reason.contains("another DHCP server")).await;
    server.pass(Duration::from_secs(120));
    let free = server.until("node-1", |m| m.reason.contains("powered on")).await;
    assert_eq!(free.workflow.unwrap().held, None);
    // Looking is never held.
    heard(&server, server.engine.now() + Duration::from_secs(600)).await;
    server.post("/api/v1/machines/node-1/cancel").await;
    assert_eq!(server.post("/api/v1/machines/node-1/inspect").await.0, 200);
    server.until("node-1", |m| m.reason.contains("powered on")).await;
}
