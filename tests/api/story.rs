//! The whole way of a machine, as its agent and its node walk it.

use super::{MAC, Server, played::token_of};
use provisioner_wire::machine::Phase;
use reqwest::StatusCode;
use serde_json::{Value, json};

async fn phone_home(server: &Server, base: &str, name: &str, token: &str) -> (StatusCode, String) {
    let url = format!("{base}/node/v1/{name}/ready");
    let response = server.http.post(url).json(&json!({ "token": token })).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_power_on_to_ready_and_back() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let agent = server.boot(MAC).await;
    agent.write().await;

    // The licence again, in the same boot: it resumes.
    let licence = server.machine("node-1").await.unwrap().licence.unwrap();
    let body = json!({ "generation": 1, "licence": licence.id, "disks": licence.disks });
    assert_eq!(agent.say("/agent/v1/licence", &body).await.1, json!({ "resume": true }));

    let (status, config) = agent.config("node-1", 1).await;
    assert_eq!(status, 200);
    let token = config.unwrap().files[0].contents.clone();
    assert_eq!(token, token_of(&agent.boot.hash()));
    // Before the node can have booted, its token is nobody's to show.
    assert_eq!(phone_home(&server, &server.plain, "node-1", &token).await.0, 403);
    assert_eq!(agent.done(1, "place-config").await.0, 200);
    assert_eq!(agent.order().await["order"], "reboot");
    assert_eq!(agent.done(1, "reboot").await.0, 200);
    server.until("node-1", |m| m.phase == Phase::Rebooting).await;

    // Every refusal looks the same.
    let wrong = phone_home(&server, &server.tls, "node-1", "wrong").await;
    assert_eq!(wrong.0, 403);
    assert_eq!(phone_home(&server, &server.tls, "nobody", &token).await, wrong);
    assert_eq!(phone_home(&server, &server.tls, "-", &token).await, wrong);

    assert_eq!(phone_home(&server, &server.tls, "node-1", &token).await.0, 200);
    let ready = server.until("node-1", |m| m.phase == Phase::Ready).await;
    assert!(ready.token.is_none() && ready.licence.is_none() && ready.claim.is_none());
    // The token is dead now, and the network boots its disk.
    assert_eq!(phone_home(&server, &server.tls, "node-1", &token).await, wrong);
    for _ in 0..5 {
        assert!(server.script(MAC).await.contains("sanboot"));
    }
    assert_eq!(server.machine("node-1").await.unwrap(), ready);

    let timeline = server.get("/api/v1/machines/node-1/events?limit=1000").await;
    let kinds: Vec<&str> = timeline.as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    for kind in ["declared", "provision", "script-served", "claimed", "spend-licence", "phoned-home", "heard"]
    {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    let after = timeline[3]["seq"].as_i64().unwrap();
    let page = server.get(&format!("/api/v1/machines/node-1/events?after={after}&limit=2")).await;
    assert_eq!(page, json!([timeline[4], timeline[5]]));
    let workflow = server.get("/api/v1/workflows/node-1").await;
    assert_eq!((&workflow["kind"], &workflow["running"]), (&json!("provision"), &json!(false)));

    release(&server).await;
    nowhere_in_clear(&server, &token).await;
}

/// Release: the agent wipes exactly the licensed disks, and the machine is Available again.
async fn release(server: &Server) {
    assert_eq!(server.post("/api/v1/machines/node-1/provision").await.0, 409);
    assert_eq!(server.post("/api/v1/machines/node-1/release").await.0, 200);
    server.until("node-1", |m| m.phase == Phase::Powering).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim().await.0, 200);
    let order = agent.order().await;
    assert_eq!(order["order"], "wipe", "{order}");
    let body = json!({ "generation": 2, "licence": order["licence"], "disks": order["disks"] });
    assert_eq!(agent.say("/agent/v1/licence", &body).await.0, 200);
    let disk = &order["disks"][0];
    let wiped = |done: &str, disk: &Value| {
        let sampled = json!({ "places": 256, "bytes_each": 65536, "with_data_before": 9, "zero_now": 9, "changed_now": 0 });
        let wiped = json!({ "disk": disk, "model": "X", "asked": "metadata", "done": done, "sampled": sampled, "seconds": 3 });
        json!({ "generation": 2, "step": "wipe", "outcome": { "done": {} }, "wiped": [wiped] })
    };
    let result = "/agent/v1/result";
    assert_eq!(agent.say(result, &wiped("metadata", disk)).await.0, 200);
    // Told again, also with other words and another disk: what is signed stays, and nothing comes to it.
    let other = json!({ "wwn": null, "serial": "STOLEN", "size_bytes": 5 });
    for again in [wiped("metadata", disk), wiped("nvme-format-erase", disk), wiped("metadata", &other)] {
        assert_eq!(agent.say(result, &again).await.0, 200);
    }
    assert_eq!(agent.done(2, "power-off").await.0, 200);
    server.until("node-1", |m| m.phase == Phase::Available).await;
    let all = server.get("/api/v1/wipe-certificates?machine=node-1").await;
    assert_eq!(all.as_array().unwrap().len(), 1, "{all:#}");
    let one = server.get(&format!("/api/v1/wipe-certificates/{}", all[0]["id"].as_str().unwrap())).await;
    assert_eq!(one, all[0]);
    let said: Value = serde_json::from_str(one["certificate"].as_str().unwrap()).unwrap();
    assert_eq!((&said["machine"], &said["generation"]), (&json!("node-1"), &json!(2)));
    assert_eq!((&said["wiped"]["done"], &said["wiped"]["disk"]), (&json!("metadata"), disk));
    assert!(said["begun_ms"].is_i64() && said["ended_ms"].is_i64(), "{said}");
    assert_eq!(server.get("/api/v1/wipe-certificates?machine=other").await, json!([]));
}

