//! Looks whether a machine's node is up, in the way its profile says, for a bounded time.

use super::{
    Clusters, Result, Trouble,
    api::{Api, Next},
    issue::lacks,
    node::{Expected, Judgement, judge},
    probe,
};
use crate::{
    inventory::{Cluster, Hardware, Profile, ReadyBy},
    machine::Machine,
    store,
};
use k8s_openapi::api::core::v1::Node;
use reqwest::Method;
use serde_json::Value;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// One look lasts at most so long: shorter than [`crate::machine::wants::IN_FLIGHT_MAX`].
const LOOK: Duration = Duration::from_secs(50);
const NODES: &str = "/api/v1/nodes";
/// Talos' apid.
const APID: u16 = 50000;

/// The node is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    pub how: String,
    /// Labels and taints that it should have joined with.
    pub missing: Vec<String>,
}

impl Clusters {
    /// The node of `machine`, seen to be up; or what is still waited for, as [`Trouble::Passing`].
    pub async fn await_ready(&self, machine: &Machine, hardware: &Hardware, profile: &Profile) -> Result<Up> {
        let up = |how: String| Ok(Up { how, missing: Vec::new() });
        let port = profile.ready.port.unwrap_or(APID);
        match profile.ready.by {
            ReadyBy::PhoneHome => Err(Trouble::Passing("waits for the node to phone home".to_owned())),
            ReadyBy::Installed => up("installed; nothing is waited for".to_owned()),
            ReadyBy::Tcp => {
                let address = self.address(hardware).await?;
                probe::tcp(address, port).await?;
                up(format!("{address} takes connections at port {port}"))
            }
            ReadyBy::Tls => {
                let address = self.address(hardware).await?;
                let authority = self.authority(profile).await?;
                probe::tls(address, port, &authority).await?;
                up(format!("{address} shows the expected certificate at port {port}"))
            }
            ReadyBy::KubernetesNode => self.node(machine, profile).await,
        }
    }

    /// The declared address, or the leased one.
    async fn address(&self, hardware: &Hardware) -> Result<IpAddr> {
        let nic = hardware.primary_nic();
        let declared = nic.and_then(|n| n.address.map(|a| IpAddr::V4(a.addr())));
        let declared = declared.or_else(|| nic.and_then(|n| n.address6.map(|a| IpAddr::V6(a.addr()))));
        if let Some(address) = declared {
            return Ok(address);
        }
        let macs: Vec<_> = hardware.nics.iter().map(|n| n.mac).collect();
        let passing = |e: store::StoreError| Trouble::Passing(e.to_string());
        let mut tx = self.db.read().await.map_err(passing)?;
        let leases = store::leases::all(&mut tx).await.map_err(passing)?;
        let leased = leases.into_iter().find(|lease| macs.iter().any(|mac| lease.mac == mac.to_string()));
        leased.and_then(|lease| lease.ip.parse().ok()).ok_or_else(|| {
            Trouble::Passing("the machine's address is neither declared nor leased here".to_owned())
        })
    }

    async fn authority(&self, profile: &Profile) -> Result<Vec<u8>> {
        if let Some(ca) = &profile.ready.ca_certificate {
            return Ok(ca.pem().as_bytes().to_vec());
        }
        let name = profile.cluster.as_ref().map_or("", |name| name.as_str());
        let cluster = self.record(name).await?;
        match cluster.talos {
            Some(_) => Ok(self.talos(&cluster).await?.os_authority()),
            None => Err(lacks(&cluster, "talos")),
        }
    }

    async fn node(&self, machine: &Machine, profile: &Profile) -> Result<Up> {
        let joined = machine.target().and_then(|t| t.join.as_ref()).and_then(|join| join.node.as_ref());
        let joined = joined.ok_or_else(|| Trouble::Lasting("no cluster was frozen for it".to_owned()))?;
        let cluster: Cluster = self.record(&joined.cluster).await?;
        let expected = Expected {
            name: &joined.node,
            provider_id: joined.provider_id.as_deref(),
            rebooted: machine.since,
            labels: &profile.ready.labels,
            taints: &profile.ready.taints,
        };
        follow(&self.api(&cluster).await?, &expected).await
    }
}

/// Lists, then watches from what was listed; a gap (410, a closed connection) leads to a new list or a new watch.
async fn follow(api: &Api, expected: &Expected<'_>) -> Result<Up> {
    let began = Instant::now();
    let by_name = format!("metadata.name={}", expected.name);
    let query: Vec<(&str, &str)> = match expected.provider_id {
        Some(_) => Vec::new(),
        None => vec![("fieldSelector", by_name.as_str())],
    };
    let mut state = State { why: format!("the node {} has not joined yet", expected.name), up: None };
    while began.elapsed() < LOOK {
        let list = api.must(Method::GET, NODES, &query, None).await?;
        let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("0");
        for object in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            state.see("ADDED", object, expected);
        }
        let mut version = version.to_owned();
        while state.up.is_none() && began.elapsed() < LOOK {
            let left = LOOK.saturating_sub(began.elapsed()).max(Duration::from_secs(1));
            let mut watch = api.watch(NODES, &query, &version, left).await?;
            let ended = loop {
                match watch.next().await {
                    Next::Event(event) => state.see(&event.kind, &event.object, expected),
                    ended => break ended,
                }
                if state.up.is_some() {
                    break Next::Gone;
                }
            };
            match ended {
                Next::Closed(from) => version = from,
                _ => break,
            }
            // A server that closes every watch at once is not asked without pause.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if let Some(up) = state.up {
            return Ok(up);
        }
    }
    Err(Trouble::Passing(state.why))
}

struct State {
    why: String,
    up: Option<Up>,
}

impl State {
    fn see(&mut self, kind: &str, object: &Value, expected: &Expected<'_>) {
        let Ok(node) = serde_json::from_value::<Node>(object.clone()) else { return };
        match judge(&node, expected) {
            Judgement::Other => {}
            _ if kind == "DELETED" => self.why = format!("the node {} was deleted", expected.name),
            Judgement::NotYet(why) => self.why = why,
            Judgement::Ready { how, missing } => self.up = Some(Up { how, missing }),
        }
    }
}
