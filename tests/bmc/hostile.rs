//! BMCs that mean harm or are broken beyond measure, and what must never leave the client.

use super::{
    FAST, LONG, close, open, simulated, target,
    tree::{Documents, Tree, loose},
};
use axum::{Router, http::StatusCode, response::IntoResponse, routing::any};
use provisioner::bmc::{Bmc, Cause, NetBoot, OverrideSet, PowerChange, redfish::Redfish};
use serde_json::{Value, json};
use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A healthy small tree to be spoilt.
fn lenovo() -> Documents {
    loose(&[
        "bmclib/lenovo/serviceroot.json",
        "bmclib/lenovo/systems.json",
        "bmclib/lenovo/system.lenovo.json",
    ])
}

/// Another server, and how often it was asked.
async fn elsewhere() -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let router = Router::new().fallback(any(async move || {
        count.fetch_add(1, Ordering::SeqCst);
        StatusCode::OK
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

async fn opened(documents: Documents) -> (Tree, Result<Redfish, provisioner::bmc::BmcError>) {
    let (tree, url) = Tree::serve(documents).await;
    (tree, Redfish::open(target(&url, "root", "calvin", None), FAST, LONG).await)
}

#[tokio::test]
async fn links_and_actions_of_other_hosts_get_nothing() {
    let (other, asked) = elsewhere().await;
    let mut documents = lenovo();
    documents.get_mut("/redfish/v1/Systems").unwrap()["Members"] =
        json!([{ "@odata.id": format!("{other}/redfish/v1/Systems/1") }]);
    let system = documents.get_mut("/redfish/v1/Systems/1").unwrap();
    system["Actions"]["#ComputerSystem.Reset"]["target"] = json!(format!("{other}/reset"));
    let (tree, bmc) = opened(documents).await;
    let bmc = bmc.unwrap();
    let error = bmc.set_power(PowerChange::ForceOff, LONG).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Refused { status: 0, .. }), "{error}");
    close(bmc).await;
    assert_eq!((asked.load(Ordering::SeqCst), tree.open_sessions()), (0, 0));
}

#[tokio::test]
async fn a_redirect_takes_no_credentials_along() {
    let (other, asked) = elsewhere().await;
    let root = lenovo().remove("/redfish/v1").unwrap();
    let router = Router::new()
        .route("/redfish/v1", any(async move || axum::Json(root)))
        .fallback(any(async move || (StatusCode::TEMPORARY_REDIRECT, [("location", other)]).into_response()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let error = Redfish::open(target(&url, "root", "calvin", None), FAST, LONG).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Refused { status: 307, .. }), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_collection_without_end_ends() {
    let mut documents = lenovo();
    documents.get_mut("/redfish/v1/Systems").unwrap()["Members@odata.nextLink"] =
        json!("/redfish/v1/Systems");
    let (tree, bmc) = opened(documents).await;
    let error = bmc.unwrap_err();
    assert!(matches!(error.cause, Cause::Protocol(_)), "{error}");
    assert_eq!(tree.open_sessions(), 0);
}

#[tokio::test]
async fn an_account_whose_password_must_change_walks_no_tree() {
    let body =
        json!({"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.8.PasswordChangeRequired"}]}});
    let mut documents = lenovo();
    documents.insert("/redfish/v1/Systems".to_owned(), json!({"status": 403, "body": body.to_string()}));
    let (tree, bmc) = opened(documents).await;
    let error = bmc.unwrap_err();
    assert_eq!(error.cause, Cause::PasswordChangeRequired);
    assert!(!error.is_transient() && tree.open_sessions() == 0);
}

const SYSTEM: &str = "/redfish/v1/Systems/1";

/// AMI firmware under another vendor's name: it tells where to go only when it is asked.
#[tokio::test]
async fn a_system_that_points_to_its_future_state() {
    let mut documents = lenovo();
    let boot = documents[SYSTEM]["Boot"].clone();
    let refusal = json!({"error": {"@Message.ExtendedInfo": [{
        "MessageId": "Ami.1.0.OperationSupportedInFutureStateURI",
        "Message": "The property can be changed in the future state only." }]}});
    documents.get_mut(SYSTEM).unwrap()["test-patch"] = json!({"status": 400, "body": refusal.to_string()});
    let future = json!({"@odata.id": format!("{SYSTEM}/SD"), "@odata.etag": "\"7\"", "Boot": boot});
    documents.insert(format!("{SYSTEM}/SD"), future);
    let (tree, bmc) = opened(documents).await;
    let bmc = bmc.unwrap();
    assert_eq!(bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap(), OverrideSet::Once);
    let paths: Vec<String> = tree.changes().into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths, [SYSTEM.to_owned(), format!("{SYSTEM}/SD")]);
    close(bmc).await;
}

#[tokio::test]
async fn a_patch_that_is_taken_but_not_done_is_no_success() {
    let mut documents = lenovo();
    documents.get_mut(SYSTEM).unwrap()["test-patch"] = json!({"status": 200, "body": "{}"});
    let (_tree, bmc) = opened(documents).await;
    let bmc = bmc.unwrap();
    let error = bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Refused { status: 0, .. }), "{error}");
    close(bmc).await;
}

/// Any property of any document the client reads, replaced by something else: an answer or an error, never a panic,
/// never a session left.
#[tokio::test]
async fn every_property_of_a_system_spoilt() {
    let documents = lenovo();
    let keys: Vec<String> = documents["/redfish/v1/Systems/1"].as_object().unwrap().keys().cloned().collect();
    for key in keys {
        for wrong in [Value::Null, json!(7), json!("x"), json!([]), json!({}), json!([null, 7])] {
            let mut documents = documents.clone();
            documents.get_mut("/redfish/v1/Systems/1").unwrap()[&key] = wrong;
            let (tree, bmc) = opened(documents).await;
            let Ok(bmc) = bmc else {
                assert_eq!(tree.open_sessions(), 0, "{key}");
                continue;
            };
            let _ = bmc.identity(LONG).await;
            let _ = bmc.network_boot_once(NetBoot::Pxe, LONG).await;
            close(bmc).await;
            assert_eq!(tree.open_sessions(), 0, "{key}");
        }
    }
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn passwords_and_tokens_are_in_no_log_even_at_trace() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_max_level(tracing::Level::TRACE);
    subscriber.try_init().unwrap();
    for sessions in [true, false] {
        let (sim, _) = simulated(false, |config| {
            config.session_service = sessions;
            config.tls = sessions;
        })
        .await;
        let bmc = open(&sim).await.unwrap();
        println!("{bmc:?}");
        bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap();
        bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
        sim.forget_sessions();
        bmc.power(LONG).await.unwrap();
        close(bmc).await;
        let wrong = target(&sim.url(), "admin", "wrong-canary", None);
        let error = Redfish::open(wrong, FAST, LONG).await.unwrap_err();
        tracing::error!(?error, %error, "as the engine would");
    }
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("TRACE") && log.contains("resetting"), "nothing was caught: {log}");
    for secret in ["canary", "token-1", "YWRtaW46"] {
        let at = log.find(secret);
        assert_eq!(
            at,
            None,
            "{secret}: {}",
            &log[at.unwrap_or(0).saturating_sub(200)..][..400.min(log.len())]
        );
    }
}
