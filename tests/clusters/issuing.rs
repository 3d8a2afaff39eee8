//! Tokens: minted once a claim whatever the API server does, short-lived, deleted; and what k3s and Talos get of them.

use super::{
    CLAIM, House,
    double::{Double, Fault},
    objects::Kind,
    profile, record,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use provisioner::{cluster::Trouble, machine::ActResult, token::Grant};
use serde_json::{Value, json};
use std::time::Duration;

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

fn text(secret: &Value, key: &str) -> String {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
}

fn issued<'a>(grant: &'a Grant, name: &str) -> &'a str {
    grant.issued.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} in {grant:?}")).1
}

#[tokio::test]
async fn a_bootstrap_token_is_made_once_as_kubernetes_wants_it_and_deleted() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let profile = profile("kubernetes", json!({}));
    let grant = house.mint(&profile, CLAIM).await.unwrap();
    let secrets = double.all(Kind::Secret);
    let [secret] = secrets.as_slice() else { panic!("{secrets:#?}") };
    assert_eq!(
        format!("{}.{}", text(secret, "token-id"), text(secret, "token-secret")),
        grant.token.reveal()
    );
    assert_eq!(text(secret, "usage-bootstrap-authentication"), "true");
    assert_eq!(text(secret, "auth-extra-groups"), "system:bootstrappers:provisioner");
    assert_eq!(secret["metadata"]["labels"]["provisioner.dev/machine"], "node-1");
    let left = grant.expires.since(house.now());
    assert!(left > Duration::from_secs(590) && left <= Duration::from_secs(600), "{left:?}");

    house.pass(Duration::from_secs(120));
    let again = house.mint(&profile, CLAIM).await.unwrap();
    assert_eq!(again.token.reveal(), grant.token.reveal());
    assert_eq!(again.expires.0 / 1000, grant.expires.0 / 1000, "a second asking must not lengthen its life");
    assert_eq!(double.all(Kind::Secret).len(), 1);
    let other = house.mint(&profile, &"0".repeat(64)).await.unwrap();
    assert_ne!(other.token.reveal(), grant.token.reveal());

    let machine = house.owing("kubernetes", CLAIM);
    let done = house.clusters.revoke_dead(&machine).await;
    assert_eq!(done, ActResult::Revoked { minted_for: vec![CLAIM.to_owned()] });
    assert_eq!(double.all(Kind::Secret).len(), 1);
    // Once more is no mistake: nothing is there.
    assert_eq!(house.clusters.revoke_dead(&machine).await, done);
    assert_eq!(double.asked("GET", SECRETS), 1, "a Secret is read only where its name was taken");
}

#[tokio::test]
async fn a_token_is_dead_after_its_time_and_one_that_has_expired_is_not_delivered() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let profile = profile("kubernetes", json!({}));
    let grant = house.mint(&profile, CLAIM).await.unwrap();
    let client = reqwest::Client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(double.ca.as_bytes()).unwrap())
        .build()
        .unwrap();
    let ask = || async {
        let url = format!("{}/apis/certificates.k8s.io/v1/certificatesigningrequests", double.url);
        client.get(url).bearer_auth(grant.token.reveal()).send().await.unwrap().status()
    };
    assert_eq!(ask().await, 200);
    double.state.lock().unwrap().later = Duration::from_secs(601);
    assert_eq!(ask().await, 401);
    house.pass(Duration::from_secs(601));
    let late = house.mint(&profile, CLAIM).await.unwrap_err();
    assert!(matches!(&late, Trouble::Lasting(why) if why.contains("ended before")), "{late}");
}

#[tokio::test]
async fn overload_and_lost_answers_cost_time_and_never_a_second_token() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let profile = profile("kubernetes", json!({}));
    double.fault([Fault::Status(429), Fault::Status(500)]);
    let first = house.mint(&profile, CLAIM).await.unwrap();
    assert_eq!(double.asked("POST", SECRETS), 3);
    // It is made, and the answer is lost: the next try finds it.
    let claim = "1".repeat(64);
    double.fault([Fault::Unanswered]);
    let lost = house.mint(&profile, &claim).await;
    let found = match lost {
        Ok(grant) => grant,
        Err(trouble) => {
            assert!(matches!(trouble, Trouble::Passing(_)), "{trouble}");
            house.mint(&profile, &claim).await.unwrap()
        }
    };
    assert_ne!(found.token.reveal(), first.token.reveal());
    assert_eq!(double.all(Kind::Secret).len(), 2);
}

