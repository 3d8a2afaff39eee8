//! Debian's `kubectl` against the double: what the double takes and answers is what a real client of Kubernetes speaks.

use super::{
    double::{ADMIN, Double},
    objects::Kind,
};
use serde_json::{Value, json};
use std::{path::Path, process::Output};
use tokio::process::Command;

struct Kubectl(tempfile::TempDir);

impl Kubectl {
    fn new(double: &Double) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "d",
            "clusters": [{ "name": "d", "cluster": { "server": double.url,
                "certificate-authority": folder.path().join("ca.pem") } }],
            "users": [{ "name": "d", "user": { "token": ADMIN } }],
            "contexts": [{ "name": "d", "context": { "cluster": "d", "user": "d" } }],
        });
        std::fs::write(folder.path().join("ca.pem"), &double.ca).unwrap();
        std::fs::write(folder.path().join("config"), config.to_string()).unwrap();
        Self(folder)
    }

    async fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", self.0.path().join("config")).env("HOME", self.0.path()).args(words);
        tokio::time::timeout(std::time::Duration::from_secs(60), command.output()).await.unwrap().unwrap()
    }

    async fn good(&self, words: &[&str]) -> String {
        let output = self.run(words).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl {}: {error}", words.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    fn file(&self, name: &str, object: &Value) -> String {
        let file = self.0.path().join(name);
        std::fs::write(&file, object.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

fn installed() -> bool {
    let there = ["/usr/bin/kubectl", "/usr/local/bin/kubectl"].iter().any(|p| Path::new(p).exists());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "kubectl is not installed (package kubernetes-client)"
    );
    there
}

#[tokio::test]
async fn the_real_client_gets_makes_drains_and_deletes() {
    if !installed() {
        return;
    }
    let double = Double::start().await;
    let kubectl = Kubectl::new(&double);
    double.put(
        Kind::Node,
        json!({ "metadata": { "name": "node-1" }, "spec": {}, "status": { "conditions": [] } }),
    );
    let pod = json!({
        "metadata": { "name": "web", "namespace": "default", "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": "u", "controller": true }] },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "c" }] }, "status": { "phase": "Running" },
    });
    double.put(Kind::Pod, pod);
    double.state.lock().unwrap().budgets.insert("web".into(), 1);
    let nodes: Value = serde_json::from_str(&kubectl.good(&["get", "nodes", "-o", "json"]).await).unwrap();
    assert_eq!(nodes["items"][0]["metadata"]["name"], "node-1");

    let token = |id: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": "bootstrap-token-abcdef", "namespace": "kube-system" },
            "stringData": { "token-id": id, "token-secret": "0123456789abcdef", "expiration": "2099-01-01T00:00:00Z",
                "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:provisioner" },
        })
    };
    let (good, bad) =
        (kubectl.file("good.json", &token("abcdef")), kubectl.file("bad.json", &token("zzzzzz")));
    let refused = kubectl.run(&["create", "--validate=false", "-f", &bad]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("bootstrap-token-<token-id>"));
    kubectl.good(&["create", "--validate=false", "-f", &good]).await;
    let twice = kubectl.run(&["create", "--validate=false", "-f", &good]).await;
    assert!(String::from_utf8_lossy(&twice.stderr).contains("AlreadyExists"), "{twice:?}");

    kubectl.good(&["drain", "node-1", "--ignore-daemonsets", "--force"]).await;
    assert!(double.all(Kind::Pod).is_empty(), "evicted after its budget allowed it");
    assert_eq!(double.all(Kind::Node)[0]["spec"]["unschedulable"], true);
    kubectl.good(&["delete", "node", "node-1", "--wait=false"]).await;
    assert!(double.all(Kind::Node).is_empty());
    let gone = kubectl.run(&["get", "node", "node-1"]).await;
    assert!(String::from_utf8_lossy(&gone.stderr).contains("NotFound"));
}
