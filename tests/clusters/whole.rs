//! The real server program, the real agent and the double: from Off to a node that joined with its own token, and out
//! again; and no token or credential anywhere but on the machine's disk.

use super::{
    double::{Double, Fault, SERVICE_ACCOUNT},
    objects::Kind,
};
use crate::crash::site::{NAME, Site};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PROFILE: &str = "name: crash\nimage: crash\nos: cloud-init\ntemplate: tiny\nrole: worker\n\
    disk: {min_size: 8MiB}\nplace: {partition: {number: 1}, directory: /seed}\n\
    cluster: lab\ntoken: {issuer: kubernetes, ttl: 30m}\n\
    ready: {by: kubernetes-node, deadline: 10m, labels: {zone: a}}\n";

fn until<T>(site: &Site, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{what}: not yet\n{}", site.story());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn files(double: &Double) -> [(&'static str, String); 2] {
    let cluster = json!({ "name": "lab", "endpoint": double.url, "ca_certificate": double.ca,
        "kubernetes": { "credentials": { "file": "cluster-token" } } });
    [
        ("hardware/clusters/lab.yaml", cluster.to_string()),
        ("hardware/cluster-token", SERVICE_ACCOUNT.to_owned()),
    ]
}

fn phase(site: &Site) -> String {
    let machine: Value =
        serde_json::from_str(&site.api(reqwest::Method::GET, &format!("/api/v1/machines/{NAME}"))).unwrap();
    machine["phase"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_machine_joins_with_a_token_that_is_nowhere_else_and_leaves() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let double = runtime.block_on(Double::start());
    let files = files(&double);
    let mut site = Site::with(400, None, PROFILE, &files);
    let mut asked = false;
    until(&site, "installed", || {
        asked = asked || site.ask_to_provision();
        (site.machine.installs() > 0).then_some(())
    });
    let token = site.machine.token().unwrap();
    let secrets = double.all(Kind::Secret);
    let [secret] = secrets.as_slice() else { panic!("{secrets:#?}") };
    let id = token.split_once('.').unwrap().0;
    assert_eq!(secret["metadata"]["name"], format!("bootstrap-token-{id}"));
    let events = site.api(reqwest::Method::GET, &format!("/api/v1/machines/{NAME}/events"));
    assert!(events.contains("a token is asked for: kubernetes in the cluster lab"), "{events}");

    let node = |ready: &str| {
        json!({ "metadata": { "name": NAME, "labels": { "zone": "a" } }, "spec": {},
            "status": { "conditions": [{ "type": "Ready", "status": ready, "message": "canary says no CNI" }] } })
    };
    double.put(Kind::Node, node("False"));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(phase(&site), "rebooting");
    double.put(Kind::Node, node("True"));
    until(&site, "ready", || (phase(&site) == "ready").then_some(()));
    until(&site, "revoked", || double.all(Kind::Secret).is_empty().then_some(()));

    // What it was given is what would be rendered now, and a word stands for the token in both.
    let config = |rest: &str| -> Value {
        let path = format!("/api/v1/machines/{NAME}/config{rest}");
        serde_json::from_str(&site.api(reqwest::Method::GET, &path)).unwrap()
    };
    let (applied, rendered) = (config("/applied"), config(""));
    assert!(applied["generation"] == 1 && applied["applied_ms"].is_i64(), "{applied:#}");
    assert_eq!(applied["files"], rendered["files"]);
    let text = applied.to_string();
    assert!(text.contains("REDACTED") && !text.contains(&token), "{text}");

    // It leaves before anything is wiped.
    site.api(reqwest::Method::POST, &format!("/api/v1/machines/{NAME}/release"));
    until(&site, "left", || double.all(Kind::Node).is_empty().then_some(()));
    let shown = ["/machines", "/clusters", "/profiles", "/workflows", &format!("/machines/{NAME}/audit")]
        .map(|path| site.api(reqwest::Method::GET, &format!("/api/v1{path}")))
        .concat();
    assert!(shown.contains("stored"), "{shown}");
    site.end();
    let log = site.written().pop().unwrap().1;
    assert!(String::from_utf8_lossy(&log).contains("TRACE"), "the log does not say everything");
    let (_, half) = token.split_once('.').unwrap();
    for canary in [token.as_str(), half, SERVICE_ACCOUNT] {
        assert!(!shown.contains(canary) && !events.contains(canary), "{canary} is shown by the API");
        for (path, bytes) in site.written() {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} is in {}", path.display());
        }
    }
}

/// The Secret is made, its answer never comes, and the workflow is cancelled meanwhile.
#[test]
fn a_workflow_that_is_cancelled_while_its_token_is_made_leaves_none() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let double = runtime.block_on(Double::start());
    let mut site = Site::with(401, None, PROFILE, &files(&double));
    let mut asked = false;
    until(&site, "asked", || {
        asked = asked || site.ask_to_provision();
        // The pre-flight's dry run is over.
        (asked && double.asked("POST", "/api/v1/namespaces/kube-system/secrets") > 0).then_some(())
    });
    double.fault([Fault::Status(503), Fault::Unanswered]);
    until(&site, "made", || (double.all(Kind::Secret).len() == 1).then_some(()));
    assert_eq!(site.machine.installs(), 0, "there is no config without its token");
    site.api(reqwest::Method::POST, &format!("/api/v1/machines/{NAME}/cancel"));
    until(&site, "revoked", || double.all(Kind::Secret).is_empty().then_some(()));
    assert_eq!(phase(&site), "failed");
    assert_eq!(site.machine.installs(), 0);
    site.end();
}
