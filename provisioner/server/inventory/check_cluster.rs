//! PURE. The rules between a profile and its cluster. Each problem has its JSON pointer below the record.

use super::{Cluster, Inventory, IssuerKind, Profile, ReadyBy, RecordName};

type Found = Vec<(&'static str, String)>;

pub(super) fn of_cluster(cluster: &Cluster) -> Found {
    let mut found = Vec::new();
    let mut https = |pointer: &'static str, url: &str| {
        if !url.starts_with("https://") {
            found.push((pointer, format!("{url} is not an https:// URL: secrets go there")));
        }
    };
    https("/endpoint", cluster.endpoint.as_str());
    if let Some(server) = cluster.kubernetes.as_ref().and_then(|k| k.server.as_ref()) {
        https("/kubernetes/server", server.as_str());
    }
    if let Some(k3s) = &cluster.k3s {
        https("/k3s/server", k3s.server.as_str());
    }
    if let Some(webhook) = &cluster.webhook {
        https("/webhook/url", webhook.url.as_str());
    }
    found
}

pub(super) fn of_profile(profile: &Profile, inventory: &Inventory) -> Found {
    let mut found = Vec::new();
    let issuer = profile.token.issuer;
    let cluster = match &profile.cluster {
        None => {
            if issuer != IssuerKind::Builtin {
                found.push(("/token/issuer", format!("the issuer {} needs a cluster: NAME", issuer.word())));
            }
            if profile.ready.by == ReadyBy::KubernetesNode {
                found.push(("/ready/by", "kubernetes-node needs a cluster: NAME".to_owned()));
            }
            None
        }
        Some(name) => {
            let cluster = inventory.clusters.iter().find(|c| c.name == *name);
            if cluster.is_none() {
                let known: Vec<&str> = inventory.clusters.iter().map(|c| c.name.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                found.push(("/cluster", format!("there is no cluster {name} (there is: {known})")));
            }
            cluster.map(|cluster| (name, cluster))
        }
    };
    if let Some((name, cluster)) = cluster {
        needs(profile, name, cluster, &mut found);
    }
    let probed = matches!(profile.ready.by, ReadyBy::Tcp | ReadyBy::Tls);
    if !probed && profile.ready.port.is_some() {
        found.push(("/ready/port", "a port is probed only with by: tcp or tls".to_owned()));
    }
    if profile.ready.port == Some(0) {
        found.push(("/ready/port", "0 is not a port".to_owned()));
    }
    let node = profile.ready.by == ReadyBy::KubernetesNode;
    if !node && (!profile.ready.labels.is_empty() || !profile.ready.taints.is_empty()) {
        found.push(("/ready", "labels and taints are looked for only with by: kubernetes-node".to_owned()));
    }
    found
}

fn needs(profile: &Profile, name: &RecordName, cluster: &Cluster, found: &mut Found) {
    let mut lacks = |pointer: &'static str, what: &str, part: &str| {
        found.push((pointer, format!("{what} needs `{part}` in the cluster {name}")));
    };
    let issuer = profile.token.issuer;
    let kubernetes = cluster.kubernetes.is_some();
    match issuer {
        IssuerKind::Kubernetes if !kubernetes => {
            lacks("/token/issuer", "the issuer kubernetes", "kubernetes")
        }
        IssuerKind::Talos if cluster.talos.is_none() => lacks("/token/issuer", "the issuer talos", "talos"),
        IssuerKind::K3s | IssuerKind::Rke2 if cluster.k3s.is_none() => {
            lacks("/token/issuer", &format!("the issuer {}", issuer.word()), "k3s");
        }
        IssuerKind::K3s | IssuerKind::Rke2 if !kubernetes => {
            lacks("/token/issuer", "a short-lived join token", "kubernetes");
        }
        IssuerKind::Webhook if cluster.webhook.is_none() => {
            lacks("/token/issuer", "the issuer webhook", "webhook");
        }
        _ => {}
    }
    if profile.ready.by == ReadyBy::KubernetesNode && !kubernetes {
        lacks("/ready/by", "kubernetes-node", "kubernetes");
    }
    if profile.ready.by == ReadyBy::Tls && profile.ready.ca_certificate.is_none() && cluster.talos.is_none() {
        lacks("/ready/by", "tls without its own ca_certificate", "talos");
    }
}
