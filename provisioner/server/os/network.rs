//! PURE. A machine's network in the words of each operating system. Names and addresses are typed, so that no value can
//! become a line of its own.

use super::net_toml::net_toml;
use crate::inventory::network::{Link, LinkName, Network, Route};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// What a template sees as `network`.
#[derive(Serialize)]
pub(super) struct Forms {
    nameservers: Vec<IpAddr>,
    search: Vec<String>,
    /// Network config version 2 (cloud-init, netplan).
    v2: Value,
    /// Documents of Talos.
    talos: Vec<Value>,
    /// Files of systemd-networkd.
    networkd: Vec<File>,
    /// NetworkManager's keyfiles.
    keyfiles: Vec<File>,
    /// Bottlerocket's.
    net_toml: String,
}

#[derive(Serialize)]
struct File {
    path: String,
    contents: String,
}

impl Forms {
    /// `renamed`: the operator named the links, so that the system shall call them so.
    pub(super) fn new(network: &Network, renamed: bool) -> Self {
        Self {
            nameservers: network.nameservers.clone(),
            search: network.search.iter().map(|domain| domain.as_str().to_owned()).collect(),
            v2: v2(network, renamed),
            talos: talos(network),
            networkd: networkd(network),
            keyfiles: keyfiles(network),
            net_toml: net_toml(network),
        }
    }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn v2(network: &Network, renamed: bool) -> Value {
    let mut groups: Map<String, Value> = Map::new();
    groups.insert("version".to_owned(), 2.into());
    for (name, link) in &network.links {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        let group = if let Some(mac) = link.mac {
            put("match", json!({ "macaddress": mac }));
            if renamed {
                put("set-name", name.as_str().into());
            }
            "ethernets"
        } else if let Some(bond) = &link.bond {
            put("interfaces", json!(texts(&bond.members)));
            put("parameters", json!({ "mode": bond.mode.word(), "mii-monitor-interval": "100" }));
            "bonds"
        } else if let Some(vlan) = &link.vlan {
            put("id", vlan.id.into());
            put("link", vlan.on.as_str().into());
            "vlans"
        } else {
            continue;
        };
        put("dhcp4", link.dhcp.into());
        if let Some(mtu) = link.mtu {
            put("mtu", mtu.into());
        }
        if !link.addresses.is_empty() {
            put("addresses", json!(texts(&link.addresses)));
            if !network.nameservers.is_empty() {
                let mut servers = json!({ "addresses": network.nameservers });
                if let Some(servers) = servers.as_object_mut().filter(|_| !network.search.is_empty()) {
                    servers.insert("search".to_owned(), json!(network.search));
                }
                put("nameservers", servers);
            }
        }
        // Debian 12's cloud-init reads a route to ::/0 as one to ::/64, and knows no `default`.
        let is_default6 = |r: &&Route| r.via.is_ipv6() && r.destination() == "::/0";
        let has6 = link.addresses.iter().any(|address| address.addr().is_ipv6());
        let gateway6 = link.routes.iter().find(is_default6).filter(|_| has6);
        if let Some(route) = gateway6 {
            put("gateway6", json!(route.via));
        }
        let others: Vec<Value> = (link.routes.iter().filter(|route| Some(*route) != gateway6))
            .map(|route| json!({ "to": route.destination(), "via": route.via }))
            .collect();
        if !others.is_empty() {
            put("routes", others.into());
        }
        let entry = groups.entry(group).or_insert_with(|| json!({}));
        if let Some(links) = entry.as_object_mut() {
            links.insert(name.to_string(), Value::Object(out));
        }
    }
    Value::Object(groups)
}

fn talos(network: &Network) -> Vec<Value> {
    let document = |kind: &str, name: &LinkName| {
        let mut map = Map::new();
        map.insert("apiVersion".to_owned(), "v1alpha1".into());
        map.insert("kind".to_owned(), kind.into());
        map.insert("name".to_owned(), name.as_str().into());
        map
    };
    let mut documents = Vec::new();
    for (name, link) in &network.links {
        let mut out = if let Some(mac) = link.mac {
            let mut alias = document("LinkAliasConfig", name);
            let matched = format!("mac(link.permanent_addr) == \"{mac}\"");
            alias.insert("selector".to_owned(), json!({ "match": matched }));
            documents.push(Value::Object(alias));
            document("LinkConfig", name)
        } else if let Some(bond) = &link.bond {
            let mut out = document("BondConfig", name);
            out.insert("links".to_owned(), json!(texts(&bond.members)));
            out.insert("bondMode".to_owned(), bond.mode.word().into());
            out.insert("miimon".to_owned(), 100.into());
            out
        } else if let Some(vlan) = &link.vlan {
            let mut out = document("VLANConfig", name);
            out.insert("vlanID".to_owned(), vlan.id.into());
            out.insert("parent".to_owned(), vlan.on.as_str().into());
            out
        } else {
            continue;
        };
        out.insert("up".to_owned(), true.into());
        if let Some(mtu) = link.mtu {
            out.insert("mtu".to_owned(), mtu.into());
        }
        if !link.addresses.is_empty() {
            let addresses = link.addresses.iter().map(|address| json!({ "address": address }));
            out.insert("addresses".to_owned(), addresses.collect());
        }
        let route = |r: &Route| match r.to {
            Some(to) => json!({ "destination": to, "gateway": r.via }),
            None => json!({ "gateway": r.via }),
        };
        if !link.routes.is_empty() {
            out.insert("routes".to_owned(), link.routes.iter().map(route).collect());
        }
        documents.push(Value::Object(out));
        if link.dhcp {
            documents.push(Value::Object(document("DHCPv4Config", name)));
        }
    }
    if !network.nameservers.is_empty() {
        let servers: Vec<Value> = network.nameservers.iter().map(|a| json!({ "address": a })).collect();
        let mut out = json!({ "apiVersion": "v1alpha1", "kind": "ResolverConfig", "nameservers": servers });
        if let Some(out) = out.as_object_mut().filter(|_| !network.search.is_empty()) {
            out.insert("searchDomains".to_owned(), json!({ "domains": network.search }));
        }
        documents.push(out);
    }
    documents
}

fn networkd(network: &Network) -> Vec<File> {
    let mut files = Vec::new();
    for (name, link) in &network.links {
        let path = |kind: &str| format!("/etc/systemd/network/10-{name}.{kind}");
        if let Some(bond) = &link.bond {
            let contents = format!(
                "[NetDev]\nName={name}\nKind=bond\n\n[Bond]\nMode={}\nMIIMonitorSec=100ms\n",
                bond.mode.word()
            );
            files.push(File { path: path("netdev"), contents });
        } else if let Some(vlan) = &link.vlan {
            let contents = format!("[NetDev]\nName={name}\nKind=vlan\n\n[VLAN]\nId={}\n", vlan.id);
            files.push(File { path: path("netdev"), contents });
        }
        files.push(File { path: path("network"), contents: networkd_network(network, name, link) });
    }
    files
}

fn networkd_network(network: &Network, name: &LinkName, link: &Link) -> String {
    // `Kind=!*`: a bond or VLAN has the MAC of what is below it.
    let mut text = match link.mac {
        Some(mac) => format!("[Match]\nMACAddress={mac}\nKind=!*\n"),
        None => format!("[Match]\nName={name}\n"),
    };
    if let Some(mtu) = link.mtu {
        text += &format!("\n[Link]\nMTUBytes={mtu}\n");
    }
    text += "\n[Network]\n";
    if let Some(bond) = network.bond_of(name) {
        return text + &format!("Bond={bond}\n");
    }
    for (above, vlan) in network.links.iter().filter_map(|(n, l)| Some((n, l.vlan.as_ref()?))) {
        if vlan.on == *name {
            text += &format!("VLAN={above}\n");
        }
    }
    text += if link.dhcp { "DHCP=ipv4\n" } else { "DHCP=no\n" };
    for address in &link.addresses {
        text += &format!("Address={address}\n");
    }
    if !link.addresses.is_empty() {
        for server in &network.nameservers {
            text += &format!("DNS={server}\n");
        }
        if !network.search.is_empty() {
            let domains: Vec<&str> = network.search.iter().map(|domain| domain.as_str()).collect();
            text += &format!("Domains={}\n", domains.join(" "));
        }
    }
    for route in &link.routes {
        text += &format!("\n[Route]\nDestination={}\nGateway={}\n", route.destination(), route.via);
    }
    text
}

fn keyfiles(network: &Network) -> Vec<File> {
    let file = |(name, link): (&LinkName, &Link)| File {
        path: format!("/etc/NetworkManager/system-connections/{name}.nmconnection"),
        contents: keyfile(network, name, link),
    };
    network.links.iter().map(file).collect()
}

/// The same for the same name: connections refer to each other by it, because a link's kernel name is not known.
fn connection_id(name: &LinkName) -> uuid::Uuid {
    let hash = Sha256::digest(name.as_str().as_bytes());
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash.iter()) {
        *to = *from;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn keyfile(network: &Network, name: &LinkName, link: &Link) -> String {
    let kind = match (&link.bond, &link.vlan) {
        (Some(_), _) => "bond",
        (_, Some(_)) => "vlan",
        _ => "ethernet",
    };
    let mut text = format!("[connection]\nid={name}\nuuid={}\ntype={kind}\n", connection_id(name));
    if link.mac.is_none() {
        text += &format!("interface-name={name}\n");
    }
    if let Some(bond) = network.bond_of(name) {
        text += &format!("master={}\nslave-type=bond\n", connection_id(bond));
    }
    let mtu = link.mtu.map(|mtu| format!("mtu={mtu}\n")).unwrap_or_default();
    match link.mac {
        Some(mac) => text += &format!("\n[ethernet]\nmac-address={mac}\n{mtu}"),
        None if !mtu.is_empty() => text += &format!("\n[ethernet]\n{mtu}"),
        None => {}
    }
    if let Some(bond) = &link.bond {
        text += &format!("\n[bond]\nmode={}\nmiimon=100\n", bond.mode.word());
    }
    if let Some(vlan) = &link.vlan {
        text += &format!("\n[vlan]\nid={}\nparent={}\n", vlan.id, connection_id(&vlan.on));
    }
    if network.bond_of(name).is_none() {
        for v4 in [true, false] {
            text += &keyfile_family(network, link, v4);
        }
    }
    text
}

fn keyfile_family(network: &Network, link: &Link, v4: bool) -> String {
    let addresses: Vec<_> = link.addresses.iter().filter(|a| a.addr().is_ipv4() == v4).collect();
    let method = match (addresses.is_empty(), v4) {
        (false, _) => "manual",
        (true, true) if link.dhcp => "auto",
        (true, true) => "disabled",
        // Router advertisements are read, as the other systems do.
        (true, false) => "auto",
    };
    let mut text = format!("\n[{}]\nmethod={method}\n", if v4 { "ipv4" } else { "ipv6" });
    for (index, address) in addresses.iter().enumerate() {
        text += &format!("address{}={address}\n", index + 1);
    }
    let routes = link.routes.iter().filter(|route| route.via.is_ipv4() == v4);
    for (index, route) in routes.enumerate() {
        text += &format!("route{}={},{}\n", index + 1, route.destination(), route.via);
    }
    if !addresses.is_empty() {
        let servers = network.nameservers.iter().filter(|server| server.is_ipv4() == v4);
        let servers: Vec<String> = servers.map(|server| format!("{server};")).collect();
        if !servers.is_empty() {
            text += &format!("dns={}\n", servers.concat());
        }
        let domains: Vec<String> = network.search.iter().map(|d| format!("{};", d.as_str())).collect();
        if !domains.is_empty() {
            text += &format!("dns-search={}\n", domains.concat());
        }
    }
    text
}
