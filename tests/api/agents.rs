//! Agents that race, lie, come late, or say too much.

use super::{MAC, Server};
use provisioner_wire::{machine::Phase, order::path};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::{sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_claimants_one_wins_and_each_other_is_an_alarm() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let agent = Arc::new(server.boot(MAC).await);
    let claimants: Vec<_> = (0..64).map(|_| agent.twin()).map(Arc::new).collect();
    let races: Vec<_> =
        claimants.iter().cloned().map(|twin| tokio::spawn(async move { twin.claim().await.0 })).collect();
    let mut won = Vec::new();
    for (at, race) in races.into_iter().enumerate() {
        match race.await.unwrap() {
            StatusCode::OK => won.push(at),
            status => assert_eq!(status, StatusCode::CONFLICT),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(server.alarms("node-1").await, 63);
    // The winner may say it again; nobody else gets an order.
    let winner = &claimants[won[0]];
    assert_eq!(winner.claim().await.0, 200);
    assert_eq!(winner.order().await["order"], "write-image");
    let loser = &claimants[(won[0] + 1) % 64];
    assert_eq!(loser.say(path::ORDER, &json!({})).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_the_key_is_nothing() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim_with("00".repeat(32)).await.0, 401);
    assert_eq!(agent.say(path::ORDER, &json!({})).await.0, 401, "not claimed yet");
    assert_eq!(agent.claim().await.0, 200);
    let good = agent.channel.authorization("POST", path::ORDER, b"{}");
    assert_eq!(agent.say_as(path::ORDER, b"{}".to_vec(), &good).await.0, 200);
    for (what, body, header) in [
        ("another body", &b"{ }"[..], good.clone()),
        ("another path", b"{}", agent.channel.authorization("POST", path::RESULT, b"{}")),
        ("another key", b"{}", agent.twin().channel.authorization("POST", path::ORDER, b"{}")),
        ("no hmac", b"{}", agent.boot.hash()),
        ("nothing", b"{}", String::new()),
    ] {
        let (status, refusal) = agent.say_as(path::ORDER, body.to_vec(), &header).await;
        assert_eq!(status, 401, "{what}");
        assert!(refusal["reason"].is_string(), "{what}: {refusal}");
    }
    let unknown = format!("{}:{}", "ab".repeat(32), "cd".repeat(32));
    assert_eq!(agent.say_as(path::ORDER, b"{}".to_vec(), &unknown).await.0, 410);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_boot_id_claims_nothing() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let (first, second) = (server.boot(MAC).await, server.boot(MAC).await);
    assert_eq!(first.claim().await.0, 410, "a newer script has killed it");
    server.pass(Duration::from_secs(16 * 60));
    // The engine may have powered the machine on again already; both ways the boot id is dead.
    assert_eq!(second.claim().await.0, 410, "expired");
    assert_eq!(server.alarms("node-1").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_licence_is_for_its_disks_and_its_generation() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim().await.0, 200);
    let order = agent.order().await;
    let other = json!({ "wwn": null, "serial": "DISK2", "size_bytes": 1 << 30 });
    let body = json!({ "generation": 1, "licence": order["licence"], "disks": [other] });
    assert_eq!(agent.say(path::LICENCE, &body).await.0, 403);
    let body = json!({ "generation": 0, "licence": order["licence"], "disks": [order["disk"]] });
    assert_eq!(agent.say(path::LICENCE, &body).await.0, 403);
    assert_eq!(server.alarms("node-1").await, 1);
    assert!(server.machine("node-1").await.unwrap().licence.unwrap().spent.is_none());
    // Said about an older generation: it is told to ask anew, and nothing changes.
    assert_eq!(agent.done(0, "write-image").await.0, 409);
    assert_eq!(agent.done(1, "write-image").await.0, 409, "its licence is not spent");
    server.api(Method::POST, "/api/v1/machines/node-1/cancel", None).await;
    assert_eq!(agent.spend(1, &order).await.0, 410, "cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_step_fails_the_workflow_with_its_reason() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim().await.0, 200);
    let order = agent.order().await;
    assert_eq!(agent.spend(1, &order).await.0, 200);
    let reason = "image x: 3 bytes too short\u{1b}[2J";
    let body =
        json!({ "generation": 1, "step": "write-image", "outcome": { "failed": { "reason": reason } } });
    assert_eq!(agent.say(path::RESULT, &body).await.0, 200);
    let failed = server.until("node-1", |m| m.phase == Phase::Failed).await;
    assert_eq!(failed.reason, "write-image failed: image x: 3 bytes too short[2J");
    assert_eq!(server.post("/api/v1/machines/node-1/retry").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_and_log_are_shown_and_bounded() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim().await.0, 200);
    agent.order().await;
    let line = json!({ "uptime_ms": 5, "text": "writing\u{202e}" });
    let body =
        json!({ "generation": 1, "step": "write-image", "done_bytes": 7, "total_bytes": 9, "log": [line] });
    assert_eq!(agent.say(path::PROGRESS, &body).await.0, 200);
    assert_eq!(server.get("/api/v1/machines/node-1").await["progress"], json!([7, 9]));
    let log = server.get("/api/v1/machines/node-1/log").await;
    assert_eq!(log, json!([{ "uptime_ms": 5, "text": "writing" }]));
    let nested = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes();
    let header = agent.channel.authorization("POST", path::PROGRESS, &nested);
    assert_eq!(agent.say_as(path::PROGRESS, nested, &header).await.0, 400);
    let (status, _) = agent.say(path::PROGRESS, &json!({ "x": "y".repeat(2 << 20) })).await;
    assert_eq!(status, 413);
}
