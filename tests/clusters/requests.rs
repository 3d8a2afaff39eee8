//! Kubelets' first certificates: for the machine whose token asked, and for no other.

use super::{
    CLAIM, House,
    double::{ADMIN, Double},
    objects::Kind,
    profile,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use provisioner::{machine::state::Claim, store};
use provisioner_wire::machine::Phase;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(node: &str) -> String {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    STANDARD.encode(params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap())
}

fn object(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": { "name": name },
        "spec": { "request": request(node), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"] },
    })
}

async fn ask(double: &Double, bearer: &str, name: &str, node: &str) {
    let client = reqwest::Client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(double.ca.as_bytes()).unwrap())
        .build()
        .unwrap();
    let sent = client.post(format!("{}{PATH}", double.url)).bearer_auth(bearer).json(&object(name, node));
    let answer = sent.send().await.unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}

async fn decided(double: &Double, name: &str) -> (String, String) {
    for _ in 0..100 {
        let all = double.all(Kind::Csr);
        let one = all.iter().find(|c| c["metadata"]["name"] == name).unwrap();
        if let Some(condition) = one.pointer("/status/conditions/0") {
            let text = |key: &str| condition[key].as_str().unwrap().to_owned();
            return (text("type"), text("message"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{name} was not decided");
}

#[tokio::test]
async fn a_token_is_good_for_its_own_node_only_and_dead_with_its_claim() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let grant = house.mint(&profile("kubernetes", json!({})), CLAIM).await.unwrap();
    // The machine is being installed: its token is live.
    let mut machine = house.owing("kubernetes", CLAIM);
    machine.phase = Phase::Installing;
    machine.boot = Some(provisioner::machine::state::BootGrant { hash: CLAIM.into(), expires: house.now() });
    machine.claim = Some(Claim { boot_hash: CLAIM.into(), public_key: String::new(), at: house.now() });
    let mut tx = house.db.write().await.unwrap();
    store::machines::insert(&mut tx, &machine, house.now()).await.unwrap();
    tx.commit().await.unwrap();
    ask(&double, grant.token.reveal(), "before", "node-1").await;
    let (clusters, cluster) = (house.clusters.clone(), house.cluster.clone());
    let approver = tokio::spawn(async move { clusters.approve(&cluster).await });
    assert_eq!(decided(&double, "before").await.0, "Approved");
    ask(&double, grant.token.reveal(), "thief", "node-2").await;
    let (verdict, why) = decided(&double, "thief").await;
    assert_eq!(verdict, "Denied");
    assert!(why.contains("node-1") && !why.contains(grant.token.reveal()), "{why}");
    // Not of our tokens: left to whoever decides about it.
    ask(&double, ADMIN, "people", "node-1").await;
    // The workflow is over.
    let mut tx = house.db.write().await.unwrap();
    (machine.phase, machine.boot, machine.claim) = (Phase::Failed, None, None);
    store::machines::save(&mut tx, &mut machine, house.now()).await.unwrap();
    tx.commit().await.unwrap();
    ask(&double, grant.token.reveal(), "late", "node-1").await;
    assert_eq!(decided(&double, "late").await, ("Denied".into(), "its token is not live".into()));
    let all = double.all(Kind::Csr);
    assert!(all.iter().find(|c| c["metadata"]["name"] == "people").unwrap()["status"].is_null());
    approver.abort();
}
