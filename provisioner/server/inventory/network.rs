//! A machine's network as it must be: links with their addresses and routes, bonds and VLANs. Each operating system's
//! renderer turns the same record into its own form (`os/network.rs`).

use super::{hardware::Nic, values::BadValue};
use ipnet::IpNet;
use provisioner_wire::Mac;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// By the name that the operating system gives the link, `eno1`, `bond0`.
    pub links: BTreeMap<LinkName, Link>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<IpAddr>,
    /// Domains to search.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<Domain>,
}

/// Exactly one of `mac`, `bond` and `vlan` says what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bond: Option<Bond>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// By DHCPv4.
    pub dhcp: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// With prefix lengths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    pub members: Vec<LinkName>,
    #[serde(default)]
    pub mode: BondMode,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BondMode {
    #[default]
    #[serde(rename = "active-backup")]
    ActiveBackup,
    /// LACP.
    #[serde(rename = "802.3ad")]
    Lacp,
    #[serde(rename = "balance-xor")]
    BalanceXor,
}

impl BondMode {
    /// As the kernel writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active-backup",
            Self::Lacp => "802.3ad",
            Self::BalanceXor => "balance-xor",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// The link below.
    pub on: LinkName,
    /// 1 to 4094.
    pub id: u16,
}

/// `to` none: the default route of `via`'s family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpNet>,
    pub via: IpAddr,
}

impl Route {
    /// `0.0.0.0/0` or `::/0` for a default route.
    pub fn destination(&self) -> String {
        match (self.to, self.via) {
            (Some(to), _) => to.to_string(),
            (None, IpAddr::V4(_)) => "0.0.0.0/0".to_owned(),
            (None, IpAddr::V6(_)) => "::/0".to_owned(),
        }
    }
}

impl Network {
    /// What a machine without a `network` has: its NICs, as `nic0` and on.
    pub fn of_nics(nics: &[Nic]) -> Self {
        let link = |nic: &Nic| Link {
            mac: Some(nic.mac),
            dhcp: nic.address.is_none() && nic.address6.is_none(),
            addresses: nic
                .address
                .map(IpNet::from)
                .into_iter()
                .chain(nic.address6.map(IpNet::from))
                .collect(),
            routes: nic
                .gateway
                .filter(|_| nic.address.is_some())
                .map(|via| Route { to: None, via: via.into() })
                .into_iter()
                .collect(),
            ..Link::default()
        };
        let mut nameservers: Vec<IpAddr> = Vec::new();
        for server in nics.iter().flat_map(|nic| &nic.nameservers) {
            if !nameservers.contains(&(*server).into()) {
                nameservers.push((*server).into());
            }
        }
        let links = nics.iter().enumerate().map(|(i, nic)| (LinkName(format!("nic{i}")), link(nic)));
        Self { links: links.collect(), nameservers, search: Vec::new() }
    }

    /// The bond that a link is a member of.
    pub fn bond_of(&self, member: &LinkName) -> Option<&LinkName> {
        let has = |link: &Link| link.bond.as_ref().is_some_and(|bond| bond.members.contains(member));
        self.links.iter().find(|(_, link)| has(link)).map(|(name, _)| name)
    }

    /// Whether a VLAN is on this link.
    pub fn is_below_a_vlan(&self, name: &LinkName) -> bool {
        self.links.values().any(|link| link.vlan.as_ref().is_some_and(|vlan| vlan.on == *name))
    }

    /// What cannot be, as JSON pointers below the record, with messages.
    pub fn problems(&self, nics: &[Nic]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut members = BTreeSet::new();
        for (name, link) in &self.links {
            let mut say =
                |below: &str, message: String| found.push((format!("/links/{name}{below}"), message));
            let kinds = [link.mac.is_some(), link.bond.is_some(), link.vlan.is_some()];
            if kinds.into_iter().filter(|given| *given).count() != 1 {
                say("", "a link has one of mac, bond and vlan".to_owned());
            }
            if let Some(mac) = link.mac.filter(|mac| !nics.iter().any(|nic| nic.mac == *mac)) {
                say("/mac", format!("the machine has no NIC {mac}"));
            }
            if let Some(bond) = &link.bond {
                if bond.members.is_empty() {
                    say("/bond/members", "a bond needs members".to_owned());
                }
                for member in &bond.members {
                    let plain = self.links.get(member).is_some_and(|m| m.mac.is_some() && m.is_bare());
                    if !plain || !members.insert(member) {
                        let message =
                            format!("{member} is not a link with a MAC, no address, and no other bond");
                        say("/bond/members", message);
                    }
                }
            }
            if let Some(vlan) = &link.vlan {
                if !(1..=4094).contains(&vlan.id) {
                    say("/vlan/id", "a VLAN's id is 1 to 4094".to_owned());
                }
                if self.links.get(&vlan.on).is_none_or(|below| below.vlan.is_some()) {
                    say("/vlan/on", format!("{} is not a link with a MAC or a bond", vlan.on));
                }
            }
            let families = |v4: bool| link.addresses.iter().any(|a| a.addr().is_ipv4() == v4);
            for (index, route) in link.routes.iter().enumerate() {
                if route.to.is_some_and(|to| to.addr().is_ipv4() != route.via.is_ipv4()) {
                    say(&format!("/routes/{index}"), "to and via are of two families".to_owned());
                }
                if !families(route.via.is_ipv4()) && !link.dhcp {
                    say(&format!("/routes/{index}"), "the link has no address of this family".to_owned());
                }
            }
        }
        found
    }
}

impl Link {
    fn is_bare(&self) -> bool {
        !self.dhcp && self.addresses.is_empty() && self.routes.is_empty()
    }
}

/// The name of a Linux network interface, of letters, digits and `._-`: at most 15.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

impl LinkName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LinkName {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if starts && text.len() <= 15 && text.chars().all(good) && text != "version" {
            Ok(Self(text))
        } else {
            Err(BadValue::new(format!("{text:?} is not the name of a link")))
        }
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A DNS domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Domain {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        if text.split('.').all(provisioner_wire::ids::is_label) {
            Ok(Self(text))
        } else {
            Err(BadValue::new(format!("{text:?} is not a domain")))
        }
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}
