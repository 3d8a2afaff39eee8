//! Nodes: seen when they are Ready through gaps of every kind, and led out of the cluster.

use super::{
    House,
    double::{Double, Fault},
    hardware,
    objects::Kind,
    profile,
};
use provisioner::{
    cluster::Trouble,
    machine::{
        Machine, MachineId, Time,
        state::{Join, Joined, Leaving, Target, Workflow},
    },
};
use provisioner_wire::{
    machine::{Phase, WorkflowKind},
    order::WipeMethod,
};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

fn joined(provider_id: Option<&str>) -> Joined {
    Joined {
        cluster: "lab".into(),
        node: "node-1".into(),
        provider_id: provider_id.map(str::to_owned),
        drain_within_ms: 900_000,
    }
}

/// A machine that has rebooted into its operating system.
fn rebooting(house: &House, provider_id: Option<&str>) -> Machine {
    let mut machine =
        Machine::declared(MachineId(Uuid::from_u128(1)), house.machine.clone(), false, house.now());
    machine.phase = Phase::Rebooting;
    let target = Target {
        image: None,
        place: None,
        wipe: WipeMethod::Metadata,
        by_url: None,
        netboot: None,
        read_back: None,
        token_ttl_ms: 0,
        join: Some(Join { watched: true, minter: None, node: Some(joined(provider_id)) }),
        ready_deadline_ms: 60_000,
        kernel_arguments: Vec::new(),
        profile: Value::Null,
    };
    let workflow = json!({ "id": Uuid::from_u128(7), "kind": WorkflowKind::Provision, "profile": null, "target": null,
        "tried": {}, "scripts": 0, "boots": 0, "done": [] });
    let workflow: Workflow = serde_json::from_value(workflow).unwrap();
    machine.workflow = Some(Workflow { target: Some(target), ..workflow });
    machine
}

fn node(ready: &str) -> Value {
    json!({
        "metadata": { "name": "node-1", "labels": { "zone": "a" } },
        "spec": { "providerID": "metal://1" },
        "status": { "conditions": [{ "type": "Ready", "status": ready, "message": "starting" }] },
    })
}

#[tokio::test]
async fn a_node_is_seen_through_a_watch_that_breaks_in_every_way() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let machine = rebooting(&house, None);
    let wanted = profile(
        "kubernetes",
        json!({ "ready": { "by": "kubernetes-node", "labels": { "zone": "b" },
        "taints": ["gpu=yes:NoSchedule"] } }),
    );
    let hardware = hardware("10.0.0.9/24");
    let script = async {
        let pause = || tokio::time::sleep(Duration::from_millis(300));
        pause().await;
        let other = json!({ "metadata": { "name": "node-2" }, "status": { "conditions": [] } });
        double.put(Kind::Node, other);
        double.put(Kind::Node, node("False"));
        pause().await;
        // What the watch has seen last is forgotten: 410.
        double.compact();
        pause().await;
        double.put(Kind::Node, node("True"));
    };
    let (up, ()) = tokio::join!(house.clusters.await_ready(&machine, &hardware, &wanted), script);
    let up = up.unwrap();
    assert_eq!(up.how, "its node node-1 is Ready");
    assert_eq!(up.missing, ["the label zone=b", "the taint gpu=yes:NoSchedule"]);
    assert!(double.asked("GET", "/api/v1/nodes") >= 4, "list, watch, list again, watch again");
}

#[tokio::test]
async fn a_node_is_found_by_its_provider_id_and_one_from_before_does_not_count() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let wanted = profile("kubernetes", json!({ "ready": { "by": "kubernetes-node" } }));
    let hardware = hardware("10.0.0.9/24");
    let mut renamed = node("True");
    renamed["metadata"]["name"] = json!("ip-10-0-0-9");
    double.put(Kind::Node, renamed);
    let machine = rebooting(&house, Some("metal://1"));
    let up = house.clusters.await_ready(&machine, &hardware, &wanted).await.unwrap();
    assert!(up.how.contains("ip-10-0-0-9") && up.missing.is_empty(), "{up:?}");

    let mut later = rebooting(&house, Some("metal://1"));
    later.since = Time(house.now().0 + 3_600_000);
    let looking = house.clusters.await_ready(&later, &hardware, &wanted);
    tokio::time::timeout(Duration::from_secs(3), looking).await.unwrap_err();
}

