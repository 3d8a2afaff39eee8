//! Clusters: the real client against a strict double of the Kubernetes API over TLS, Debian's `kubectl` against the same
//! double to show that it is faithful, and a webhook that answers what it likes.

mod double;
mod issuing;
mod kubectl;
mod nodes;
mod objects;
mod race;
mod rbac;
mod requests;
mod webhook;
mod whole;

use double::{Double, SERVICE_ACCOUNT};
use provisioner::{
    clock::Clock,
    cluster::Clusters,
    inventory::{Cluster, Hardware, Profile, cluster::secret_owner},
    machine::{
        Machine, MachineId, Time,
        state::{Minter, Owed},
    },
    reach::{Reach, Rules},
    secret::Keyring,
    store::{self, Db, declared::Kind},
    token::{Grant, MintRequest},
};
use provisioner_wire::{Generation, MachineName};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

pub const CLAIM: &str = "5ba9c0ffee00112233445566778899aabbccddeeff00112233445566778899aa";

/// The doubles live on the loopback.
pub fn on_loopback() -> Rules {
    Rules { allow: vec!["127.0.0.1/32".parse().unwrap()], ..Rules::with_private() }
}

/// A store, a keyring, and one declared cluster.
pub struct House {
    pub db: Db,
    pub clusters: Clusters,
    pub cluster: Cluster,
    pub machine: MachineName,
    later: Arc<AtomicI64>,
    _folder: tempfile::TempDir,
}

impl House {
    pub async fn new(record: Value, secrets: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("db")).await.unwrap();
        let keyring = Arc::new(Keyring::open(folder.path(), None).unwrap());
        let later = Arc::new(AtomicI64::new(0));
        let (system, offset) = (Clock::system(), later.clone());
        let clock = Clock::new(move || Time(system.now().0 + offset.load(Ordering::SeqCst)));
        let cluster: Cluster = serde_json::from_value(record).unwrap();
        let owner = secret_owner(cluster.name.as_str());
        let mut tx = db.write().await.unwrap();
        store::declared::put(&mut tx, Kind::Cluster, cluster.name.as_str(), &cluster, Time(0)).await.unwrap();
        for (field, text) in secrets {
            let sealed = keyring.seal(&owner, field, text.as_bytes()).unwrap();
            store::secrets::put(&mut tx, &owner, field, &sealed).await.unwrap();
        }
        tx.commit().await.unwrap();
        let clusters = Clusters::new(db.clone(), keyring, clock).reaching(Reach::new(on_loopback()));
        Self { db, clusters, cluster, machine: "node-1".parse().unwrap(), later, _folder: folder }
    }

    /// A cluster behind `double`, with the service account's token.
    pub async fn kubernetes(double: &Double) -> Self {
        Self::new(record(double), &[("kubernetes-credentials", SERVICE_ACCOUNT)]).await
    }

    pub fn now(&self) -> Time {
        Time(Clock::system().now().0 + self.later.load(Ordering::SeqCst))
    }

    pub fn pass(&self, span: Duration) {
        self.later.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn request<'a>(&'a self, claim: &'a str) -> MintRequest<'a> {
        let ttl = Duration::from_secs(600);
        MintRequest { machine: &self.machine, generation: Generation(1), boot_hash: claim, ttl }
    }

    pub async fn mint(&self, profile: &Profile, claim: &str) -> provisioner::cluster::Result<Grant> {
        self.clusters.mint(profile, Some(&self.cluster), &self.request(claim), self.now()).await
    }

    /// The machine, owing one token of `issuer` for `claim`, which is dead.
    pub fn owing(&self, issuer: &str, claim: &str) -> Machine {
        let now = self.now();
        let mut machine = Machine::declared(MachineId(Uuid::from_u128(1)), self.machine.clone(), false, now);
        let minter = Minter { cluster: "lab".into(), issuer: issuer.into() };
        machine.owed.push(Owed {
            minter,
            minted_for: claim.to_owned(),
            generation: Generation(1),
            first: now,
            asked: now,
            expires: now + Duration::from_secs(600),
            revoked: None,
        });
        machine
    }
}

pub fn record(double: &Double) -> Value {
    json!({
        "name": "lab",
        "endpoint": double.url,
        "ca_certificate": double.ca,
        "kubernetes_version": "1.33.0",
        "kubernetes": { "credentials": "stored", "approve_certificates": true },
    })
}

pub fn profile(issuer: &str, more: Value) -> Profile {
    let mut profile = json!({
        "name": "p", "image": "i", "os": "cloud-init", "template": "cloud-init", "role": "worker",
        "place": { "partition": { "label": "CIDATA" }, "directory": "/" },
        "cluster": "lab", "token": { "issuer": issuer, "ttl": "10m" },
    });
    for (key, value) in more.as_object().unwrap() {
        profile[key] = value.clone();
    }
    serde_json::from_value(profile).unwrap()
}

pub fn hardware(address: &str) -> Hardware {
    let nic = json!({ "mac": "52:54:00:00:00:01", "address": address });
    serde_json::from_value(json!({ "name": "node-1", "nics": [nic] })).unwrap()
}
