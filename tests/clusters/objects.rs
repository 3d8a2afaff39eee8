//! The double's objects: versions, a log of changes, and the types they are held to.

use super::rbac::User;
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{
    api::{
        certificates::v1::CertificateSigningRequest,
        core::v1::{Node, Pod, Secret},
    },
    serde::{Serialize, de::DeserializeOwned},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    Node,
    Pod,
    Csr,
}

const CERTIFICATES: &str = "certificates.k8s.io";

impl Kind {
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        let all = [Self::Secret, Self::Node, Self::Pod, Self::Csr];
        all.into_iter().find(|k| k.group() == group && k.resource() == resource)
    }

    pub fn group(self) -> &'static str {
        if self == Self::Csr { CERTIFICATES } else { "" }
    }

    pub fn api_version(self) -> &'static str {
        if self == Self::Csr { "certificates.k8s.io/v1" } else { "v1" }
    }

    pub fn resource(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Node => "nodes",
            Self::Pod => "pods",
            Self::Csr => "certificatesigningrequests",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Csr => "CertificateSigningRequest",
        }
    }

    fn is_namespaced(self) -> bool {
        matches!(self, Self::Secret | Self::Pod)
    }

    /// Field selectors that the real API server supports for it.
    pub fn selectable(self, field: &str) -> bool {
        match field {
            "metadata.name" => true,
            "metadata.namespace" => self.is_namespaced(),
            "spec.nodeName" | "status.phase" | "spec.restartPolicy" => self == Self::Pod,
            "spec.unschedulable" => self == Self::Node,
            "spec.signerName" => self == Self::Csr,
            "type" => self == Self::Secret,
            _ => false,
        }
    }
}

/// Whether the object is one of its type, with no field that the type does not have.
pub fn strict(kind: Kind, object: &Value) -> Result<(), String> {
    fn read<T: DeserializeOwned + Serialize>(object: &Value) -> Result<(), String> {
        let typed: T = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
        let known = serde_json::to_value(&typed).map_err(|e| e.to_string())?;
        unknown(object, &known, "").map_or(Ok(()), |path| Err(format!("unknown field {path:?}")))
    }
    if object["kind"] != kind.word() || object["apiVersion"] != kind.api_version() {
        return Err(format!("not a {} {}", kind.api_version(), kind.word()));
    }
    match kind {
        Kind::Secret => read::<Secret>(object),
        Kind::Node => read::<Node>(object),
        Kind::Pod => read::<Pod>(object),
        Kind::Csr => read::<CertificateSigningRequest>(object),
    }
}

fn unknown(given: &Value, known: &Value, path: &str) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            let empty = matches!(value, Value::Null)
                || value.as_object().is_some_and(|o| o.is_empty())
                || value.as_array().is_some_and(Vec::is_empty);
            match known.get(key) {
                Some(known) => unknown(value, known, &path),
                None if empty => None,
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            given.iter().zip(known).find_map(|(given, known)| unknown(given, known, path))
        }
        _ => None,
    }
}