/// An agent whose report does not say what was asked for has not wiped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wipe_that_says_nothing_of_its_disks_has_failed() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    assert_eq!(server.post("/api/v1/machines/node-1/release").await.0, 200);
    server.until("node-1", |m| m.phase == Phase::Powering).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim().await.0, 200);
    let order = agent.order().await;
    let body = json!({ "generation": 1, "licence": order["licence"], "disks": order["disks"] });
    assert_eq!(agent.say("/agent/v1/licence", &body).await.0, 200);
    assert_eq!(agent.done(1, "wipe").await.0, 200);
    let failed = server.until("node-1", |m| m.phase == Phase::Failed).await;
    assert!(failed.reason.contains("does not say what it has done to the disk"), "{}", failed.reason);
    assert_eq!(server.get("/api/v1/wipe-certificates").await, json!([]));
}

/// Canaries: what was secret in this run stands in no file of the server but its own.
async fn nowhere_in_clear(server: &Server, token: &str) {
    let shown = server.get("/api/v1/machines/node-1").await.to_string()
        + &server.get("/api/v1/machines/node-1/events?limit=1000").await.to_string();
    let mut places = vec![("API".to_owned(), shown)];
    for entry in std::fs::read_dir(server.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("admin-token") {
            let bytes = std::fs::read(&path).unwrap();
            places.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    assert!(places.len() >= 3, "{places:?}");
    for (place, text) in places {
        for canary in ["canary-bmc-password", token, &*server.admin] {
            assert!(!text.contains(canary), "{canary} in {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_that_cannot_be_made_fails_the_workflow() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    let body = json!({ "profile": "unmintable" });
    server.api(reqwest::Method::POST, "/api/v1/machines/node-1/provision", Some(body)).await;
    server.until("node-1", |m| m.phase == Phase::Powering).await;
    let agent = server.boot(MAC).await;
    agent.write().await;
    let (status, refusal) = agent.config("node-1", 1).await;
    assert_eq!(
        (status, refusal.unwrap_err()["reason"].as_str().unwrap().contains("the issuer does not answer")),
        (StatusCode::UNPROCESSABLE_ENTITY, true)
    );
    let failed = server.until("node-1", |m| m.phase == Phase::Failed).await;
    assert!(failed.reason.contains("the issuer does not answer"), "{}", failed.reason);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_asked_for_twice_holds_one_token() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim().await.0, 200);
    assert_eq!(agent.config("node-1", 1).await.0, 409, "before the image is written");
    let agent = server.boot(MAC).await;
    agent.write().await;
    let first = agent.config("node-1", 1).await.1.unwrap();
    let token = server.machine("node-1").await.unwrap().token.unwrap();
    let second = agent.config("node-1", 1).await.1.unwrap();
    assert!(first == second);
    assert_eq!(server.machine("node-1").await.unwrap().token.unwrap(), token);
    assert_eq!(server.alarms("node-1").await, 0);
}
