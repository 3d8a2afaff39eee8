//! Who gets in: every route of the OpenAPI document, each role, each listener.

use super::{MAC, Server};
use provisioner::http::{
    api,
    auth::{self, RULES, Role},
};
use reqwest::{Method, StatusCode};
use std::collections::BTreeSet;

/// Every operation of the document: method and path.
fn operations() -> Vec<(Method, String)> {
    let document = serde_json::to_value(api::document()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in
            item.as_object().unwrap().keys().filter(|k| !["parameters", "summary"].contains(&k.as_str()))
        {
            all.push((method.to_uppercase().parse().unwrap(), path.clone()));
        }
    }
    all
}

#[test]
fn every_operation_has_exactly_one_rule() {
    let documented: BTreeSet<String> = operations().iter().map(|(m, p)| format!("{m} {p}")).collect();
    let ruled: BTreeSet<String> = RULES.iter().map(|(m, p, _)| format!("{m} {p}")).collect();
    assert_eq!(documented, ruled);
    assert_eq!(RULES.len(), ruled.len());
}

#[test]
fn openapi_json_is_the_document_that_is_served() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let now = api::document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("PROVISIONER_UPDATE_OPENAPI").is_some() {
        std::fs::write(file, &now).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(kept == now, "openapi.json is old: run this test with PROVISIONER_UPDATE_OPENAPI=1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_route_asks_who_and_then_whether() {
    let server = Server::start().await;
    server.declare("node-1", MAC).await;
    let now = server.engine.now();
    let viewer = auth::issue(server.db(), "v", Role::Viewer, now).await.unwrap();
    let operator = auth::issue(server.db(), "o", Role::Operator, now).await.unwrap();
    let status = async |base: &str, method: &Method, path: &str, token: Option<&str>| {
        let path = path.replace("{name}", "nobody").replace("{machine}", "nobody");
        let mut request = server.http.request(method.clone(), format!("{base}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap().status()
    };
    for (method, path, role) in RULES {
        let path = *path;
        for base in [&server.tls, &server.plain] {
            assert_eq!(status(base, method, path, None).await, 401, "{method} {path}");
            assert_eq!(status(base, method, path, Some("prov_wrong")).await, 401, "{method} {path}");
        }
        for (has, token) in
            [(Role::Viewer, &viewer), (Role::Operator, &operator), (Role::Admin, &server.admin)]
        {
            let got = status(&server.tls, method, path, Some(token)).await;
            let forbidden = got == StatusCode::FORBIDDEN;
            assert_eq!(forbidden, has < *role, "{method} {path} as {has}: {got}");
            assert_ne!(got, StatusCode::UNAUTHORIZED, "{method} {path} as {has}");
        }
    }
    assert_eq!(status(&server.tls, &Method::GET, "/api/v1/nothing", None).await, 401);
    assert_eq!(status(&server.tls, &Method::GET, "/api/v1/nothing", Some(&viewer)).await, 404);
    assert_eq!(status(&server.tls, &Method::PATCH, "/api/v1/machines", Some(&server.admin)).await, 405);
    for open in ["/healthz", "/api/v1/openapi.json", "/api/docs/"] {
        assert_eq!(status(&server.tls, &Method::GET, open, None).await, 200, "{open}");
    }
    // What boots is on the plain listener only, where firmware is not served by TLS.
    assert_eq!(
        status(&server.tls, &Method::GET, "/boot/52-54-00-00-00-01.ipxe", Some(&server.admin)).await,
        404
    );
}
