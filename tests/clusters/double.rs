//! A Kubernetes API as strict as the real one where we use it: objects are held to k8s-openapi's types (no unknown
//! field), resource versions, 409, 410, 429, watches with bookmarks, bootstrap tokens that expire, and RBAC read from
//! the very file that operators apply.

use super::{
    objects::{Kind, Objects, strict},
    rbac::{Rights, User},
};
use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use provisioner::http::listen::Bound;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers this status, with `Retry-After: 1`.
    Status(u16),
    /// Does what was asked, and never answers.
    Unanswered,
}

pub struct State_ {
    pub objects: Objects,
    pub faults: VecDeque<Fault>,
    /// Every request: who, method, path, status.
    pub log: Vec<(String, String, u16)>,
    /// How many evictions a pod still refuses.
    pub budgets: BTreeMap<String, u32>,
    /// Added to the clock that tokens expire by.
    pub later: Duration,
    /// The cluster is away: every connection is closed without an answer.
    pub away: bool,
}

#[derive(Clone)]
pub struct Double {
    pub state: Arc<Mutex<State_>>,
    changed: watch::Sender<u64>,
    rights: Arc<Rights>,
    pub url: String,
    pub ca: String,
    bearers: Arc<HashMap<String, User>>,
}

/// Bearer of the service account that the shipped RBAC file names.
pub const SERVICE_ACCOUNT: &str = "canary-service-account-token";
pub const ADMIN: &str = "double-admin-token";

impl Double {
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let now = provisioner::clock::Clock::system().now();
        let tls = provisioner::http::tls::server_config(folder.path(), "127.0.0.1", now).unwrap();
        let ca = std::fs::read_to_string(provisioner::http::tls::ca_file(folder.path())).unwrap();
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("https://{}", bound.address());
        let bearers = HashMap::from([
            (SERVICE_ACCOUNT.to_owned(), User::service_account("provisioner", "provisioner")),
            (ADMIN.to_owned(), User { name: "admin".into(), groups: vec!["system:masters".into()] }),
        ]);
        let state = State_ {
            objects: Objects::default(),
            faults: VecDeque::new(),
            log: Vec::new(),
            budgets: BTreeMap::new(),
            later: Duration::ZERO,
            away: false,
        };
        let double = Self {
            state: Arc::new(Mutex::new(state)),
            changed: watch::channel(0).0,
            rights: Arc::new(Rights::shipped()),
            url,
            ca,
            bearers: Arc::new(bearers),
        };
        let router = axum::Router::new().fallback(answer).with_state(double.clone());
        tokio::spawn(bound.tls(tls, router, std::future::pending()));
        double
    }

    /// Puts an object in, as the cluster's own controllers do.
    pub fn put(&self, kind: Kind, object: Value) -> Value {
        let made = self.state.lock().unwrap().objects.put(kind, object);
        self.changed.send_modify(|n| *n += 1);
        made
    }

    pub fn remove(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        let gone = self.state.lock().unwrap().objects.remove(kind, namespace, name).is_some();
        self.changed.send_modify(|n| *n += 1);
        gone
    }

    pub fn all(&self, kind: Kind) -> Vec<Value> {
        self.state.lock().unwrap().objects.list(kind, "", &[])
    }

    pub fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// Forgets what happened: older watches get 410.
    pub fn compact(&self) {
        self.state.lock().unwrap().objects.compact();
        self.changed.send_modify(|n| *n += 1);
    }

    /// Requests of this method whose path begins so.
    pub fn asked(&self, method: &str, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.log.iter().filter(|(m, p, _)| m == method && p.starts_with(path)).count()
    }

    fn user(&self, headers: &HeaderMap) -> Option<User> {
        let bearer = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        if let Some(user) = self.bearers.get(bearer) {
            return Some(user.clone());
        }
        let (id, secret) = bearer.split_once('.')?;
        let state = self.state.lock().unwrap();
        let found = state.objects.get(Kind::Secret, "kube-system", &format!("bootstrap-token-{id}"))?;
        let data = |key: &str| {
            String::from_utf8(STANDARD.decode(found["data"][key].as_str().unwrap_or_default()).unwrap())
                .unwrap()
        };
        let until: k8s_openapi::jiff::Timestamp = data("expiration").parse().ok()?;
        let now = super::objects::now() + state.later;
        let good =
            data("token-secret") == secret && data("usage-bootstrap-authentication") == "true" && now < until;
        let mut groups = vec!["system:bootstrappers".to_owned(), "system:authenticated".to_owned()];
        groups.extend(data("auth-extra-groups").split(',').map(str::to_owned));
        good.then(|| User { name: format!("system:bootstrap:{id}"), groups })
    }
}

/// `metav1.Status`, as every refusal is.
pub fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code });
    (StatusCode::from_u16(code).unwrap(), axum::Json(body)).into_response()
}