#[tokio::test]
async fn an_issuer_that_is_away_passes_and_one_that_refuses_does_not() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let profile = profile("kubernetes", json!({}));
    double.state.lock().unwrap().away = true;
    let away = house.mint(&profile, CLAIM).await.unwrap_err();
    assert!(matches!(away, Trouble::Passing(_)), "{away}");
    let failed = house.clusters.revoke_dead(&house.owing("kubernetes", CLAIM)).await;
    assert!(matches!(failed, ActResult::Failed { .. }), "{failed:?}");
    double.state.lock().unwrap().away = false;

    let stranger = House::new(record(&double), &[("kubernetes-credentials", "not-a-known-token")]).await;
    let refused = stranger.mint(&profile, CLAIM).await.unwrap_err();
    assert!(matches!(&refused, Trouble::Lasting(why) if why.contains("credentials")), "{refused}");
    // A token of a node may not make tokens.
    let grant = house.mint(&profile, CLAIM).await.unwrap();
    let node = House::new(record(&double), &[("kubernetes-credentials", grant.token.reveal())]).await;
    let forbidden = node.mint(&profile, CLAIM).await.unwrap_err();
    assert!(matches!(&forbidden, Trouble::Lasting(why) if why.contains("rbac")), "{forbidden}");
    for trouble in [refused, forbidden, away] {
        assert!(!format!("{trouble:?}").contains(grant.token.reveal()));
    }
}

#[tokio::test]
async fn another_authority_than_the_declared_one_is_sent_nothing() {
    let double = Double::start().await;
    let other = Double::start().await;
    let mut wrong = record(&double);
    wrong["ca_certificate"] = json!(other.ca);
    let house = House::new(wrong, &[("kubernetes-credentials", "canary")]).await;
    let error = house.mint(&profile("kubernetes", json!({})), CLAIM).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    assert!(double.state.lock().unwrap().log.is_empty());
}

#[tokio::test]
async fn a_secret_of_the_same_name_that_is_not_ours_is_never_handed_out() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let profile = profile("kubernetes", json!({}));
    house.mint(&profile, CLAIM).await.unwrap();
    let mut secret = double.all(Kind::Secret).remove(0);
    secret["metadata"]["annotations"]["provisioner.dev/claim"] = json!("somebody-else");
    double.put(Kind::Secret, secret);
    let error = house.mint(&profile, CLAIM).await.unwrap_err();
    assert!(matches!(&error, Trouble::Lasting(why) if why.contains("not made for node-1")), "{error}");
}

#[tokio::test]
async fn what_an_issuer_would_refuse_is_known_before_any_power_change() {
    let double = Double::start().await;
    let house = House::kubernetes(&double).await;
    let (profile, hardware) = (profile("kubernetes", json!({})), super::hardware("10.0.0.9/24"));
    house.clusters.could_mint(&house.cluster, &profile, &hardware).await.unwrap();
    assert_eq!(double.all(Kind::Secret), Vec::<Value>::new(), "a dry run makes nothing");
    let stranger = House::new(record(&double), &[("kubernetes-credentials", "unknown-token")]).await;
    stranger.clusters.could_mint(&stranger.cluster, &profile, &hardware).await.unwrap_err();
}

#[tokio::test]
async fn a_k3s_agent_gets_a_token_of_its_own_and_a_server_the_servers() {
    let double = Double::start().await;
    let mut with = record(&double);
    with["k3s"] = json!({ "server": "https://10.0.0.1:6443", "server_token": "stored" });
    let secrets =
        [("kubernetes-credentials", super::SERVICE_ACCOUNT), ("k3s-token", "K10aa::server:canary\n")];
    let house = House::new(with, &secrets).await;
    let agent = house.mint(&profile("k3s", json!({})), CLAIM).await.unwrap();
    let token = issued(&agent, "k3s_token");
    let (ca, rest) = token.strip_prefix("K10").unwrap().split_once("::").unwrap();
    assert_eq!((ca.len(), rest), (64, agent.token.reveal()));
    assert_eq!(issued(&agent, "k3s_server"), "https://10.0.0.1:6443");
    assert_eq!(double.all(Kind::Secret).len(), 1);
    let server = house.mint(&profile("rke2", json!({ "role": "server" })), &"2".repeat(64)).await.unwrap();
    assert_eq!(issued(&server, "k3s_token"), "K10aa::server:canary");
    assert_eq!(double.all(Kind::Secret).len(), 1, "nothing is minted for a server");
}
