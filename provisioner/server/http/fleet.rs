//! What serving many machines at once needs: memory for hot chunks, limits, who is in which failure domain, and which
//! caches are near whom.

use super::{fair::Limits, hot::Hot, pace::Pace};
use crate::inventory::HttpUrl;
use ipnet::IpNet;
use provisioner_wire::order::Order;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Memory for chunks, where nothing else is said.
pub const HOT_BYTES: usize = 128 << 20;
/// Addresses whose failure domain is remembered.
const KNOWN_MAX: usize = 100_000;

/// A cache, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearCache {
    pub url: HttpUrl,
    /// Names of failure domains.
    pub domains: Vec<String>,
    /// Networks that machines ask from.
    pub networks: Vec<IpNet>,
}

/// The site's choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// The label of a machine that names its failure domain.
    pub domain_label: Option<String>,
    pub limits: Limits,
    pub hot_bytes: usize,
    pub caches: Vec<NearCache>,
}

impl Default for Choices {
    fn default() -> Self {
        Self { domain_label: None, limits: Limits::default(), hot_bytes: HOT_BYTES, caches: Vec::new() }
    }
}

#[derive(Debug)]
pub struct Fleet {
    choices: Choices,
    pub hot: Hot,
    pub pace: Arc<Pace>,
    /// Of agents that were heard by their channel: the address they come from → failure domain.
    domains: Mutex<HashMap<IpAddr, String>>,
    served: AtomicU64,
    served_bytes: AtomicU64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new(Choices::default())
    }
}

impl Fleet {
    pub fn new(choices: Choices) -> Self {
        Self {
            hot: Hot::new(choices.hot_bytes),
            pace: Arc::new(Pace::new(choices.limits)),
            domains: Mutex::default(),
            served: AtomicU64::new(0),
            served_bytes: AtomicU64::new(0),
            choices,
        }
    }

    /// Whether it matters in which domain a machine is.
    pub fn wants_domains(&self) -> bool {
        self.choices.domain_label.is_some()
    }

    /// An agent was heard from `peer`, of a machine with these labels. Its failure domain, where it has one.
    pub fn met(&self, peer: IpAddr, labels: &BTreeMap<String, String>) -> Option<String> {
        let domain = self.choices.domain_label.as_ref().and_then(|label| labels.get(label)).cloned();
        let mut known = self.known();
        match &domain {
            Some(domain) if known.len() < KNOWN_MAX || known.contains_key(&peer) => {
                known.insert(peer, domain.clone());
            }
            _ => drop(known.remove(&peer)),
        }
        domain
    }

    pub fn domain_of(&self, peer: IpAddr) -> Option<String> {
        self.known().get(&peer).cloned()
    }

    /// Names in `order` the caches that are near: the machine asks them first.
    pub fn lead_to_caches(&self, order: &mut Order, peer: Option<IpAddr>, domain: Option<&str>) {
        let Order::WriteImage(write) = order else { return };
        let Some(chunks) = &mut write.image.chunks else { return };
        let near = self.choices.caches.iter().filter(|cache| cache.is_near(peer, domain));
        chunks.caches = near.map(NearCache::base).collect();
    }

    /// One piece was sent.
    pub fn sent(&self, bytes: usize) {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.served_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// For people, by name.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let ((hits, misses), pace) = (self.hot.counts(), self.pace.counts());
        [
            ("pieces", self.served.load(Ordering::Relaxed)),
            ("bytes", self.served_bytes.load(Ordering::Relaxed)),
            ("from memory", hits),
            ("from the disk", misses),
            ("had to wait", pace.waited),
            ("waiting", pace.waiting),
            ("sent away", pace.sent_away),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<IpAddr, String>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NearCache {
    fn is_near(&self, peer: Option<IpAddr>, domain: Option<&str>) -> bool {
        let in_domain = domain.is_some_and(|domain| self.domains.iter().any(|d| d == domain));
        in_domain || peer.is_some_and(|peer| self.networks.iter().any(|net| net.contains(&peer)))
    }

    /// As in [`provisioner_wire::chunks::Chunks::base`].
    fn base(&self) -> String {
        format!("{}{}", self.url.as_str().trim_end_matches('/'), crate::image::CHUNKS_BASE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provisioner_wire::{
        chunks::Chunks,
        order::{Image, ImageFormat, LicenceId, WriteImage},
        report::DiskIdentity,
    };

    fn order() -> Order {
        let chunks = Chunks { root: "r".into(), base: "/images".into(), caches: vec![] };
        let image = Image {
            name: "i".into(),
            url: "/i".into(),
            format: ImageFormat::Raw,
            sha256: "s".into(),
            size_bytes: 1,
            raw_sha256: None,
            raw_size_bytes: None,
            chunks: Some(chunks),
        };
        let disk: DiskIdentity = serde_json::from_value(serde_json::json!({"size_bytes": 1})).unwrap();
        Order::WriteImage(WriteImage {
            disk,
            licence: LicenceId(uuid::Uuid::nil()),
            image,
            read_back: Default::default(),
        })
    }

    #[test]
    fn a_machine_is_led_to_the_caches_of_its_rack_and_network() {
        let cache = |url: &str, domain: &[&str], net: &[&str]| NearCache {
            url: url.parse().unwrap(),
            domains: domain.iter().map(|d| (*d).to_owned()).collect(),
            networks: net.iter().map(|n| n.parse().unwrap()).collect(),
        };
        let fleet = Fleet::new(Choices {
            domain_label: Some("rack".into()),
            caches: vec![
                cache("http://10.0.0.5:8081/", &["a"], &[]),
                cache("http://c2:1", &[], &["10.0.1.0/24"]),
            ],
            ..Choices::default()
        });
        let led = |peer: &str, rack: Option<&str>| {
            let peer: IpAddr = peer.parse().unwrap();
            let labels = rack.map(|r| ("rack".to_owned(), r.to_owned())).into_iter().collect();
            let domain = fleet.met(peer, &labels);
            assert_eq!(fleet.domain_of(peer), domain);
            let mut order = order();
            fleet.lead_to_caches(&mut order, Some(peer), domain.as_deref());
            let Order::WriteImage(write) = order else { unreachable!() };
            write.image.chunks.unwrap().caches
        };
        assert_eq!(led("10.0.0.9", Some("a")), ["http://10.0.0.5:8081/images"]);
        assert_eq!(led("10.0.1.9", Some("a")), ["http://10.0.0.5:8081/images", "http://c2:1/images"]);
        assert_eq!(led("10.0.1.9", None), ["http://c2:1/images"]);
        assert!(led("10.0.0.9", Some("b")).is_empty());
    }
}