async fn answer(State(double): State<Double>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let fault = {
        let mut state = double.state.lock().unwrap();
        if state.away { Some(Fault::Status(503)) } else { state.faults.pop_front() }
    };
    let response = match fault {
        Some(Fault::Status(code)) => {
            let mut refusal = status(code, "InternalError", "a fault that a test has ordered");
            refusal.headers_mut().insert(header::RETRY_AFTER, "1".parse().unwrap());
            refusal
        }
        _ => double.done(&parts.method, &parts.uri, &parts.headers, &body).await,
    };
    let path = parts.uri.path().to_owned();
    double.state.lock().unwrap().log.push((parts.method.to_string(), path, response.status().as_u16()));
    if fault == Some(Fault::Unanswered) {
        std::future::pending::<()>().await;
    }
    response
}

struct Asked {
    kind: Kind,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

fn place(path: &str) -> Option<Asked> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let kind = Kind::of(group, rest.first()?)?;
    let owned = |index: usize| rest.get(index).map(|s| (*s).to_owned());
    Some(Asked { kind, namespace: namespace.to_owned(), name: owned(1), subresource: owned(2) })
}

impl Double {
    async fn done(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
        let query: BTreeMap<String, String> =
            reqwest::Url::parse(&format!("https://x{uri}")).unwrap().query_pairs().into_owned().collect();
        let Some(user) = self.user(headers) else { return status(401, "Unauthorized", "Unauthorized") };
        if let Some(document) = super::objects::discovery(uri.path()) {
            return axum::Json(document).into_response();
        }
        let Some(asked) = place(uri.path()) else {
            return status(404, "NotFound", "the server could not find the requested resource");
        };
        let watching = query.get("watch").is_some_and(|w| w == "1" || w == "true");
        let verb = match (method.as_str(), &asked.name) {
            ("GET", Some(_)) => "get",
            ("GET", None) if watching => "watch",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", Some(_)) => "delete",
            _ => return status(405, "MethodNotAllowed", "not here"),
        };
        let resource = match &asked.subresource {
            Some(sub) => format!("{}/{sub}", asked.kind.resource()),
            None => asked.kind.resource().to_owned(),
        };
        if !self.rights.allow(&user, verb, asked.kind.group(), &resource, &asked.namespace) {
            let message = format!(
                "{} is forbidden: User {:?} cannot {verb} resource {resource:?}",
                asked.kind.resource(),
                user.name
            );
            return status(403, "Forbidden", &message);
        }
        match verb {
            "watch" => self.watched(&asked, &query).await,
            "get" | "list" => self.read(&asked, &query),
            "delete" => self.delete(&asked),
            "patch" => self.patch(&asked, headers, body),
            _ => self.write(&asked, &user, &query, body),
        }
    }

    fn read(&self, asked: &Asked, query: &BTreeMap<String, String>) -> Response {
        let state = self.state.lock().unwrap();
        if let Some(name) = &asked.name {
            return match state.objects.get(asked.kind, &asked.namespace, name) {
                Some(object) => axum::Json(object).into_response(),
                None => missing(asked),
            };
        }
        let Ok(selector) = selectors(asked.kind, query) else {
            return status(400, "BadRequest", "field label not supported");
        };
        let items = state.objects.list(asked.kind, &asked.namespace, &selector);
        let list = json!({ "kind": format!("{}List", asked.kind.word()), "apiVersion": asked.kind.api_version(),
            "metadata": { "resourceVersion": state.objects.version().to_string() }, "items": items });
        axum::Json(list).into_response()
    }

