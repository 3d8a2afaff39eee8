//! `net.toml` as Bottlerocket's netdog reads it: interfaces, bonds and VLANs, versions 1 to 3. netdog refuses the whole
//! file for one mistake, and the machine then has no network.

use super::bottlerocket::{Table, at_offset, keys};
use crate::inventory::Problem;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use provisioner_wire::{Mac, order::ConfigFile};
use std::net::IpAddr;
use toml::de::DeValue;

const INTERFACE: [&str; 6] = ["dhcp4", "dhcp6", "static4", "static6", "route", "primary"];
const BOND: [&str; 5] = ["kind", "mode", "interfaces", "min-links", "monitoring"];
const VLAN: [&str; 3] = ["kind", "device", "id"];

pub(super) fn validate(file: &ConfigFile, table: &Table<'_>, problems: &mut Vec<Problem>) {
    let version = table.iter().find(|(key, _)| key.get_ref() == "version").map(|(_, value)| value);
    let number = version.and_then(|v| whole(v.get_ref()));
    if !number.is_some_and(|n| (1..=3).contains(&n)) {
        let at = version.map_or(0, |value| value.span().start);
        problems.push(at_offset(file, at, "version is 1, 2 or 3"));
    }
    let interfaces: Vec<_> = table.iter().filter(|(key, _)| key.get_ref() != "version").collect();
    if interfaces.is_empty() && number != Some(3) {
        problems.push(at_offset(file, 0, "there is no interface"));
    }
    let mut primaries = 0;
    for (name, value) in interfaces {
        let name_text: &str = name.get_ref();
        let mut say = |message: String| {
            problems.push(at_offset(file, name.span().start, format!("{name_text}: {message}")));
        };
        let DeValue::Table(interface) = value.get_ref() else {
            say("is not a table".to_owned());
            continue;
        };
        primaries += usize::from(matches!(keys(interface).get("primary"), Some(DeValue::Boolean(true))));
        if let Err(message) = one(name_text, interface, number.unwrap_or(3)) {
            say(message);
        }
    }
    if primaries > 1 {
        problems.push(at_offset(file, 0, "more than one interface is primary"));
    }
}

fn one(name: &str, interface: &Table<'_>, version: i64) -> Result<(), String> {
    let fields = keys(interface);
    let kind = fields.get("kind").map(|kind| kind.as_str().unwrap_or_default().to_ascii_lowercase());
    let own: &[&str] = match kind.as_deref() {
        None => &[],
        Some("bond") => &BOND,
        Some("vlan") => &VLAN,
        Some(_) => return Err("kind is bond or vlan".to_owned()),
    };
    if let Some(other) = fields.keys().find(|key| !INTERFACE.contains(key) && !own.contains(key)) {
        return Err(format!("unknown key {other}"));
    }
    let is_mac = name.parse::<Mac>().is_ok();
    if is_mac && (kind.is_some() || version < 2) {
        return Err("a bond or VLAN has a name, not a MAC; so has any interface in version 1".to_owned());
    }
    if !is_mac && (name.is_empty() || name.len() > 15 || name.contains(['/', ' ', ':'])) {
        return Err("not a name of an interface".to_owned());
    }
    match kind.as_deref() {
        Some("bond") => bond(&fields)?,
        Some("vlan") => vlan(&fields)?,
        _ => {}
    }
    addressing(&fields)
}

type Fields<'t> = std::collections::BTreeMap<&'t str, &'t DeValue<'t>>;

fn addressing(fields: &Fields<'_>) -> Result<(), String> {
    for (key, allowed) in
        [("dhcp4", &["enabled", "optional", "route-metric"][..]), ("dhcp6", &["enabled", "optional"])]
    {
        match fields.get(key) {
            None | Some(DeValue::Boolean(_)) => {}
            Some(DeValue::Table(options)) => {
                let options = keys(options);
                if let Some(other) = options.keys().find(|option| !allowed.contains(option)) {
                    return Err(format!("unknown key {key}.{other}"));
                }
                if !options.get("enabled").is_some_and(|enabled| enabled.is_bool()) {
                    return Err(format!("{key}.enabled is true or false, and must be given"));
                }
            }
            Some(_) => return Err(format!("{key} is true, false or a table")),
        }
    }
    for key in ["static4", "static6"] {
        if let Some(given) = fields.get(key) {
            addresses(key, given)?;
        }
    }
    let has_static = fields.contains_key("static4") || fields.contains_key("static6");
    if let Some(routes) = fields.get("route") {
        if !has_static {
            return Err("a route needs static4 or static6".to_owned());
        }
        self::routes(routes)?;
    }
    let dhcp = fields.contains_key("dhcp4") || fields.contains_key("dhcp6");
    if !dhcp && !has_static { Err("has neither dhcp nor a static address".to_owned()) } else { Ok(()) }
}

