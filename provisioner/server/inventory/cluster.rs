//! A cluster that machines join: where its API is, whom to trust there, and who mints its tokens.

use super::{
    Password,
    values::{BadValue, HttpUrl, Line, Period, RecordName},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// Field names under which a cluster's secrets are sealed.
pub mod secret {
    pub const KUBERNETES: &str = "kubernetes-credentials";
    pub const TALOS: &str = "talos-secrets";
    pub const K3S: &str = "k3s-token";
    pub const WEBHOOK: &str = "webhook-secret";
}

/// What a cluster's secrets are sealed under, beside the field. No machine has such a name: it holds a `/`.
pub fn secret_owner(cluster: &str) -> String {
    format!("cluster/{cluster}")
}

/// A file in `hardware/clusters/`, or the body of the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub name: RecordName,
    /// `https://` URL of the Kubernetes API, as nodes reach it.
    pub endpoint: HttpUrl,
    pub ca_certificate: CaCertificate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<Line>,
    /// How this server uses the Kubernetes API: bootstrap tokens, readiness, leaving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesAccess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub talos: Option<TalosIssuer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k3s: Option<K3sIssuer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookIssuer>,
    /// How a node leaves when its machine is released.
    #[serde(default, skip_serializing_if = "Leaving::is_usual")]
    pub leaving: Leaving,
}

/// Use of the Kubernetes API by a service account (`docs/clusters-and-tokens.md` has its rights).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesAccess {
    /// Where this server reaches the API, when not at the cluster's `endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<HttpUrl>,
    /// A kubeconfig with a token or a client certificate in it, or the bare token of a service account.
    pub credentials: Password,
    /// `auth-extra-groups` of bootstrap tokens; each `system:bootstrappers:…`.
    #[serde(default = "usual_groups")]
    pub groups: Vec<BootstrapGroup>,
    /// Tokens may also sign `cluster-info` (kubeadm's discovery).
    #[serde(default = "yes")]
    pub signing: bool,
    /// Approve the kubelet's first certificate only for the machine that its token was minted for, and deny others.
    #[serde(default)]
    pub approve_certificates: bool,
}

fn yes() -> bool {
    true
}

fn usual_groups() -> Vec<BootstrapGroup> {
    vec![BootstrapGroup("system:bootstrappers:provisioner".to_owned())]
}

/// Talos' own secrets: what `talosctl gen secrets` writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TalosIssuer {
    pub secrets: Password,
}

/// k3s and RKE2: the same tokens, other names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct K3sIssuer {
    /// `https://…:6443` (k3s) or `https://…:9345` (RKE2): what agents are told.
    pub server: HttpUrl,
    /// The server token, for nodes that join as servers; agents get a bootstrap token minted through `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_token: Option<Password>,
}

/// Some other program that mints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookIssuer {
    /// `https://` only.
    pub url: HttpUrl,
    /// Key of the HMAC over each request.
    pub secret: Password,
    /// Trusted beside nothing else where given; else the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<CaCertificate>,
    /// May be at a private address. Loopback, link-local and metadata addresses never.
    #[serde(default)]
    pub private: bool,
}

/// How a node leaves its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leaving {
    /// Pods have so long to be moved away before the release fails.
    pub within: Period,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { within: Period::minutes(15) }
    }
}

impl Leaving {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Cluster {
    /// Where this server reaches the Kubernetes API.
    pub fn api(&self) -> &str {
        let own = self.kubernetes.as_ref().and_then(|k| k.server.as_ref());
        own.unwrap_or(&self.endpoint).as_str()
    }

    /// Its secrets, each with the field under which it is sealed.
    pub fn secrets_mut(&mut self) -> Vec<(&'static str, &mut Password)> {
        let mut all = Vec::new();
        if let Some(kubernetes) = &mut self.kubernetes {
            all.push((secret::KUBERNETES, &mut kubernetes.credentials));
        }
        if let Some(talos) = &mut self.talos {
            all.push((secret::TALOS, &mut talos.secrets));
        }
        if let Some(token) = self.k3s.as_mut().and_then(|k3s| k3s.server_token.as_mut()) {
            all.push((secret::K3S, token));
        }
        if let Some(webhook) = &mut self.webhook {
            all.push((secret::WEBHOOK, &mut webhook.secret));
        }
        all
    }

