//! What a template sees: `machine`, `values`, `server`, `role`, `cluster`, `network`, `token`, `issued`.
//! docs/templates.md lists it for authors.

use super::{netboot::by_id, network::Forms};
use crate::{
    inventory::{Cluster, Hardware, Nic, Profile, Values, network::Network},
    token::Grant,
};
use provisioner_wire::{Generation, Mac, report::Disk};
use serde::Serialize;
use std::{collections::BTreeMap, net::Ipv4Addr};
use uuid::Uuid;

/// What templates are told of this server.
#[derive(Debug, Clone, Serialize)]
pub struct Site {
    /// `https://…`: where a node shows its token.
    pub phone_home_url: String,
    /// The same by plain HTTP, for lab images without TLS.
    pub phone_home_http_url: String,
    /// The authority that signed the server's certificate.
    pub ca_pem: String,
}

/// What the workflow adds to what is declared.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub generation: Generation,
    /// The one that may be written; none as long as no agent has seen the machine.
    pub disk: Option<&'a Disk>,
}

impl From<Generation> for Run<'_> {
    fn from(generation: Generation) -> Self {
        Self { generation, disk: None }
    }
}

// Holds the token: no `Debug`.
#[derive(Serialize)]
pub(super) struct Context<'a> {
    machine: Machine<'a>,
    values: Values,
    server: &'a Site,
    network: Forms,
    role: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterView<'a>>,
    token: &'a str,
    issued: BTreeMap<&'static str, &'a str>,
}

/// The cluster that the profile names.
#[derive(Serialize)]
struct ClusterView<'a> {
    name: &'a str,
    endpoint: &'a str,
    /// PEM.
    ca_certificate: &'a str,
    /// `sha256:HEX` of the public key (SPKI).
    ca_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes_version: Option<&'a str>,
}

impl<'a> ClusterView<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        Self {
            name: cluster.name.as_str(),
            endpoint: cluster.endpoint.as_str(),
            ca_certificate: cluster.ca_certificate.pem(),
            ca_hash: cluster.ca_certificate.hash(),
            kubernetes_version: cluster.kubernetes_version.as_ref().map(|version| version.as_str()),
        }
    }
}

#[derive(Serialize)]
struct Machine<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<&'a str>,
    /// New in each generation, so that cloud-init takes the disk for a new instance.
    instance_id: String,
    role: &'a str,
    profile: &'a str,
    generation: u64,
    labels: &'a BTreeMap<String, String>,
    nics: Vec<NicView<'a>>,
    /// The one of `nics` that carries the node's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    nic: Option<NicView<'a>>,
    disk: DiskView<'a>,
}

/// The disk that an operating system which installs itself may write.
#[derive(Serialize)]
struct DiskView<'a> {
    /// Below `/dev/disk/by-id`.
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wwn: Option<&'a str>,
}

/// Stands for the disk until an agent has seen it: a link that no machine has.
const NOT_SEEN: &str = "/dev/disk/by-id/not-seen-yet";

impl<'a> DiskView<'a> {
    fn new(disk: Option<&'a Disk>) -> Self {
        let Some(disk) = disk else { return Self { path: NOT_SEEN.to_owned(), serial: None, wwn: None } };
        // Only where the image was written by the agent: an operating system is not let at a disk without such a name.
        let path = by_id(disk).unwrap_or_else(|_| format!("/dev/{}", disk.name));
        Self { path, serial: disk.serial.as_deref(), wwn: disk.wwn.as_deref() }
    }
}

/// Values that are not declared are absent, so that a template that needs them fails and does not write nothing.
#[derive(Serialize)]
struct NicView<'a> {
    mac: Mac,
    /// With prefix length.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// With prefix length.
    #[serde(skip_serializing_if = "Option::is_none")]
    address6: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netmask: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<Ipv4Addr>,
    nameservers: &'a [Ipv4Addr],
}

/// New in each generation; the same in a seed and in what the seed points to.
pub(super) fn instance_id(hardware: &Hardware, generation: Generation) -> String {
    let identity = hardware.uuid.map_or_else(|| hardware.name.to_string(), |uuid| uuid.to_string());
    format!("{identity}-{generation}")
}

impl<'a> NicView<'a> {
    fn new(nic: &'a Nic) -> Self {
        Self {
            mac: nic.mac,
            address: nic.address.map(|net| net.to_string()),
            address6: nic.address6.map(|net| net.to_string()),
            ip: nic.address.map(|net| net.addr()),
            prefix: nic.address.map(|net| net.prefix_len()),
            netmask: nic.address.map(|net| net.netmask()),
            gateway: nic.gateway,
            nameservers: &nic.nameservers,
        }
    }
}

impl<'a> Context<'a> {
    pub(super) fn new(
        profile: &'a Profile,
        hardware: &'a Hardware,
        run: Run<'a>,
        site: &'a Site,
        cluster: Option<&'a Cluster>,
        grant: &'a Grant,
    ) -> Self {
        let machine = Machine {
            name: hardware.name.as_str(),
            uuid: hardware.uuid,
            serial: hardware.serial.as_ref().map(|serial| serial.as_str()),
            instance_id: instance_id(hardware, run.generation),
            role: profile.role.as_str(),
            profile: profile.name.as_str(),
            generation: run.generation.0,
            labels: &hardware.labels,
            nics: hardware.nics.iter().map(NicView::new).collect(),
            nic: hardware.primary_nic().map(NicView::new),
            disk: DiskView::new(run.disk),
        };
        let network = match &hardware.network {
            Some(network) => Forms::new(network, true),
            None => Forms::new(&Network::of_nics(&hardware.nics), false),
        };
        Self {
            machine,
            values: profile.values_of(hardware),
            server: site,
            network,
            role: profile.role.as_str(),
            cluster: cluster.map(ClusterView::new),
            token: grant.token.reveal(),
            issued: grant.issued.iter().collect(),
        }
    }
}
