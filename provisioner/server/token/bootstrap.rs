//! PURE. Kubernetes bootstrap tokens: the Secret in `kube-system`, and whether one that is there already is ours.

use super::{Grant, Issued, MintRequest, Minted, PlainToken, TokenError, builtin};
use crate::machine::Time;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// What [`crate::secret::Keyring::derive`] is asked for, before the cluster's name.
pub const PURPOSE: &str = "kubernetes tokens of ";
pub const NAMESPACE: &str = "kube-system";
/// Labels of all that we make in a cluster.
pub const LABEL_MANAGED: &str = "app.kubernetes.io/managed-by";
pub const LABEL_MACHINE: &str = "provisioner.dev/machine";
pub const LABEL_GENERATION: &str = "provisioner.dev/generation";
/// SHA-256 of the boot id of the claim.
pub const ANNOTATION_CLAIM: &str = "provisioner.dev/claim";

/// The token of this claim: the same each time, so that an answer that was lost costs nothing.
pub fn derive(key: &[u8; 32], request: &MintRequest<'_>, now: Time) -> Result<Minted, TokenError> {
    builtin::mint(key, request, now)
}

/// The public half: what the Secret and the user (`system:bootstrap:ID`) are named by.
pub fn id_of(token: &PlainToken) -> &str {
    token.reveal().split_once('.').map_or("", |(id, _)| id)
}

pub fn secret_name(token: &PlainToken) -> String {
    format!("bootstrap-token-{}", id_of(token))
}

/// The Secret to be created.
pub fn secret(minted: &Minted, request: &MintRequest<'_>, groups: &[&str], signing: bool) -> Value {
    let (id, secret) = minted.token.reveal().split_once('.').unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name(&minted.token),
            "namespace": NAMESPACE,
            "labels": {
                LABEL_MANAGED: "provisioner",
                LABEL_MACHINE: request.machine.as_str(),
                LABEL_GENERATION: request.generation.to_string(),
            },
            "annotations": { ANNOTATION_CLAIM: request.boot_hash },
        },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": id,
            "token-secret": secret,
            "expiration": rfc3339(minted.expires),
            "description": format!("for the machine {}, generation {}", request.machine, request.generation),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": if signing { "true" } else { "false" },
            "auth-extra-groups": groups.join(","),
        },
    })
}

/// Whether a Secret of the same name is what we made for the same claim; then its expiration, which is not moved.
pub fn ours(found: &Value, minted: &Minted, request: &MintRequest<'_>) -> Option<Time> {
    let at = |pointer: &str| found.pointer(pointer).and_then(Value::as_str);
    let label = |name: &str| found.get("metadata")?.get("labels")?.get(name)?.as_str();
    let claim = found.get("metadata")?.get("annotations")?.get(ANNOTATION_CLAIM)?.as_str();
    let data = |key: &str| {
        let text = found.get("data")?.get(key)?.as_str()?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok().map(zeroize::Zeroizing::new)
    };
    let same = at("/type") == Some("bootstrap.kubernetes.io/token")
        && label(LABEL_MANAGED) == Some("provisioner")
        && label(LABEL_MACHINE) == Some(request.machine.as_str())
        && label(LABEL_GENERATION) == Some(request.generation.to_string().as_str())
        && claim == Some(request.boot_hash);
    let text = PlainToken::new(format!("{}.{}", data("token-id")?.as_str(), data("token-secret")?.as_str()));
    (same && minted.hash.is_of(&text)).then(|| time(data("expiration")?.as_str()))?
}

/// Without a fraction: as kubeadm writes it.
fn rfc3339(time: Time) -> String {
    let seconds = k8s_openapi::jiff::Timestamp::from_second(time.0 / 1000);
    seconds.map(|t| t.to_string()).unwrap_or_default()
}

/// A time in RFC 3339.
pub fn time(text: &str) -> Option<Time> {
    text.parse::<k8s_openapi::jiff::Timestamp>().ok().map(|t| Time(t.as_millisecond()))
}

/// What is delivered.
pub fn grant(minted: Minted, expires: Time) -> Grant {
    Grant { token: minted.token, hash: minted.hash, expires, issued: Issued::default() }
}
