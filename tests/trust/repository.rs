//! A TUF repository that signs whatever a test wants, with Ed25519 keys of its own.

use olpc_cjson::CanonicalFormatter;
use provisioner_wire::{chunks::Sha, ids::hex};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Serialize;
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

pub const TARGET: &str = "images/i.img";
const FAR: &str = "2099-01-01T00:00:00Z";

/// Who signs: a seed for each key.
#[derive(Debug, Clone)]
pub struct Keys {
    pub root: Vec<u8>,
    pub root_threshold: u32,
    pub timestamp: u8,
    pub snapshot: u8,
    pub targets: u8,
}

#[derive(Debug, Clone)]
pub struct Repository {
    pub folder: PathBuf,
    pub keys: Keys,
    /// Of timestamp, snapshot and targets.
    pub versions: [u64; 3],
    pub expires: [&'static str; 3],
    pub targets: Value,
    pub delegations: Option<Value>,
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub fn id(seed: u8) -> String {
    Sha::of(&[seed]).to_string()
}

pub fn key(seed: u8) -> Value {
    let public = hex(pair(seed).public_key().as_ref());
    json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}})
}

pub fn role(seeds: &[u8], threshold: u32) -> Value {
    json!({"keyids": seeds.iter().map(|s| id(*s)).collect::<Vec<_>>(), "threshold": threshold})
}

/// `signed` with the signatures of these keys.
pub fn sign(signed: &Value, seeds: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut message, CanonicalFormatter::new());
    signed.serialize(&mut writer).unwrap();
    let signatures: Vec<Value> = seeds
        .iter()
        .map(|seed| json!({"keyid": id(*seed), "sig": hex(pair(*seed).sign(&message).as_ref())}))
        .collect();
    serde_json::to_vec(&json!({"signatures": signatures, "signed": signed})).unwrap()
}

fn document(kind: &str, version: u64, expires: &str, body: &Value) -> Value {
    let mut signed = json!({"_type": kind, "spec_version": "1.0.31", "version": version, "expires": expires});
    signed.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    signed
}

pub fn target(bytes: &[u8]) -> Value {
    json!({"length": bytes.len(), "hashes": {"sha256": Sha::of(bytes).to_string()}})
}

impl Repository {
    pub fn new(folder: PathBuf, image: &[u8]) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let keys = Keys { root: vec![1], root_threshold: 1, timestamp: 2, snapshot: 3, targets: 4 };
        Self {
            folder,
            keys,
            versions: [1; 3],
            expires: [FAR; 3],
            targets: json!({ TARGET: target(image) }),
            delegations: None,
        }
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.join(name), bytes).unwrap();
    }

    pub fn root(&self, version: u64, expires: &str) -> Value {
        let k = &self.keys;
        let seeds = [&k.root[..], &[k.timestamp, k.snapshot, k.targets]].concat();
        let keys: serde_json::Map<_, _> = seeds.iter().map(|s| (id(*s), key(*s))).collect();
        let body = json!({"consistent_snapshot": true, "keys": keys, "roles": {
            "root": role(&k.root, k.root_threshold), "timestamp": role(&[k.timestamp], 1),
            "snapshot": role(&[k.snapshot], 1), "targets": role(&[k.targets], 1)}});
        document("root", version, expires, &body)
    }

    /// `VERSION.root.json`, signed by `signers`.
    pub fn publish_root(&self, version: u64, signers: &[u8]) -> Vec<u8> {
        let bytes = sign(&self.root(version, FAR), signers);
        self.put(&format!("{version}.root.json"), &bytes);
        bytes
    }

    /// Targets, snapshot and timestamp as they are said to be.
    pub fn publish(&self) {
        let ([timestamp, snapshot, targets], k) = (self.versions, &self.keys);
        let mut body = json!({"targets": self.targets});
        if let Some(delegations) = &self.delegations {
            body["delegations"] = delegations.clone();
        }
        let bytes = sign(&document("targets", targets, self.expires[2], &body), &[k.targets]);
        self.put(&format!("{targets}.targets.json"), &bytes);
        let mut meta = json!({"targets.json": {"version": targets, "length": bytes.len(),
            "hashes": {"sha256": Sha::of(&bytes).to_string()}}});
        for entry in fs::read_dir(&self.folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Some(role) = name.strip_prefix("1.role-") {
                meta[format!("role-{role}")] = json!({"version": 1});
            }
        }
        let bytes =
            sign(&document("snapshot", snapshot, self.expires[1], &json!({ "meta": meta })), &[k.snapshot]);
        self.put(&format!("{snapshot}.snapshot.json"), &bytes);
        let meta = json!({"snapshot.json": {"version": snapshot, "hashes": {"sha256": Sha::of(&bytes).to_string()}}});
        let timestamp = document("timestamp", timestamp, self.expires[0], &json!({ "meta": meta }));
        self.put("timestamp.json", &sign(&timestamp, &[k.timestamp]));
    }

    /// A delegated role's targets, signed by `seed`.
    pub fn publish_role(&self, name: &str, seed: u8, targets: &Value, delegations: Option<&Value>) {
        let mut body = json!({ "targets": targets });
        if let Some(delegations) = delegations {
            body["delegations"] = delegations.clone();
        }
        self.put(&format!("1.{name}.json"), &sign(&document("targets", 1, FAR, &body), &[seed]));
    }

    /// Where the next state of `timestamp` and below is published.
    pub fn step(&mut self) {
        self.versions = self.versions.map(|v| v + 1);
        self.publish();
    }
}
