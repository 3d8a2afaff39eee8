//! A node leaves: no new pods, the old ones moved away as their disruption budgets allow, then the object is deleted.

use super::{Clusters, Result, Trouble, api::Api, node::must_go};
use crate::machine::{
    Machine,
    state::{Joined, Leaving},
};
use k8s_openapi::api::core::v1::{Node, Pod};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// One try; what is left then is the next try's. Shorter than [`crate::machine::wants::IN_FLIGHT_MAX`].
const TRY: Duration = Duration::from_secs(100);
const NODES: &str = "/api/v1/nodes";
/// Between two looks at pods that are going.
const PAUSE: Duration = Duration::from_secs(1);
/// Pods named in a reason.
const NAMED: usize = 5;

impl Clusters {
    /// Success: the node's object is gone.
    pub async fn leave(&self, machine: &Machine, joined: &Joined, how: Leaving) -> Result<()> {
        if how == Leaving::Forced {
            return Ok(());
        }
        let cluster = self.record(&joined.cluster).await?;
        let api = self.api(&cluster).await?;
        let Some(node) = find(&api, joined).await? else { return Ok(()) };
        let path = format!("{NODES}/{}", segment(&node));
        cordon(&api, &path).await?;
        if how == Leaving::Drained {
            drain(&api, &node).await?;
        }
        let answer = api.call(Method::DELETE, &path, &[], None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => {
                tracing::info!(machine = %machine.name, cluster = %joined.cluster, node, "the node has left");
                Ok(())
            }
            _ => Err(api.refused(&Method::DELETE, &path, &answer)),
        }
    }
}

/// The node's name, where it is there.
async fn find(api: &Api, joined: &Joined) -> Result<Option<String>> {
    let Some(id) = &joined.provider_id else {
        let path = format!("{NODES}/{}", segment(&joined.node));
        let answer = api.call(Method::GET, &path, &[], None).await?;
        return match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(joined.node.clone())),
            _ => Err(api.refused(&Method::GET, &path, &answer)),
        };
    };
    let list = api.must(Method::GET, NODES, &[], None).await?;
    let nodes = list.get("items").and_then(Value::as_array).into_iter().flatten();
    let mut nodes = nodes.filter_map(|n| serde_json::from_value::<Node>(n.clone()).ok());
    let ours = nodes.find(|n| n.spec.as_ref().and_then(|s| s.provider_id.as_deref()) == Some(id));
    Ok(ours.and_then(|n| n.metadata.name))
}

async fn cordon(api: &Api, path: &str) -> Result<()> {
    let patch = json!({ "spec": { "unschedulable": true } });
    let answer = api.patch(path, &patch).await?;
    match answer.status {
        StatusCode::NOT_FOUND => Ok(()),
        status if status.is_success() => Ok(()),
        _ => Err(api.refused(&Method::PATCH, path, &answer)),
    }
}

async fn drain(api: &Api, node: &str) -> Result<()> {
    let began = Instant::now();
    let selector = format!("spec.nodeName={node}");
    loop {
        let list = api.must(Method::GET, "/api/v1/pods", &[("fieldSelector", &selector)], None).await?;
        let pods = list.get("items").and_then(Value::as_array).into_iter().flatten();
        let pods: Vec<Pod> = pods.filter_map(|p| serde_json::from_value(p.clone()).ok()).collect();
        let mut left = Vec::new();
        let mut wait = PAUSE;
        for pod in pods.iter().filter(|pod| must_go(pod)) {
            let going = pod.metadata.deletion_timestamp.is_some();
            let evicted = if going { Evicted::Going } else { evict(api, pod).await? };
            match evicted {
                Evicted::Gone => {}
                Evicted::Going => left.push(format!("{} is ending", title(pod))),
                Evicted::Held { why, after } => {
                    wait = wait.max(after);
                    left.push(format!("{}: {why}", title(pod)));
                }
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() + wait >= TRY {
            let (count, named) =
                (left.len(), left.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "));
            return Err(Trouble::Passing(format!("{count} pods are still on it: {named}")));
        }
        tokio::time::sleep(wait).await;
    }
}

enum Evicted {
    Gone,
    Going,
    /// A disruption budget does not allow it now.
    Held {
        why: String,
        after: Duration,
    },
}

async fn evict(api: &Api, pod: &Pod) -> Result<Evicted> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", segment(namespace), segment(name));
    // The pod that was seen, not a new one of its name.
    let body = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": name, "namespace": namespace },
        "deleteOptions": { "preconditions": { "uid": pod.metadata.uid } },
    });
    let answer = api.unrepeated(Method::POST, &path, &body).await?;
    Ok(match answer.status {
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => Evicted::Gone,
        StatusCode::TOO_MANY_REQUESTS => {
            let why =
                answer.body.get("message").and_then(Value::as_str).unwrap_or("held by its disruption budget");
            let after = answer.retry_after.unwrap_or(Duration::from_secs(5)).min(Duration::from_secs(30));
            Evicted::Held { why: provisioner_wire::report::clean(why), after }
        }
        status if status.is_success() => Evicted::Going,
        status if status.is_server_error() => Evicted::Held {
            why: format!("the cluster answers {}", status.as_u16()),
            after: Duration::from_secs(5),
        },
        _ => return Err(api.refused(&Method::POST, &path, &answer)),
    })
}

fn title(pod: &Pod) -> String {
    let part = |text: &Option<String>| provisioner_wire::report::clean(text.as_deref().unwrap_or("?"));
    format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
}

/// One segment of a path: names of Kubernetes need no escape, others get one.
pub(super) fn segment(name: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    name.bytes().map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") }).collect()
}