    /// Where each secret is sent: a stored one must not follow to another place.
    pub fn destinations(&self) -> Vec<(&'static str, String)> {
        let trust = |ca: &CaCertificate| ca.hash();
        let mut all = vec![(secret::KUBERNETES, format!("{} {}", self.api(), trust(&self.ca_certificate)))];
        if let Some(webhook) = &self.webhook {
            let ca = webhook.ca_certificate.as_ref().map_or_else(String::new, trust);
            all.push((secret::WEBHOOK, format!("{} {ca}", webhook.url.as_str())));
        }
        all
    }
}

/// One or more certificates in PEM; the first is the cluster's authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaCertificate {
    pem: String,
    hash: String,
}

impl CaCertificate {
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// `sha256:` and the hexadecimal SHA-256 of the first certificate's public key (SPKI), as kubeadm pins it.
    pub fn hash(&self) -> String {
        self.hash.clone()
    }

    /// SHA-256 of the PEM text as it is: what stands in a k3s token.
    pub fn text_hash(&self) -> String {
        provisioner_wire::ids::hex(&Sha256::digest(self.pem.as_bytes()))
    }

    /// The certificates in DER.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.pem.as_bytes()).flatten().collect()
    }
}

impl FromStr for CaCertificate {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let wrong = |why: &dyn fmt::Display| BadValue::new(format!("not a certificate in PEM: {why}"));
        if text.len() > 64 * 1024 {
            return Err(wrong(&"longer than 64 KiB"));
        }
        let mut first = None;
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            let parsed =
                rustls::server::ParsedCertificate::try_from(&certificate).map_err(|error| wrong(&error))?;
            let spki = parsed.subject_public_key_info();
            first.get_or_insert_with(|| provisioner_wire::ids::hex(&Sha256::digest(spki.as_ref())));
        }
        let hash = first.ok_or_else(|| wrong(&"there is none in it"))?;
        Ok(Self { pem: text.to_owned(), hash: format!("sha256:{hash}") })
    }
}

impl TryFrom<String> for CaCertificate {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<CaCertificate> for String {
    fn from(certificate: CaCertificate) -> Self {
        certificate.pem
    }
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`, as Kubernetes demands it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootstrapGroup(String);

impl BootstrapGroup {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BootstrapGroup {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        let rest = text.strip_prefix("system:bootstrappers:").unwrap_or_default();
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b':' | b'-');
        let ends = rest.bytes().last().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if rest.len() <= 256 && ends && rest.bytes().all(good) {
            return Ok(Self(text));
        }
        Err(BadValue::new(format!("{text:?} is not a group of bootstrap tokens (system:bootstrappers:NAME)")))
    }
}

impl From<BootstrapGroup> for String {
    fn from(group: BootstrapGroup) -> Self {
        group.0
    }
}

impl Cluster {
    /// Takes secrets that came in clear out of the record, to be sealed. Files are whole files below `folder`.
    pub fn take_secrets(
        &mut self,
        folder: &std::path::Path,
    ) -> Result<Vec<(String, SecretString)>, (String, super::password::PasswordError)> {
        let mut taken = Vec::new();
        for (field, place) in self.secrets_mut() {
            if let Some(text) = place.read_whole(folder).map_err(|error| (field.to_owned(), error))? {
                taken.push((field.to_owned(), text));
                *place = Password::Stored;
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_one_that_kubernetes_takes() {
        for good in ["system:bootstrappers:a", "system:bootstrappers:kubeadm:default-node-token"] {
            BootstrapGroup::try_from(good.to_owned()).unwrap();
        }
        for bad in [
            "",
            "system:masters",
            "system:bootstrappers:",
            "system:bootstrappers:A",
            "system:bootstrappers:a-",
        ] {
            assert!(BootstrapGroup::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hash_is_kubeadms() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key).unwrap();
        let read: CaCertificate = certificate.pem().parse().unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert_eq!(read.hash(), format!("sha256:{}", provisioner_wire::ids::hex(&Sha256::digest(spki))));
        assert!(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
                .parse::<CaCertificate>()
                .is_err()
        );
        assert!("".parse::<CaCertificate>().is_err());
    }
}
