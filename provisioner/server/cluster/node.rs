//! PURE. What a Node object says: whether it is the machine's, new, Ready, and has what it should have joined with.

use crate::{inventory::ExpectedTaint, machine::Time};
use k8s_openapi::api::core::v1::{Node, Pod};
use std::{collections::BTreeMap, time::Duration};

/// The cluster's clock and ours may differ by so much.
const SKEW: Duration = Duration::from_secs(120);

/// What is looked for.
#[derive(Debug)]
pub struct Expected<'a> {
    pub name: &'a str,
    /// Goes before the name.
    pub provider_id: Option<&'a str>,
    /// When the machine rebooted into what was installed.
    pub rebooted: Time,
    pub labels: &'a BTreeMap<String, String>,
    pub taints: &'a [ExpectedTaint],
}

/// What one object comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Another machine's.
    Other,
    NotYet(String),
    /// `missing`: labels and taints that it should have.
    Ready {
        how: String,
        missing: Vec<String>,
    },
}

pub fn judge(node: &Node, expected: &Expected<'_>) -> Judgement {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let is_it = match expected.provider_id {
        Some(id) => node.spec.as_ref().and_then(|s| s.provider_id.as_deref()) == Some(id),
        None => name == expected.name,
    };
    if !is_it {
        return Judgement::Other;
    }
    let created = node.metadata.creation_timestamp.as_ref().map(|t| Time(t.0.as_millisecond()));
    if created.is_none_or(|created| created + SKEW < expected.rebooted) {
        return Judgement::NotYet(format!(
            "the cluster has a node {name} from before this installation: delete it (kubectl delete node {name}), \
             and the new one can join"
        ));
    }
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    match conditions.into_iter().find(|c| c.type_ == "Ready") {
        Some(ready) if ready.status == "True" => {
            Judgement::Ready { how: format!("its node {name} is Ready"), missing: missing(node, expected) }
        }
        Some(ready) => {
            let why = ready.message.as_deref().or(ready.reason.as_deref()).unwrap_or("no reason is given");
            let why = provisioner_wire::report::clean(why);
            Judgement::NotYet(format!("the node {name} has joined and is not Ready: {why}"))
        }
        None => Judgement::NotYet(format!("the node {name} has joined and says nothing of its state")),
    }
}

fn missing(node: &Node, expected: &Expected<'_>) -> Vec<String> {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let lost = expected.labels.iter().filter(|(key, value)| labels.get(*key) != Some(*value));
    let mut missing: Vec<String> = lost.map(|(key, value)| format!("the label {key}={value}")).collect();
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let has = |wanted: &ExpectedTaint| {
        taints.iter().any(|t| {
            t.key == wanted.key
                && t.effect == wanted.effect
                && t.value.as_deref().unwrap_or_default() == wanted.value
        })
    };
    missing.extend(expected.taints.iter().filter(|t| !has(t)).map(|t| format!("the taint {t}")));
    missing
}

/// Whether a drain has to move this pod away: not what a DaemonSet puts back at once, not the kubelet's own, not what
/// has ended.
pub fn must_go(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let of_daemon_set = owners.iter().any(|o| o.kind == "DaemonSet" && o.controller == Some(true));
    let mirror =
        pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
    let ended = pod
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    !of_daemon_set && !mirror && !ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(created: &str, ready: &str) -> Value {
        json!({
            "metadata": { "name": "node-1", "creationTimestamp": created, "labels": { "zone": "a" } },
            "spec": { "providerID": "metal://1", "taints": [{ "key": "gpu", "effect": "NoSchedule" }] },
            "status": { "conditions": [{ "type": "Ready", "status": ready, "message": "no CNI" }] },
        })
    }

    fn judged(node: Value, provider_id: Option<&str>, label: (&str, &str), taint: &str) -> Judgement {
        let node: Node = serde_json::from_value(node).unwrap();
        let labels = BTreeMap::from([(label.0.to_owned(), label.1.to_owned())]);
        let taints = [ExpectedTaint::try_from(taint.to_owned()).unwrap()];
        // 2026-01-01T00:10:00Z
        let rebooted = Time(1_767_226_200_000);
        judge(&node, &Expected { name: "node-1", provider_id, rebooted, labels: &labels, taints: &taints })
    }

    #[test]
    fn only_a_new_ready_node_of_this_machine_counts() {
        let new = "2026-01-01T00:12:00Z";
        let ok = judged(node(new, "True"), None, ("zone", "a"), "gpu:NoSchedule");
        assert_eq!(ok, Judgement::Ready { how: "its node node-1 is Ready".into(), missing: vec![] });
        let by_id = judged(node(new, "True"), Some("metal://1"), ("zone", "a"), "gpu:NoSchedule");
        assert_eq!(by_id, ok);
        assert_eq!(
            judged(node(new, "True"), Some("metal://2"), ("zone", "a"), "gpu:NoSchedule"),
            Judgement::Other
        );
        let old = judged(node("2026-01-01T00:00:00Z", "True"), None, ("zone", "a"), "gpu:NoSchedule");
        assert!(matches!(old, Judgement::NotYet(why) if why.contains("from before")));
        let not = judged(node(new, "False"), None, ("zone", "a"), "gpu:NoSchedule");
        assert!(matches!(not, Judgement::NotYet(why) if why.contains("no CNI")));
        let without = judged(node(new, "True"), None, ("zone", "b"), "gpu=yes:NoExecute");
        let Judgement::Ready { missing, .. } = without else { panic!() };
        assert_eq!(missing, ["the label zone=b", "the taint gpu=yes:NoExecute"]);
    }

    #[test]
    fn a_drain_leaves_daemon_sets_mirrors_and_ended_pods() {
        let pod = |meta: Value, phase: &str| -> Pod {
            serde_json::from_value(json!({ "metadata": meta, "status": { "phase": phase } })).unwrap()
        };
        let owner = |kind: &str| {
            json!({ "name": "p", "ownerReferences": [{ "apiVersion": "apps/v1", "kind": kind,
            "name": "o", "uid": "u", "controller": true }] })
        };
        assert!(
            must_go(&pod(owner("ReplicaSet"), "Running")) && must_go(&pod(json!({ "name": "p" }), "Pending"))
        );
        assert!(!must_go(&pod(owner("DaemonSet"), "Running")));
        let mirror = json!({ "name": "p", "annotations": { "kubernetes.io/config.mirror": "x" } });
        assert!(!must_go(&pod(mirror, "Running")) && !must_go(&pod(json!({ "name": "p" }), "Succeeded")));
    }
}
