//! Approves the first certificate of a kubelet for the one node its token was minted for, and denies every other name.
//! Without it, whoever has a bootstrap token can become any node.

use super::{
    Clusters, Result,
    api::{Api, Next},
    drain::segment,
};
use crate::{
    inventory::Cluster,
    machine::join::dead,
    store::{self, declared},
    token::{MintRequest, bootstrap, csr},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const WATCH: Duration = Duration::from_secs(240);
/// Between two looks at what is declared, and after a failure.
const PAUSE: Duration = Duration::from_secs(10);

impl Clusters {
    /// For ever, each cluster that wants it in a task of its own.
    pub async fn approve_all(&self) -> std::result::Result<(), store::StoreError> {
        let mut running: BTreeMap<String, (String, tokio::task::JoinHandle<()>)> = BTreeMap::new();
        loop {
            let clusters: Vec<Cluster> =
                declared::all(&mut self.db.read().await?, declared::Kind::Cluster).await?;
            let wanted: BTreeMap<String, Cluster> = clusters
                .into_iter()
                .filter(|c| c.kubernetes.as_ref().is_some_and(|k| k.approve_certificates))
                .map(|c| (c.name.as_str().to_owned(), c))
                .collect();
            running.retain(|name, (seen, task)| {
                let same = wanted.get(name).is_some_and(|c| print(c) == *seen) && !task.is_finished();
                if !same {
                    task.abort();
                }
                same
            });
            for (name, cluster) in wanted {
                let (all, seen) = (self.clone(), print(&cluster));
                running
                    .entry(name)
                    .or_insert_with(|| (seen, tokio::spawn(async move { all.approve_for(cluster).await })));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn approve_for(&self, cluster: Cluster) {
        loop {
            if let Err(trouble) = self.approve(&cluster).await {
                tracing::warn!(cluster = %cluster.name, "kubelets' certificates are not looked at: {trouble}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Lists and watches once.
    pub async fn approve(&self, cluster: &Cluster) -> Result<()> {
        let api = self.api(cluster).await?;
        let selector = format!("spec.signerName={}", csr::SIGNER);
        let query = [("fieldSelector", selector.as_str())];
        let list = api.must(Method::GET, REQUESTS, &query, None).await?;
        for object in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            self.decide(&api, cluster, object).await?;
        }
        let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("0");
        let mut version = version.to_owned();
        loop {
            let mut watch = api.watch(REQUESTS, &query, &version, WATCH).await?;
            loop {
                match watch.next().await {
                    Next::Event(event) if event.kind == "DELETED" => {}
                    Next::Event(event) => self.decide(&api, cluster, &event.object).await?,
                    Next::Closed(from) => {
                        version = from;
                        break;
                    }
                    Next::Gone => return Ok(()),
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn decide(&self, api: &Api, cluster: &Cluster, object: &Value) -> Result<()> {
        let Some(asked) = csr::read(object) else { return Ok(()) };
        let node = self.node_of_token(cluster, &asked.token_id).await?;
        let ours = cluster.kubernetes.as_ref().is_some_and(|k| {
            let own = k.groups.iter().filter(|g| !g.as_str().contains(":kubeadm:"));
            own.into_iter().any(|g| asked.groups.iter().any(|asked| asked == g.as_str()))
        });
        let (approve, why) = match &node {
            Some(node) => match csr::fits(&asked, node) {
                Ok(()) => (true, format!("the token was minted for the machine {node}")),
                Err(why) => (false, why),
            },
            // Of our group, and not of a machine that is being installed now.
            None if ours => (false, "its token is not live".to_owned()),
            None => return Ok(()),
        };
        let name = provisioner_wire::report::clean(&asked.name);
        if approve {
            tracing::info!(cluster = %cluster.name, request = name, "approved: {why}");
        } else {
            tracing::warn!(cluster = %cluster.name, request = name, "denied: {why}");
        }
        let mut object = object.clone();
        let condition = json!({
            "type": if approve { "Approved" } else { "Denied" },
            "status": "True",
            "reason": "Provisioner",
            "message": why,
        });
        if let Some(fields) = object.as_object_mut() {
            fields.insert("status".to_owned(), json!({ "conditions": [condition] }));
        }
        let path = format!("{REQUESTS}/{}/approval", segment(&asked.name));
        let answer = api.call(Method::PUT, &path, &[], Some(&object)).await?;
        match answer.status.as_u16() {
            // Decided or changed by somebody else meanwhile: the watch shows it again.
            200..=299 | 404 | 409 => Ok(()),
            _ => Err(api.refused(&Method::PUT, &path, &answer)),
        }
    }

    /// The node whose live token has this id.
    async fn node_of_token(&self, cluster: &Cluster, id: &str) -> Result<Option<String>> {
        let passing = |e: store::StoreError| super::Trouble::Passing(e.to_string());
        let mut tx = self.db.read().await.map_err(passing)?;
        let machines = store::machines::all(&mut tx).await.map_err(passing)?;
        drop(tx);
        let (name, now) = (cluster.name.as_str(), self.clock.now());
        for machine in &machines {
            let live = machine.owed.iter().filter(|o| o.minter.cluster == name && now < o.expires);
            for owed in live.filter(|o| !dead(machine).any(|d| d == *o)) {
                let request = MintRequest {
                    machine: &machine.name,
                    generation: owed.generation,
                    boot_hash: &owed.minted_for,
                    ttl: Duration::ZERO,
                };
                if bootstrap::id_of(&self.derived(name, &request, now)?.token) == id {
                    return Ok(Some(machine.name.to_string()));
                }
            }
        }
        Ok(None)
    }
}

/// Changes whenever the record does.
fn print(cluster: &Cluster) -> String {
    serde_json::to_string(cluster).unwrap_or_default()
}
