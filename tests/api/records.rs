//! Records through the API: what is checked, what is kept, what is told.

use super::{MAC, Server, hardware};
use provisioner::store;
use provisioner_wire::machine::Phase;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_record_is_named_by_its_path_and_changes_nothing() {
    let server = Server::start().await;
    server.declare_profile().await;
    let path = "/api/v1/machines/node-1";
    let (status, problem) = server.api(Method::PUT, path, Some(hardware("node-1", "nonsense"))).await;
    assert_eq!(status, 422);
    assert_eq!(problem["type"], "urn:provisioner:problem:invalid");
    assert_eq!(problem["problems"][0]["place"], "nics[0].mac");
    for (content_type, body, expected) in [
        ("application/json", "{\"name\":", 400),
        ("application/json", "{} x", 400),
        ("text/plain", "{}", 415),
        ("application/json", &*format!("\"{}\"", "x".repeat(2 << 20)), 413),
    ] {
        let request = || {
            let request = server.http.put(format!("{}{path}", server.tls)).bearer_auth(&server.admin);
            // A refusal before the body is read ends the connection.
            let request = request.header(header::CONNECTION, "close");
            request.header(header::CONTENT_TYPE, content_type).body(body.to_owned()).send()
        };
        // The client may still be writing when the connection ends, and then does not come to read the answer.
        let response = match request().await {
            Err(_) if expected == 413 => request().await,
            first => first,
        };
        let response = response.unwrap();
        assert_eq!(response.status(), expected, "{content_type} {:.20}", body);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
    let (status, problem) =
        server.api(Method::POST, "/api/v1/machines/node-1/provision", Some(json!({ "profil": "x" }))).await;
    assert_eq!((status, problem["problems"][0]["place"].as_str()), (StatusCode::BAD_REQUEST, Some("profil")));
    assert_eq!(server.get("/api/v1/machines").await, json!([]));
    assert_eq!(server.api(Method::GET, path, None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_password_is_sealed_and_never_comes_back() {
    let server = Server::start().await;
    let view = server.declare("node-1", MAC).await;
    assert_eq!((&view["phase"], &view["bmc"]), (&json!("available"), &json!("https://node-1.bmc.example")));
    assert_eq!(view["labels"], json!({ "rack": "a1" }));
    let details = server.get("/api/v1/machines/node-1").await;
    assert_eq!(details["hardware"]["bmc"]["password"], "stored");
    let mut tx = server.db().read().await.unwrap();
    let sealed = store::secrets::get(&mut tx, "node-1", "bmc-password").await.unwrap().unwrap();
    assert_eq!(sealed.len(), "canary-bmc-password".len());
    drop(tx);
    assert_eq!(server.api(Method::DELETE, "/api/v1/machines/node-1", None).await.0, 204);
    let mut tx = server.db().read().await.unwrap();
    assert_eq!(store::secrets::get(&mut tx, "node-1", "bmc-password").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_has_one_machine() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    let (status, problem) =
        server.api(Method::PUT, "/api/v1/machines/node-2", Some(hardware("node-2", MAC))).await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["problems"][0]["place"], "nics[0].mac");
    assert!(problem["detail"].as_str().unwrap().contains(MAC), "{problem}");
    assert!(server.machine("node-2").await.is_none());
    let mut tx = server.db().read().await.unwrap();
    let kept: Option<Value> =
        store::declared::get(&mut tx, store::declared::Kind::Machine, "node-2").await.unwrap();
    assert_eq!(kept, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_machine_is_not_forgotten_by_accident() {
    let server = Server::start().await;
    server.powered("node-1", MAC).await;
    let (status, problem) = server.api(Method::DELETE, "/api/v1/machines/node-1", None).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(server.api(Method::DELETE, "/api/v1/machines/node-1?force=true", None).await.0, 204);
    assert!(server.machine("node-1").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_profile_is_told_before_any_power_change() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    let body = Some(json!({ "profile": "broken" }));
    let (status, problem) = server.api(Method::POST, "/api/v1/machines/node-1/provision", body).await;
    assert_eq!(status, 422);
    assert!(
        problem["detail"].as_str().unwrap().contains("user-data:3:7: node.gateway has no value"),
        "{problem}"
    );
    assert_eq!(server.machine("node-1").await.unwrap().phase, Phase::Available);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_and_images_come_and_go() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    for (kind, record) in [("profiles", super::profile()), ("images", super::image())] {
        let name = record["name"].as_str().unwrap();
        let kept = server.get(&format!("/api/v1/{kind}/{name}")).await;
        assert_eq!((&kept["name"], &kept["template"]), (&record["name"], &record["template"]));
        assert_eq!(server.get(&format!("/api/v1/{kind}")).await, json!([kept]));
    }
    let (status, problem) = server.api(Method::DELETE, "/api/v1/profiles/debian", None).await;
    assert_eq!(
        (status, problem["detail"].as_str().unwrap().contains("there is no profile debian")),
        (StatusCode::CONFLICT, true)
    );
    for path in ["machines/node-1", "profiles/debian", "images/debian-12"] {
        assert_eq!(server.api(Method::DELETE, &format!("/api/v1/{path}"), None).await.0, 204, "{path}");
    }
    assert_eq!(server.api(Method::DELETE, "/api/v1/images/debian-12", None).await.0, 404);
    assert_eq!(server.get("/api/v1/leases").await, json!([]));
}

/// Reads the stream until `wanted` is in it.
async fn read_until(response: &mut reqwest::Response, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let chunk = tokio::time::timeout(Duration::from_secs(10), response.chunk()).await;
        let bytes = chunk.unwrap_or_else(|_| panic!("no {wanted} in {text}")).unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_streamed_and_go_on_where_they_were_left() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    server.declare("node-2", "52:54:00:00:00:02").await;
    let open = |after: Option<i64>| {
        let mut request = server
            .http
            .get(format!("{}/api/v1/events?machine=node-1", server.tls))
            .bearer_auth(&server.admin);
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        async move { request.send().await.unwrap() }
    };
    let mut live = open(None).await;
    assert_eq!(live.headers()[header::CONTENT_TYPE], "text/event-stream");
    for name in ["node-2", "node-1"] {
        server.post(&format!("/api/v1/machines/{name}/inspect")).await;
    }
    let text = read_until(&mut live, "\"phase\":\"powering\"").await;
    assert!(text.contains("event: timeline") && text.contains("asked to inspect"), "{text}");
    assert!(!text.contains("node-2"), "{text}");
    // From the beginning again, with the numbers it was left at.
    let again = read_until(&mut open(Some(0)).await, "asked to inspect").await;
    assert!(again.contains("\"text\":\"declared\""), "{again}");
    let future = read_until(&mut open(Some(1_000_000)).await, "\n\n").await;
    assert!(future.contains("event: resync"), "{future}");
}