    async fn watched(&self, asked: &Asked, query: &BTreeMap<String, String>) -> Response {
        let Ok(selector) = selectors(asked.kind, query) else {
            return status(400, "BadRequest", "field label not supported");
        };
        let from: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        let seconds: u64 = query.get("timeoutSeconds").and_then(|v| v.parse().ok()).unwrap_or(300);
        let (kind, namespace) = (asked.kind, asked.namespace.clone());
        let (send, receive) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(16);
        let (double, mut changed) = (self.clone(), self.changed.subscribe());
        tokio::spawn(async move {
            let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
            let mut seen = from;
            loop {
                let events = double.state.lock().unwrap().objects.since(kind, &namespace, &selector, seen);
                let (lines, ended) = match events {
                    Ok((events, version)) => {
                        seen = version;
                        let bookmark = json!({ "type": "BOOKMARK", "object": { "kind": kind.word(),
                            "apiVersion": kind.api_version(),
                            "metadata": { "resourceVersion": seen.to_string() } } });
                        (events.into_iter().chain([bookmark]).collect::<Vec<_>>(), false)
                    }
                    Err(()) => {
                        let gone = json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
                            "message": "too old resource version" });
                        (vec![json!({ "type": "ERROR", "object": gone })], true)
                    }
                };
                for line in lines {
                    // In two pieces: a reader must not take a packet for an event.
                    let text = format!("{line}\n").into_bytes();
                    let (one, two) = text.split_at(text.len() / 2);
                    for piece in [one, two] {
                        if send.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                            return;
                        }
                    }
                }
                let over = tokio::time::timeout_at(until, changed.changed()).await.is_err();
                if ended || over {
                    return;
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
        Response::builder()
            .header("content-type", "application/json")
            .body(Body::from_stream(stream))
            .unwrap()
    }

    fn delete(&self, asked: &Asked) -> Response {
        let name = asked.name.as_deref().unwrap();
        match self.remove(asked.kind, &asked.namespace, name) {
            true => axum::Json(json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }))
                .into_response(),
            false => missing(asked),
        }
    }

    fn patch(&self, asked: &Asked, headers: &HeaderMap, body: &Bytes) -> Response {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.contains("merge-patch+json") {
            return status(415, "UnsupportedMediaType", "the body of the request was in an unknown format");
        }
        let name = asked.name.as_deref().unwrap();
        let found = self.state.lock().unwrap().objects.get(asked.kind, &asked.namespace, name);
        let Some(mut object) = found else { return missing(asked) };
        merge(&mut object, &serde_json::from_slice(body).unwrap());
        match strict(asked.kind, &object) {
            Ok(()) => axum::Json(self.put(asked.kind, object)).into_response(),
            Err(why) => status(400, "BadRequest", &why),
        }
    }

    fn write(&self, asked: &Asked, user: &User, query: &BTreeMap<String, String>, body: &Bytes) -> Response {
        let Ok(mut object) = serde_json::from_slice::<Value>(body) else {
            return status(400, "BadRequest", "couldn't get version/kind; json parse error");
        };
        if asked.subresource.as_deref() == Some("eviction") {
            return self.evict(asked, &object);
        }
        if let Err(why) = strict(asked.kind, &object) {
            return status(400, "BadRequest", &format!("strict decoding error: {why}"));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let before = self.state.lock().unwrap().objects.get(asked.kind, &asked.namespace, &name);
        if asked.subresource.as_deref() == Some("approval") {
            let Some(mut before) = before else { return missing(asked) };
            if object["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
                return status(
                    409,
                    "Conflict",
                    "the object has been modified; please apply your changes to it",
                );
            }
            // Only the conditions are taken from an approval.
            before["status"]["conditions"] = object["status"]["conditions"].clone();
            return axum::Json(self.put(asked.kind, before)).into_response();
        }
        if before.is_some() {
            return status(
                409,
                "AlreadyExists",
                &format!("{} {name:?} already exists", asked.kind.resource()),
            );
        }
        if let Err(why) = super::objects::admitted(asked.kind, &mut object, user) {
            return status(422, "Invalid", &why);
        }
        let made = match query.get("dryRun").map(String::as_str) {
            Some("All") => object,
            _ => self.put(asked.kind, object),
        };
        (StatusCode::CREATED, axum::Json(made)).into_response()
    }

    fn evict(&self, asked: &Asked, eviction: &Value) -> Response {
        let name = asked.name.clone().unwrap();
        let mut state = self.state.lock().unwrap();
        let Some(pod) = state.objects.get(Kind::Pod, &asked.namespace, &name) else { return missing(asked) };
        let wanted = &eviction["deleteOptions"]["preconditions"]["uid"];
        if eviction["kind"] != "Eviction" || eviction["apiVersion"] != "policy/v1" {
            return status(400, "BadRequest", "not a policy/v1 Eviction");
        }
        if !wanted.is_null() && *wanted != pod["metadata"]["uid"] {
            return status(409, "Conflict", "the UID in the precondition does not match");
        }
        if let Some(left) = state.budgets.get_mut(&name).filter(|left| **left > 0) {
            *left -= 1;
            let mut refusal = status(
                429,
                "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.",
            );
            refusal.headers_mut().insert(header::RETRY_AFTER, "1".parse().unwrap());
            return refusal;
        }
        drop(state);
        self.remove(Kind::Pod, &asked.namespace, &name);
        (
            StatusCode::CREATED,
            axum::Json(json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })),
        )
            .into_response()
    }
}

fn missing(asked: &Asked) -> Response {
    let name = asked.name.as_deref().unwrap_or_default();
    status(404, "NotFound", &format!("{} {name:?} not found", asked.kind.resource()))
}

fn selectors(kind: Kind, query: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, ()> {
    let Some(text) = query.get("fieldSelector").filter(|t| !t.is_empty()) else { return Ok(Vec::new()) };
    text.split(',')
        .map(|one| {
            let (field, value) = one.split_once('=').ok_or(())?;
            let value = value.trim_start_matches('=');
            kind.selectable(field).then(|| (field.replace('.', "/"), value.to_owned())).ok_or(())
        })
        .collect()
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                match value {
                    Value::Null => drop(into.remove(key)),
                    _ => merge(into.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}
