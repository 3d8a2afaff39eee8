//! PURE. Talos' cluster secrets, as `talosctl gen secrets` writes them, and what a machine of each type gets of them.

use super::{Issued, builtin};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `secrets.yaml`. Texts in base64 stay as they are: that is also their form in a machine config.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Bundle {
    cluster: Cluster,
    secrets: Secrets,
    trustdinfo: Trustd,
    certs: Certs,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bundle(…)")
    }
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Cluster {
    id: String,
    secret: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Secrets {
    bootstraptoken: String,
    #[serde(default)]
    secretboxencryptionsecret: Option<String>,
    #[serde(default)]
    aescbcencryptionsecret: Option<String>,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Trustd {
    token: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Certs {
    etcd: Pair,
    k8s: Pair,
    k8saggregator: Pair,
    k8sserviceaccount: Key,
    os: Pair,
}

/// A certificate and its key, PEM in base64.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Pair {
    crt: String,
    key: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Key {
    key: String,
}

/// `Display` names the field, never what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Talos secrets bundle (talosctl gen secrets): {0}")]
pub struct BadBundle(String);

/// Names in `issued` that a worker gets.
pub const WORKER: &[&str] =
    &["machine_token", "machine_ca_crt", "cluster_id", "cluster_secret", "cluster_token", "cluster_ca_crt"];
/// Names that only a control plane machine gets beside them.
pub const CONTROL_PLANE: &[&str] = &[
    "machine_ca_key",
    "cluster_ca_key",
    "aggregator_ca_crt",
    "aggregator_ca_key",
    "service_account_key",
    "etcd_ca_crt",
    "etcd_ca_key",
    "secretbox_encryption_secret",
];

impl Bundle {
    pub fn parse(text: &str) -> Result<Self, BadBundle> {
        // The reader's own words may quote a secret: only the place is told.
        let bundle: Self = serde_saphyr::from_str(text).map_err(|error| {
            let error = error.without_snippet();
            let place = error.location().map_or_else(String::new, |at| format!("line {}", at.line()));
            BadBundle(format!("it cannot be read as one {place}").trim_end().to_owned())
        })?;
        bundle.validate()?;
        Ok(bundle)
    }

    fn validate(&self) -> Result<(), BadBundle> {
        let wrong = |field: &str, what: &str| Err(BadBundle(format!("{field} {what}")));
        for (field, text) in [("cluster.id", &self.cluster.id), ("cluster.secret", &self.cluster.secret)] {
            if STANDARD.decode(text).map_or(0, |bytes| bytes.len()) < 16 {
                return wrong(field, "is not base64 of 16 bytes or more");
            }
        }
        for (field, text) in [
            ("secrets.bootstraptoken", &self.secrets.bootstraptoken),
            ("trustdinfo.token", &self.trustdinfo.token),
        ] {
            if !builtin::is_well_formed(text) {
                return wrong(field, "is not a token ([a-z0-9]{6}.[a-z0-9]{16})");
            }
        }
        if self.secrets.secretboxencryptionsecret.is_none() && self.secrets.aescbcencryptionsecret.is_none() {
            return wrong("secrets", "holds no encryption secret");
        }
        let certs = &self.certs;
        for (field, pair) in [
            ("certs.etcd", &certs.etcd),
            ("certs.k8s", &certs.k8s),
            ("certs.k8saggregator", &certs.k8saggregator),
            ("certs.os", &certs.os),
        ] {
            let pem = STANDARD.decode(&pair.crt).unwrap_or_default();
            if CertificateDer::from_pem_slice(&pem).is_err() {
                return wrong(field, "has no certificate (base64 of PEM) as crt");
            }
            if !is_key(&pair.key) {
                return wrong(field, "has no private key (base64 of PEM) as key");
            }
        }
        if !is_key(&certs.k8sserviceaccount.key) {
            return wrong("certs.k8sserviceaccount", "has no private key (base64 of PEM) as key");
        }
        Ok(())
    }

    /// What the config of a machine needs. A worker never gets a key of an authority. `join` takes the place of the
    /// cluster-wide bootstrap token.
    pub fn issued(&self, control_plane: bool, join: Option<&str>) -> Issued {
        let mut issued = Issued::default();
        issued.put("machine_token", &*self.trustdinfo.token);
        issued.put("machine_ca_crt", &*self.certs.os.crt);
        issued.put("cluster_id", &*self.cluster.id);
        issued.put("cluster_secret", &*self.cluster.secret);
        issued.put("cluster_ca_crt", &*self.certs.k8s.crt);
        // The control plane's config writes this token into the cluster: it must be the lasting one.
        let join = join.filter(|_| !control_plane);
        issued.put("cluster_token", join.unwrap_or(&self.secrets.bootstraptoken));
        if control_plane {
            issued.put("machine_ca_key", &*self.certs.os.key);
            issued.put("cluster_ca_key", &*self.certs.k8s.key);
            issued.put("aggregator_ca_crt", &*self.certs.k8saggregator.crt);
            issued.put("aggregator_ca_key", &*self.certs.k8saggregator.key);
            issued.put("service_account_key", &*self.certs.k8sserviceaccount.key);
            issued.put("etcd_ca_crt", &*self.certs.etcd.crt);
            issued.put("etcd_ca_key", &*self.certs.etcd.key);
            let secrets = &self.secrets;
            let secretbox =
                secrets.secretboxencryptionsecret.as_ref().or(secrets.aescbcencryptionsecret.as_ref());
            issued.put("secretbox_encryption_secret", secretbox.map_or("", String::as_str));
        }
        issued
    }

    /// The authority of Talos' own API (apid), PEM.
    pub fn os_authority(&self) -> Vec<u8> {
        STANDARD.decode(&self.certs.os.crt).unwrap_or_default()
    }
}

/// Base64 of a PEM private key; Talos writes `BEGIN ED25519 PRIVATE KEY` and the like, so the kind is not looked at.
fn is_key(text: &str) -> bool {
    let pem = zeroize::Zeroizing::new(STANDARD.decode(text).unwrap_or_default());
    std::str::from_utf8(&pem)
        .is_ok_and(|pem| pem.starts_with("-----BEGIN ") && pem.contains("PRIVATE KEY-----"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let crt = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key).unwrap();
        (STANDARD.encode(crt.pem()), STANDARD.encode(key.serialize_pem()))
    }

    fn bundle() -> String {
        let (crt, key) = pair();
        let (id, secret) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
        let pair = format!("{{crt: {crt}, key: {key}}}");
        format!(
            "cluster:\n  id: {id}\n  secret: {secret}\nsecrets:\n  bootstraptoken: abcdef.0123456789abcdef\n  \
             secretboxencryptionsecret: {secret}\ntrustdinfo:\n  token: ghijkl.0123456789abcdef\ncerts:\n  etcd: {pair}\n  \
             k8s: {pair}\n  k8saggregator: {pair}\n  k8sserviceaccount: {{key: {key}}}\n  os: {pair}\n"
        )
    }

    #[test]
    fn a_worker_gets_no_key_of_an_authority() {
        let bundle = Bundle::parse(&bundle()).unwrap();
        let names =
            |issued: &Issued| issued.iter().map(|(n, _)| n).collect::<std::collections::BTreeSet<_>>();
        let worker = bundle.issued(false, Some("short1.0123456789abcdef"));
        assert_eq!(names(&worker), WORKER.iter().copied().collect());
        for (name, text) in worker.iter() {
            let plain = STANDARD.decode(text).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&plain).contains("PRIVATE"), "{name}");
        }
        assert!(worker.iter().any(|(n, t)| n == "cluster_token" && t == "short1.0123456789abcdef"));
        let control = bundle.issued(true, Some("short1.0123456789abcdef"));
        assert_eq!(names(&control), WORKER.iter().chain(CONTROL_PLANE).copied().collect());
        assert!(control.iter().any(|(n, t)| n == "cluster_token" && t == "abcdef.0123456789abcdef"));
        assert_eq!(format!("{bundle:?}"), "Bundle(…)");
    }

    #[test]
    fn a_bad_bundle_is_named_and_not_quoted() {
        let good = bundle();
        for (from, to, said) in [
            ("abcdef.0123456789abcdef", "Hunter2", "secrets.bootstraptoken"),
            ("ghijkl.", "hunter2", "trustdinfo.token"),
            ("etcd: {crt: ", "etcd: {crt: hunter2", "certs.etcd"),
            ("trustdinfo:", "hunter2:", "cannot be read"),
        ] {
            let error = Bundle::parse(&good.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(said) && !error.to_lowercase().contains("hunter2"), "{error}");
        }
    }
}
