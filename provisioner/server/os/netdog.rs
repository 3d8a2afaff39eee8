//! `net.toml` as Bottlerocket's netdog takes it: interfaces, bonds and VLANs, versions 1 to 3. netdog refuses the whole
//! file for one mistake, and the machine then has no network.

use super::{
    bottlerocket::{Table, at_offset},
    netdog_bond,
};
use crate::inventory::Problem;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use provisioner_wire::order::ConfigFile;
use std::{net::IpAddr, ops::RangeInclusive};
use toml::{Spanned, de::DeValue};

/// The keys of every device, each with the first version that has it.
const DEVICE: [(&str, i64); 6] =
    [("primary", 1), ("dhcp4", 1), ("dhcp6", 1), ("static4", 2), ("static6", 2), ("route", 2)];
/// Bonds, VLANs and MACs as names of interfaces.
const KINDS_SINCE: i64 = 3;
/// netdog's numbers are `u32`.
pub(super) const COUNT: RangeInclusive<i64> = 0..=4_294_967_295;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Interface,
    Bond,
    Vlan,
}

impl Kind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Interface => &[],
            Self::Bond => &["kind", "mode", "interfaces", "min-links", "monitoring"],
            Self::Vlan => &["kind", "device", "id"],
        }
    }
}

/// A table of the file and its place.
pub(super) struct Section<'t> {
    /// As in `bond0.monitoring`.
    pub(super) path: String,
    /// Offset in bytes.
    pub(super) at: usize,
    pub(super) table: &'t Table<'t>,
}

/// A value of the file and the place of its key.
pub(super) struct Item<'t> {
    pub(super) path: String,
    pub(super) at: usize,
    pub(super) value: &'t DeValue<'t>,
}

impl<'t> Section<'t> {
    pub(super) fn items(&self) -> impl Iterator<Item = (&'t str, Item<'t>)> {
        self.table.iter().map(|(key, value)| {
            let path = format!("{}.{}", self.path, key.get_ref());
            (key.get_ref().as_ref(), Item { path, at: key.span().start, value: value.get_ref() })
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<Item<'t>> {
        self.items().find(|(name, _)| *name == key).map(|(_, item)| item)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
}

impl<'t> Item<'t> {
    /// The value as a table, where it is one.
    pub(super) fn section(&self) -> Option<Section<'t>> {
        let DeValue::Table(table) = self.value else { return None };
        Some(Section { path: self.path.clone(), at: self.at, table })
    }
}

/// A device of the file, by the name of its table.
pub(super) struct Device<'t> {
    pub(super) name: &'t str,
    pub(super) kind: Kind,
    pub(super) section: Section<'t>,
}

pub(super) struct Check<'c> {
    file: &'c ConfigFile,
    problems: &'c mut Vec<Problem>,
}

pub(super) fn validate(file: &ConfigFile, table: &Table<'_>, problems: &mut Vec<Problem>) {
    let mut check = Check { file, problems };
    // What else the file may hold depends on it.
    let Some(version) = check.version(table) else { return };
    let mut devices = Vec::new();
    for (key, value) in table.iter().filter(|(key, _)| key.get_ref() != "version") {
        let name: &str = key.get_ref();
        let item = Item { path: name.to_owned(), at: key.span().start, value: value.get_ref() };
        match item.section() {
            Some(section) => devices.extend(check.device(name, section, version)),
            None => check.say_at(&item, "is not a table of an interface"),
        }
    }
    if table.len() < 2 {
        check.say(0, "", "there is no interface: the machine would have no network");
    }
    check.one_primary(&devices);
    netdog_bond::members(&mut check, &devices);
}

