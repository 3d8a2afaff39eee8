//! The clusters that machines join, over the network: tokens are minted and revoked there, nodes looked for, drained
//! and deleted, kubelets' certificates approved. What is sent and what an answer means is pure and stands in
//! [`crate::token`] and in [`node`]; here are the sockets.
//!
//! In: a cluster's record, its sealed credentials, a machine. Out: a grant, or why there is none ([`Trouble`]): one that
//! may pass by itself, or one that needs a person.

pub mod api;
mod approve;
mod drain;
pub mod issue;
mod look;
pub mod node;
mod probe;
mod webhook;

use crate::{
    clock::Clock,
    inventory::{Cluster, cluster as declared_cluster},
    reach::{Reach, Rules},
    secret::Keyring,
    store::{self, Db, declared},
    token::{kubeconfig::Credentials, talos::Bundle},
};
use secrecy::SecretString;
use std::sync::Arc;

/// Why something was not done in a cluster. The text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// May pass by itself.
    #[error("{0}")]
    Passing(String),
    /// Needs a person.
    #[error("{0}")]
    Lasting(String),
}

pub type Result<T> = std::result::Result<T, Trouble>;

/// All clusters, by their records in the store.
#[derive(Clone)]
pub struct Clusters {
    db: Db,
    keyring: Arc<Keyring>,
    clock: Clock,
    reach: Reach,
}

impl std::fmt::Debug for Clusters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clusters")
    }
}

impl Clusters {
    pub fn new(db: Db, keyring: Arc<Keyring>, clock: Clock) -> Self {
        Self { db, keyring, clock, reach: Reach::new(Rules::with_private()) }
    }

    /// Which addresses clusters and webhooks may have. Whether private ones are a webhook's, its record says.
    pub fn reaching(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// The cluster of this name as declared.
    pub async fn record(&self, name: &str) -> Result<Cluster> {
        let found = async {
            let mut tx = self.db.read().await?;
            declared::get(&mut tx, declared::Kind::Cluster, name).await
        };
        let found = found.await.map_err(|e| Trouble::Passing(e.to_string()))?;
        found.ok_or_else(|| Trouble::Lasting(format!("there is no cluster {name}")))
    }

    /// One of its secrets, opened.
    async fn secret(&self, cluster: &Cluster, field: &str) -> Result<SecretString> {
        let name = cluster.name.as_str();
        let owner = declared_cluster::secret_owner(name);
        let found = async {
            let mut tx = self.db.read().await?;
            store::secrets::get(&mut tx, &owner, field).await
        };
        let sealed = found.await.map_err(|e| Trouble::Passing(e.to_string()))?;
        let wrong =
            |what: &dyn std::fmt::Display| Trouble::Lasting(format!("the cluster {name}: {field}: {what}"));
        let sealed = sealed.ok_or_else(|| wrong(&"not stored; apply the record again with it"))?;
        let plain = self.keyring.unseal(&owner, field, &sealed).map_err(|e| wrong(&e))?;
        let text = std::str::from_utf8(&plain).map_err(|_| wrong(&"not text"))?;
        Ok(SecretString::from(text.to_owned()))
    }

    /// Its Kubernetes API, with our credentials.
    pub async fn api(&self, cluster: &Cluster) -> Result<api::Api> {
        let text = self.secret(cluster, declared_cluster::secret::KUBERNETES).await?;
        let credentials = Credentials::parse(secrecy::ExposeSecret::expose_secret(&text))
            .map_err(|e| Trouble::Lasting(format!("the cluster {}: {e}", cluster.name)))?;
        api::Api::new(cluster, &credentials, &self.reach.with_private(true))
    }

    async fn talos(&self, cluster: &Cluster) -> Result<Bundle> {
        let text = self.secret(cluster, declared_cluster::secret::TALOS).await?;
        Bundle::parse(secrecy::ExposeSecret::expose_secret(&text))
            .map_err(|e| Trouble::Lasting(format!("the cluster {}: {e}", cluster.name)))
    }
}