/// What the API server's own admission does and refuses.
pub fn admitted(kind: Kind, object: &mut Value, user: &User) -> Result<(), String> {
    if kind == Kind::Csr {
        object["spec"]["username"] = json!(user.name);
        object["spec"]["groups"] = json!(user.groups);
        return Ok(());
    }
    if kind != Kind::Secret {
        return Ok(());
    }
    if let Some(Value::Object(texts)) = object.as_object_mut().unwrap().remove("stringData") {
        for (key, text) in texts {
            object["data"][key] = json!(STANDARD.encode(text.as_str().ok_or("stringData is text")?));
        }
    }
    if object["type"] != "bootstrap.kubernetes.io/token" {
        return Ok(());
    }
    let data = |key: &str| {
        String::from_utf8(STANDARD.decode(object["data"][key].as_str().unwrap_or_default()).unwrap()).unwrap()
    };
    let good = |text: &str, length| {
        text.len() == length && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let id = data("token-id");
    if !good(&id, 6) || !good(&data("token-secret"), 16) {
        return Err("token-id or token-secret is not in form".into());
    }
    if object["metadata"]["name"] != format!("bootstrap-token-{id}") {
        return Err("the name is not bootstrap-token-<token-id>".into());
    }
    let expiration = data("expiration");
    // The token cleaner takes one that it cannot read for expired.
    let whole = expiration.ends_with('Z') && !expiration.contains('.');
    if !whole || expiration.parse::<k8s_openapi::jiff::Timestamp>().is_err() {
        return Err(format!("expiration {expiration:?} is not RFC 3339 in UTC"));
    }
    if data("auth-extra-groups").split(',').any(|g| !g.starts_with("system:bootstrappers:")) {
        return Err("a group outside system:bootstrappers:".into());
    }
    Ok(())
}

/// In whole seconds, as Kubernetes writes times.
pub fn now() -> k8s_openapi::jiff::Timestamp {
    let now = provisioner::clock::Clock::system().now();
    k8s_openapi::jiff::Timestamp::from_second(now.0 / 1000).unwrap()
}

type Key = (Kind, String, String);

/// Everything stored, and what happened to it.
#[derive(Default)]
pub struct Objects {
    version: u64,
    objects: BTreeMap<Key, Value>,
    log: Vec<(u64, &'static str, Key, Value)>,
    compacted: u64,
}

impl Objects {
    pub fn version(&self) -> u64 {
        self.version
    }

    fn key(kind: Kind, object: &Value) -> Key {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let namespace = if kind.is_namespaced() { text("namespace") } else { String::new() };
        (kind, namespace, text("name"))
    }

    pub fn put(&mut self, kind: Kind, mut object: Value) -> Value {
        self.version += 1;
        let key = Self::key(kind, &object);
        let before = self.objects.get(&key);
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = json!(self.version.to_string());
        match before {
            Some(before) => {
                meta["uid"] = before["metadata"]["uid"].clone();
                meta["creationTimestamp"] = before["metadata"]["creationTimestamp"].clone();
            }
            None => {
                if meta["uid"].is_null() {
                    meta["uid"] = json!(uuid::Uuid::new_v4().to_string());
                }
                if meta["creationTimestamp"].is_null() {
                    meta["creationTimestamp"] = json!(now().to_string());
                }
            }
        }
        object["kind"] = json!(kind.word());
        object["apiVersion"] = json!(kind.api_version());
        strict(kind, &object).unwrap_or_else(|why| panic!("{why}: {object}"));
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push((self.version, what, key.clone(), object.clone()));
        self.objects.insert(key, object.clone());
        object
    }

    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        self.objects.get(&(kind, namespace.to_owned(), name.to_owned())).cloned()
    }

    pub fn remove(&mut self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let object = self.objects.remove(&key)?;
        self.version += 1;
        self.log.push((self.version, "DELETED", key, object.clone()));
        Some(object)
    }

    pub fn list(&self, kind: Kind, namespace: &str, selector: &[(String, String)]) -> Vec<Value> {
        let all = self
            .objects
            .iter()
            .filter(|((k, n, _), _)| *k == kind && (namespace.is_empty() || n == namespace));
        all.map(|(_, object)| object.clone()).filter(|object| fits(object, selector)).collect()
    }

    /// What happened after `seen`, and up to where; an error where that is forgotten.
    pub fn since(
        &self,
        kind: Kind,
        namespace: &str,
        selector: &[(String, String)],
        seen: u64,
    ) -> Result<(Vec<Value>, u64), ()> {
        if seen < self.compacted {
            return Err(());
        }
        let news = self.log.iter().filter(|(version, _, (k, n, _), object)| {
            *version > seen
                && *k == kind
                && (namespace.is_empty() || n == namespace)
                && fits(object, selector)
        });
        let events = news.map(|(_, what, _, object)| json!({ "type": what, "object": object })).collect();
        Ok((events, self.version))
    }

    pub fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.log.clear();
    }
}

fn fits(object: &Value, selector: &[(String, String)]) -> bool {
    selector
        .iter()
        .all(|(path, value)| object.pointer(&format!("/{path}")).and_then(Value::as_str) == Some(value))
}

/// What a client asks first of all.
pub fn discovery(path: &str) -> Option<Value> {
    let resource = |name: &str, kind: &str, namespaced: bool, verbs: &[&str]| json!({ "name": name, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": verbs });
    let all = &["create", "delete", "get", "list", "patch", "update", "watch"];
    Some(match path {
        "/version" => {
            json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0", "platform": "linux/amd64" })
        }
        "/api" => json!({ "kind": "APIVersions", "versions": ["v1"] }),
        "/apis" => {
            let version = |v: &str| json!({ "groupVersion": v, "version": "v1" });
            let group = |name: &str| {
                let v = version(&format!("{name}/v1"));
                json!({ "name": name, "versions": [v], "preferredVersion": v })
            };
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group(CERTIFICATES), group("policy")] })
        }
        "/api/v1" => json!({ "kind": "APIResourceList", "groupVersion": "v1", "resources": [
            resource("nodes", "Node", false, all), resource("pods", "Pod", true, all),
            resource("secrets", "Secret", true, all),
            { "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy",
              "version": "v1", "kind": "Eviction", "verbs": ["create"] },
        ] }),
        "/apis/certificates.k8s.io/v1" => json!({ "kind": "APIResourceList",
            "groupVersion": "certificates.k8s.io/v1", "resources": [
            resource("certificatesigningrequests", "CertificateSigningRequest", false, all),
            resource("certificatesigningrequests/approval", "CertificateSigningRequest", false, &["get", "update"]),
        ] }),
        "/apis/policy/v1" => {
            json!({ "kind": "APIResourceList", "groupVersion": "policy/v1", "resources": [] })
        }
        _ => return None,
    })
}
