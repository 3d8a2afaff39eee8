//! What netdog wants of a bond in `net.toml`: its monitoring, and members that nothing else configures.

use super::netdog::{COUNT, Check, Device, Kind, Section};
use std::{collections::BTreeSet, net::IpAddr};
use toml::de::DeValue;

const MII: [&str; 3] = ["miimon-frequency-ms", "miimon-updelay-ms", "miimon-downdelay-ms"];
const ARP: [&str; 3] = ["arpmon-interval-ms", "arpmon-validate", "arpmon-targets"];
const ARP_TARGETS: usize = 16;

pub(super) fn bond(check: &mut Check<'_>, section: &Section<'_>) {
    match section.get("mode") {
        None => check.say(section.at, &section.path, "mode is missing"),
        Some(item) if item.value.as_str() != Some("active-backup") => {
            check.say_at(&item, "is active-backup, the only mode that Bottlerocket has");
        }
        Some(_) => {}
    }
    match section.get("interfaces") {
        None => check.say(section.at, &section.path, "interfaces is missing"),
        Some(item) => match item.value {
            DeValue::Array(members) if !members.is_empty() => {
                for member in members.iter() {
                    check.interface_name(&item, member.get_ref());
                }
                let most = i64::try_from(members.len()).unwrap_or(i64::MAX);
                check.number(section, "min-links", 0..=most);
            }
            _ => check.say_at(&item, "is a list of one interface or more"),
        },
    }
    match section.get("monitoring") {
        None => check.say(section.at, &section.path, "monitoring is missing"),
        Some(item) => match item.section() {
            Some(section) => monitoring(check, &section),
            None => check.say_at(&item, "is a table"),
        },
    }
}

/// By the link (MII) or by ARP, the one or the other, and whole.
fn monitoring(check: &mut Check<'_>, section: &Section<'_>) {
    for (key, item) in section.items() {
        if !MII.contains(&key) && !ARP.contains(&key) {
            check.say_at(&item, "unknown key");
        }
    }
    let any = |keys: &[&str]| keys.iter().any(|key| section.has(key));
    match (any(&MII), any(&ARP)) {
        (true, false) => mii(check, section),
        (false, true) => arp(check, section),
        _ => check.say(section.at, &section.path, "is either by miimon-… or by arpmon-…"),
    }
}

/// The delays are no multiples by netdog's rules: the kernel rounds them down to one, so only less than one is refused.
fn mii(check: &mut Check<'_>, section: &Section<'_>) {
    let [frequency, delays @ ..] = MII;
    let frequency = check.required_number(section, frequency, 1..=*COUNT.end());
    for key in delays {
        let delay = check.required_number(section, key, COUNT);
        if let (Some(frequency), Some(delay), Some(item)) = (frequency, delay, section.get(key))
            && delay < frequency
        {
            check.say_at(&item, format!("is less than miimon-frequency-ms ({frequency})"));
        }
    }
}

fn arp(check: &mut Check<'_>, section: &Section<'_>) {
    let [interval, validate, targets] = ARP;
    check.required_number(section, interval, 1..=*COUNT.end());
    match section.get(validate) {
        None => check.say(section.at, &section.path, format!("{validate} is missing")),
        Some(item) => {
            if !matches!(item.value.as_str(), Some("active" | "all" | "backup" | "none")) {
                check.say_at(&item, "is active, all, backup or none");
            }
        }
    }
    match section.get(targets) {
        None => check.say(section.at, &section.path, format!("{targets} is missing")),
        Some(item) => {
            let list = item.value.as_array().filter(|list| (1..=ARP_TARGETS).contains(&list.len()));
            let is_address = |text: Option<&str>| text.is_some_and(|text| text.parse::<IpAddr>().is_ok());
            if !list.is_some_and(|list| list.iter().all(|target| is_address(target.get_ref().as_str()))) {
                check.say_at(
                    &item,
                    format!("is a list of 1 to {ARP_TARGETS} addresses, without prefix lengths"),
                );
            }
        }
    }
}

/// A bond configures its members itself: none has a section of its own, a VLAN on it, or a second bond.
pub(super) fn members(check: &mut Check<'_>, devices: &[Device<'_>]) {
    let mut taken: BTreeSet<&str> = devices.iter().map(|device| device.name).collect();
    for vlan in devices.iter().filter(|device| device.kind == Kind::Vlan) {
        taken.extend(vlan.section.get("device").and_then(|item| item.value.as_str()));
    }
    for bond in devices.iter().filter(|device| device.kind == Kind::Bond) {
        let Some(item) = bond.section.get("interfaces") else { continue };
        let names = item.value.as_array().into_iter().flat_map(|list| list.iter());
        for name in names.filter_map(|name| name.get_ref().as_str()) {
            if !taken.insert(name) {
                let message =
                    "is in this bond, so it can have no section of its own, no VLAN and no other bond";
                check.say_at(&item, format!("{name} {message}"));
            }
        }
    }
}
