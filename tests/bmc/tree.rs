//! Serves a recorded Redfish tree from memory: GET as recorded, sessions, PATCH merged in, Reset moving the power
//! state, everything else 404.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

pub type Documents = BTreeMap<String, Value>;

/// A tree and what was asked of it.
#[derive(Clone)]
pub struct Tree(Arc<Mutex<Inner>>);

struct Inner {
    documents: Documents,
    /// Changes: method, path, body.
    changes: Vec<(String, String, Value)>,
    sessions: i32,
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/redfish").join(name)
}

/// Reads `…/index.json` (and `custom.json`, an answer with a status) of an archive; `below` is the folder that is
/// served as `at`.
pub fn unpack(archive: &str, below: &str, at: &str) -> Documents {
    let file = std::fs::File::open(fixture(archive)).unwrap();
    let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(file));
    let mut documents = Documents::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let Some(folder) = path.strip_prefix(below).and_then(|path| path.strip_suffix("index.json")) else {
            continue;
        };
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let document = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        documents.insert(format!("{at}{folder}").trim_end_matches('/').to_owned(), document);
    }
    assert!(!documents.is_empty());
    documents
}

/// Single documents, each put where its `@odata.id` says.
pub fn loose(files: &[&str]) -> Documents {
    let read = |name: &&str| {
        let text = std::fs::read_to_string(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let document: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let id = document["@odata.id"].as_str().unwrap().trim_end_matches('/').to_owned();
        (id, document)
    };
    files.iter().map(read).collect()
}

impl Tree {
    pub async fn serve(documents: Documents) -> (Self, String) {
        let tree = Self(Arc::new(Mutex::new(Inner { documents, changes: vec![], sessions: 0 })));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(tree.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (tree, url)
    }

    pub fn changes(&self) -> Vec<(String, String, Value)> {
        self.0.lock().unwrap().changes.clone()
    }

    pub fn open_sessions(&self) -> i32 {
        self.0.lock().unwrap().sessions
    }
}

async fn answer(State(tree): State<Tree>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut inner = tree.0.lock().unwrap();
    let path = uri.path().trim_end_matches('/').to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if method == Method::POST && path.ends_with("/Sessions") {
        inner.sessions += 1;
        let headers = [("x-auth-token", "t".to_owned()), ("location", format!("{path}/tests-own"))];
        return (StatusCode::CREATED, headers, Json(json!({ "@odata.id": format!("{path}/tests-own") })))
            .into_response();
    }
    if method == Method::DELETE && path.ends_with("/tests-own") {
        inner.sessions -= 1;
        return StatusCode::NO_CONTENT.into_response();
    }
    if method == Method::GET {
        return match inner.documents.get(&path) {
            Some(document) => recorded(document),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    inner.changes.push((method.to_string(), path.clone(), body.clone()));
    if method == Method::PATCH
        && let Some(document) = inner.documents.get_mut(&path)
    {
        // A document may say how it takes a PATCH: with an answer, or with nothing done.
        if let Some(answer) = document.get("test-patch") {
            return recorded(answer);
        }
        merge(document, &body);
        return StatusCode::NO_CONTENT.into_response();
    }
    if let (Method::POST, Some(system)) = (method, path.strip_suffix("/Actions/ComputerSystem.Reset"))
        && let Some(document) = inner.documents.get_mut(system)
    {
        let off = matches!(body["ResetType"].as_str(), Some("ForceOff" | "GracefulShutdown"));
        document["PowerState"] = if off { "Off" } else { "On" }.into();
        return StatusCode::NO_CONTENT.into_response();
    }
    StatusCode::NOT_FOUND.into_response()
}

/// A recorded answer with a status is one of `{"status": n, "body": text}`.
fn recorded(document: &Value) -> Response {
    match (document["status"].as_u64(), document["body"].as_str()) {
        (Some(status), Some(body)) => {
            (StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap(), body.to_owned()).into_response()
        }
        _ => Json(document.clone()).into_response(),
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