fn pod(name: &str, owner: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default", "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "u", "controller": true }] },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "c" }] },
        "status": { "phase": "Running" },
    })
}

#[tokio::test]
async fn a_node_leaves_after_its_pods_have_gone_as_their_budgets_allow() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let machine = rebooting(&house, None);
    double.put(Kind::Node, node("True"));
    for (name, owner) in [("web", "ReplicaSet"), ("db", "StatefulSet"), ("agent", "DaemonSet")] {
        double.put(Kind::Pod, pod(name, owner));
    }
    double.state.lock().unwrap().budgets.insert("db".into(), 2);
    double.fault([Fault::Status(500)]);
    house.clusters.leave(&machine, &joined(None), Leaving::Drained).await.unwrap();
    let left: Vec<_> = double.all(Kind::Pod).iter().map(|p| p["metadata"]["name"].clone()).collect();
    assert_eq!(left, [json!("agent")], "a DaemonSet's pod is not evicted: it would come back at once");
    assert!(double.all(Kind::Node).is_empty());
    assert_eq!(double.asked("POST", "/api/v1/namespaces/default/pods/db/eviction"), 3);
    assert_eq!(double.asked("DELETE", "/api/v1/namespaces"), 0, "pods are evicted, never deleted");
    // Asked again, it has left.
    house.clusters.leave(&machine, &joined(None), Leaving::Drained).await.unwrap();
}

#[tokio::test]
async fn without_a_drain_no_pod_is_touched_and_by_force_the_cluster_is_not_asked() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let machine = rebooting(&house, None);
    double.put(Kind::Node, node("True"));
    double.put(Kind::Pod, pod("web", "ReplicaSet"));
    house.clusters.leave(&machine, &joined(None), Leaving::Forced).await.unwrap();
    assert!(double.state.lock().unwrap().log.is_empty());
    house.clusters.leave(&machine, &joined(Some("metal://1")), Leaving::Undrained).await.unwrap();
    assert!(double.all(Kind::Node).is_empty());
    assert_eq!(double.all(Kind::Pod).len(), 1);
}

#[tokio::test]
async fn a_port_is_probed_and_a_certificate_is_that_of_the_expected_authority() {
    let (double, other) = (Double::start().await, Double::start().await);
    let house = House::kubernetes(&double).await;
    let port: u16 = double.url.rsplit_once(':').unwrap().1.parse().unwrap();
    let (machine, here) = (rebooting(&house, None), hardware("127.0.0.1/8"));
    let ready = |by: &str, ca: Option<&str>, port: u16| {
        let mut ready = json!({ "by": by, "port": port });
        if let Some(ca) = ca {
            ready["ca_certificate"] = json!(ca);
        }
        profile("kubernetes", json!({ "ready": ready }))
    };
    house.clusters.await_ready(&machine, &here, &ready("tcp", None, port)).await.unwrap();
    house.clusters.await_ready(&machine, &here, &ready("tls", Some(&double.ca), port)).await.unwrap();
    let wrong = house.clusters.await_ready(&machine, &here, &ready("tls", Some(&other.ca), port)).await;
    assert!(matches!(wrong.unwrap_err(), Trouble::Passing(why) if why.contains("certificate")));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = house.clusters.await_ready(&machine, &here, &ready("tcp", None, free)).await;
    assert!(matches!(closed.unwrap_err(), Trouble::Passing(_)));
    let installed = profile("kubernetes", json!({ "ready": { "by": "installed" } }));
    house.clusters.await_ready(&machine, &here, &installed).await.unwrap();
}