fn addresses(key: &str, given: &DeValue<'_>) -> Result<(), String> {
    let DeValue::Table(table) = given else { return Err(format!("{key} is a table")) };
    let fields = keys(table);
    if let Some(other) = fields.keys().find(|option| **option != "addresses") {
        return Err(format!("unknown key {key}.{other}"));
    }
    let Some(DeValue::Array(list)) = fields.get("addresses") else {
        return Err(format!("{key}.addresses is a list"));
    };
    for address in list.iter().map(|address| address.get_ref().as_str().unwrap_or_default()) {
        let good = match key {
            "static4" => address.parse::<Ipv4Net>().is_ok(),
            _ => address.parse::<Ipv6Net>().is_ok(),
        };
        if !good {
            return Err(format!(
                "{key}.addresses: {address:?} is not such an address with its prefix length"
            ));
        }
    }
    Ok(())
}

fn routes(given: &DeValue<'_>) -> Result<(), String> {
    let DeValue::Array(list) = given else { return Err("route is a list of tables".to_owned()) };
    for route in list.iter() {
        let DeValue::Table(route) = route.get_ref() else {
            return Err("route is a list of tables".to_owned());
        };
        let fields = keys(route);
        if let Some(other) = fields.keys().find(|key| !["to", "via", "from", "route-metric"].contains(key)) {
            return Err(format!("unknown key route.{other}"));
        }
        let text = |key: &str| fields.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        if text("to") != "default" && text("to").parse::<IpNet>().is_err() {
            return Err("route.to is default or a network".to_owned());
        }
        if fields.contains_key("via") && text("via").parse::<IpAddr>().is_err() {
            return Err("route.via is not an address".to_owned());
        }
    }
    Ok(())
}

fn bond(fields: &Fields<'_>) -> Result<(), String> {
    if fields.get("mode").and_then(|mode| mode.as_str()) != Some("active-backup") {
        return Err("mode is active-backup, the only one that Bottlerocket has".to_owned());
    }
    let Some(DeValue::Array(interfaces)) = fields.get("interfaces") else {
        return Err("interfaces is a list".to_owned());
    };
    if interfaces.is_empty() {
        return Err("a bond needs interfaces".to_owned());
    }
    let names = interfaces.iter().map(|name| name.get_ref().as_str().unwrap_or_default());
    for name in names {
        if name.is_empty() || name.parse::<Mac>().is_ok() {
            return Err("a bond's interfaces are given by name, not by MAC".to_owned());
        }
    }
    if let Some(least) = fields.get("min-links") {
        let count = i64::try_from(interfaces.len()).unwrap_or(i64::MAX);
        if !whole(least).is_some_and(|least| (0..=count).contains(&least)) {
            return Err("min-links is more than the bond has".to_owned());
        }
    }
    let Some(DeValue::Table(monitoring)) = fields.get("monitoring") else {
        return Err("a bond needs monitoring".to_owned());
    };
    let monitoring = keys(monitoring);
    let mii = monitoring.keys().any(|key| key.starts_with("miimon-"));
    let arp = monitoring.keys().any(|key| key.starts_with("arpmon-"));
    let positive = |key: &str| monitoring.get(key).and_then(|v| whole(v)).is_some_and(|n| n > 0);
    match (mii, arp) {
        (true, true) | (false, false) => Err("monitoring is either by miimon or by arpmon".to_owned()),
        (true, false) if !positive("miimon-frequency-ms") => Err("miimon-frequency-ms is 0".to_owned()),
        (false, true) if !positive("arpmon-interval-ms") => Err("arpmon-interval-ms is 0".to_owned()),
        (false, true) if !matches!(monitoring.get("arpmon-targets"), Some(DeValue::Array(t)) if !t.is_empty()) => {
            Err("arpmon-targets is empty".to_owned())
        }
        _ => Ok(()),
    }
}

fn vlan(fields: &Fields<'_>) -> Result<(), String> {
    let device = fields.get("device").and_then(|device| device.as_str()).unwrap_or_default();
    if device.is_empty() || device.parse::<Mac>().is_ok() {
        return Err("device is the name of the interface below, not a MAC".to_owned());
    }
    if !fields.get("id").and_then(|id| whole(id)).is_some_and(|id| (1..=4094).contains(&id)) {
        return Err("id is 1 to 4094".to_owned());
    }
    Ok(())
}

fn whole(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