impl Check<'_> {
    pub(super) fn say(&mut self, at: usize, path: &str, message: impl AsRef<str>) {
        let separator = if path.is_empty() { "" } else { ": " };
        self.problems.push(at_offset(self.file, at, format!("{path}{separator}{}", message.as_ref())));
    }

    pub(super) fn say_at(&mut self, item: &Item<'_>, message: impl AsRef<str>) {
        self.say(item.at, &item.path, message);
    }

    fn version(&mut self, table: &Table<'_>) -> Option<i64> {
        let given = table.iter().find(|(key, _)| key.get_ref() == "version").map(|(_, value)| value);
        let number = given.and_then(|value| whole(value.get_ref())).filter(|n| (1..=3).contains(n));
        if number.is_none() {
            self.say(given.map_or(0, |value| value.span().start), "version", "is 1, 2 or 3");
        }
        number
    }

    fn device<'t>(&mut self, name: &'t str, section: Section<'t>, version: i64) -> Option<Device<'t>> {
        let kind = self.kind(&section, version)?;
        self.name(name, &section, kind, version);
        for (key, item) in section.items() {
            match DEVICE.iter().find(|(known, _)| *known == key) {
                Some((_, since)) if version < *since => {
                    self.say_at(&item, format!("needs version = {since}, not {version}"));
                }
                Some(_) => {}
                None if kind.keys().contains(&key) => {}
                // A request for it is open at netdog; until it is in, the key costs the machine its network.
                None if key == "mtu" => self.say_at(&item, "netdog has no setting for the MTU"),
                None if Kind::Bond.keys().contains(&key) || Kind::Vlan.keys().contains(&key) => {
                    self.say_at(&item, "belongs to another kind of device, or kind is missing");
                }
                None => self.say_at(&item, "unknown key"),
            }
        }
        match kind {
            Kind::Interface => {}
            Kind::Bond => netdog_bond::bond(self, &section),
            Kind::Vlan => self.vlan(&section),
        }
        self.addressing(&section);
        Some(Device { name, kind, section })
    }

    fn kind(&mut self, section: &Section<'_>, version: i64) -> Option<Kind> {
        let Some(item) = section.get("kind") else { return Some(Kind::Interface) };
        if version < KINDS_SINCE {
            self.say_at(&item, format!("bonds and VLANs need version = {KINDS_SINCE}, not {version}"));
            return None;
        }
        match item.value.as_str() {
            Some("bond" | "Bond") => Some(Kind::Bond),
            Some("vlan" | "Vlan" | "VLAN") => Some(Kind::Vlan),
            _ => {
                self.say_at(&item, "is bond or vlan");
                None
            }
        }
    }

    fn name(&mut self, name: &str, section: &Section<'_>, kind: Kind, version: i64) {
        if is_mac(name) {
            if version < KINDS_SINCE {
                let message = format!("a MAC instead of a name needs version = {KINDS_SINCE}, not {version}");
                self.say(section.at, name, message);
            } else if kind != Kind::Interface {
                self.say(section.at, name, "a bond or VLAN has a name, not a MAC");
            }
        } else if let Some(fault) = name_fault(name) {
            self.say(section.at, name, fault);
        }
    }

    fn one_primary(&mut self, devices: &[Device<'_>]) {
        let primaries = devices.iter().filter_map(|device| device.section.get("primary"));
        let (flags, others): (Vec<_>, Vec<_>) = primaries.partition(|item| item.value.is_bool());
        for item in others {
            self.say_at(&item, "is true or false");
        }
        for item in flags.iter().filter(|item| item.value.as_bool() == Some(true)).skip(1) {
            self.say_at(item, "another interface is primary already");
        }
    }

    fn vlan(&mut self, section: &Section<'_>) {
        match section.get("device") {
            None => self.say(section.at, &section.path, "a VLAN needs a device"),
            Some(item) => self.interface_name(&item, item.value),
        }
        self.required_number(section, "id", 0..=4094);
    }

    /// The name of another device: never its MAC.
    pub(super) fn interface_name(&mut self, item: &Item<'_>, value: &DeValue<'_>) {
        match value.as_str() {
            Some(mac) if is_mac(mac) => {
                self.say_at(item, format!("{mac}: a device is given by its name, not by its MAC"));
            }
            Some(name) => {
                if let Some(fault) = name_fault(name) {
                    self.say_at(item, format!("{name:?}: {fault}"));
                }
            }
            None => self.say_at(item, "a device is given by its name"),
        }
    }

    /// The number at `key`, where it is one within `range`.
    pub(super) fn number(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let item = section.get(key)?;
        let number = whole(item.value).filter(|number| range.contains(number));
        if number.is_none() {
            self.say_at(&item, format!("is a whole number of {} to {}", range.start(), range.end()));
        }
        number
    }

    pub(super) fn required_number(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        if !section.has(key) {
            self.say(section.at, &section.path, format!("{key} is missing"));
        }
        self.number(section, key, range)
    }

    fn only(&mut self, section: &Section<'_>, allowed: &[&str]) {
        for (_, item) in section.items().filter(|(key, _)| !allowed.contains(key)) {
            self.say_at(&item, "unknown key");
        }
    }

    fn addressing(&mut self, section: &Section<'_>) {
        self.dhcp(section, "dhcp4", &["enabled", "optional", "route-metric"]);
        self.dhcp(section, "dhcp6", &["enabled", "optional"]);
        for key in ["static4", "static6"] {
            if let Some(item) = section.get(key) {
                self.addresses(key, &item);
            }
        }
        // Also `dhcp4 = false` counts.
        let has_dhcp = section.has("dhcp4") || section.has("dhcp6");
        let has_static = section.has("static4") || section.has("static6");
        if !has_dhcp && !has_static {
            self.say(section.at, &section.path, "has neither dhcp4, dhcp6, static4 nor static6");
        }
        if let Some(item) = section.get("route") {
            if has_dhcp {
                self.say_at(&item, "there are no routes beside dhcp4 or dhcp6, also where these are false");
            } else if !has_static {
                self.say_at(&item, "a route needs static4 or static6");
            }
            self.routes(&item);
        }
    }

    fn dhcp(&mut self, section: &Section<'_>, key: &str, allowed: &[&str]) {
        let Some(item) = section.get(key).filter(|item| !item.value.is_bool()) else { return };
        let Some(options) = item.section() else {
            return self.say_at(&item, "is true, false or a table");
        };
        self.only(&options, allowed);
        if !options.has("enabled") {
            self.say_at(&item, "enabled is missing");
        }
        for flag in ["enabled", "optional"].iter().filter_map(|flag| options.get(flag)) {
            if !flag.value.is_bool() {
                self.say_at(&flag, "is true or false");
            }
        }
        self.number(&options, "route-metric", COUNT);
    }

    fn addresses(&mut self, key: &str, item: &Item<'_>) {
        let Some(section) = item.section() else { return self.say_at(item, "is a table") };
        self.only(&section, &["addresses"]);
        let Some(list) = section.get("addresses") else { return self.say_at(item, "addresses is missing") };
        let DeValue::Array(addresses) = list.value else {
            return self.say_at(&list, "is a list of addresses with prefix lengths");
        };
        for address in addresses.iter() {
            let text = address.get_ref().as_str().unwrap_or_default();
            let (good, family) = match key {
                "static4" => (text.parse::<Ipv4Net>().is_ok(), "IPv4"),
                _ => (text.parse::<Ipv6Net>().is_ok(), "IPv6"),
            };
            if !good {
                let message = format!("{text:?} is not an {family} address with its prefix length");
                self.say(address.span().start, &list.path, message);
            }
        }
    }

    fn routes(&mut self, item: &Item<'_>) {
        let DeValue::Array(list) = item.value else { return self.say_at(item, "is a list of tables") };
        for route in list.iter() {
            self.route(item, route);
        }
    }

    fn route(&mut self, item: &Item<'_>, route: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = route.get_ref() else {
            return self.say(route.span().start, &item.path, "is a list of tables");
        };
        let section = Section { path: item.path.clone(), at: route.span().start, table };
        self.only(&section, &["to", "via", "from", "route-metric"]);
        match section.get("to") {
            None => self.say(section.at, &section.path, "to is missing"),
            Some(to) => {
                let text = to.value.as_str().unwrap_or_default();
                if !text.eq_ignore_ascii_case("default") && text.parse::<IpNet>().is_err() {
                    self.say_at(&to, "is default, or a network with its prefix length");
                }
            }
        }
        for address in ["via", "from"].iter().filter_map(|key| section.get(key)) {
            if address.value.as_str().is_none_or(|text| text.parse::<IpAddr>().is_err()) {
                self.say_at(&address, "is an address");
            }
        }
        self.number(&section, "route-metric", COUNT);
    }
}

/// Why netdog does not take it for the name of a device; its rules are the kernel's, and no dot.
fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 15 {
        Some("a name of an interface has 1 to 15 characters")
    } else if name.contains(['.', '/']) || name.contains(char::is_whitespace) {
        Some("a name of an interface has no dot, slash or space")
    } else {
        None
    }
}

/// Six octets with colons or dashes.
fn is_mac(name: &str) -> bool {
    let octets: Vec<&str> = name.split([':', '-']).collect();
    octets.len() == 6 && octets.iter().all(|o| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn whole(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
