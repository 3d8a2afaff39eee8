//! PURE. The rules between records: no identity twice, no reference to nothing, no address that cannot be one.

use super::{
    Cluster, DeclaredSha256, DiskHints, Hardware, ImageDeclaration, ImageSource, Inventory, Nic, Problem,
    Profile, RecordName, check_cluster, check_delivery, check_network,
    identity::{canonical, is_filler_serial, is_filler_uuid},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

/// Every mistake in `inventory`, none where it is good. `templates` are the folders that exist. `place_of` turns a JSON
/// pointer into the inventory (`/machines/0/nics/1/mac`) into the place a person looks at.
pub fn check(
    inventory: &Inventory,
    templates: &BTreeSet<RecordName>,
    place_of: impl Fn(&str) -> String,
) -> Vec<Problem> {
    let mut check = Check { place_of: &place_of, problems: Vec::new(), seen: BTreeMap::new() };
    for (index, image) in inventory.images.iter().enumerate() {
        check.image(&format!("/images/{index}"), image);
    }
    for (index, cluster) in inventory.clusters.iter().enumerate() {
        check.cluster(&format!("/clusters/{index}"), cluster);
    }
    for (index, profile) in inventory.profiles.iter().enumerate() {
        check.profile(&format!("/profiles/{index}"), profile, inventory, templates);
    }
    for (index, machine) in inventory.machines.iter().enumerate() {
        check.machine(&format!("/machines/{index}"), machine, inventory);
    }
    check.problems
}

struct Check<'a> {
    place_of: &'a dyn Fn(&str) -> String,
    problems: Vec<Problem>,
    /// What must be there once (kind, value) → who has it and where.
    seen: BTreeMap<(&'static str, String), (String, String)>,
}

impl Check<'_> {
    fn problem(&mut self, pointer: &str, message: impl Into<String>) {
        self.problems.push(Problem::new((self.place_of)(pointer), message));
    }

    /// `owner` is the first to have this `value` of its `kind`, or there is a problem.
    fn once(&mut self, kind: &'static str, value: impl Display, owner: &str, pointer: &str) {
        let value = value.to_string();
        let key = (kind, value.clone());
        if let Some((other, other_pointer)) = self.seen.get(&key) {
            let place = (self.place_of)(other_pointer);
            let message = format!("{kind} {value} is used twice: also by {other} ({place})");
            self.problem(pointer, message);
        } else {
            self.seen.insert(key, (owner.to_owned(), pointer.to_owned()));
        }
    }

    fn machine(&mut self, at: &str, machine: &Hardware, inventory: &Inventory) {
        for (pointer, message) in machine.network.iter().flat_map(|network| network.problems(&machine.nics)) {
            self.problem(&format!("{at}/network{pointer}"), message);
        }
        let owner = format!("machine {}", machine.name);
        self.once("machine name", &machine.name, &owner, &format!("{at}/name"));
        self.identity(at, machine, &owner);
        if machine.nics.is_empty() {
            self.problem(at, format!("{owner} has no NIC; it needs at least the MAC it boots from"));
        }
        for (index, nic) in machine.nics.iter().enumerate() {
            self.nic(&format!("{at}/nics/{index}"), nic, &owner);
        }
        if let Some(bmc) = &machine.bmc {
            // Two machines behind one BMC URL: a power cycle of one would hit the other.
            let url = bmc.url.as_str().trim_end_matches('/');
            self.once("BMC URL", url, &owner, &format!("{at}/bmc/url"));
        }
        if let Some(profile) = &machine.profile
            && !inventory.profiles.iter().any(|p| p.name == *profile)
        {
            let known = list(inventory.profiles.iter().map(|p| &p.name));
            self.problem(
                &format!("{at}/profile"),
                format!("there is no profile {profile} (there is: {known})"),
            );
        }
        let os = inventory.profiles.iter().find(|p| machine.profile.as_ref() == Some(&p.name)).map(|p| p.os);
        if let (Some(os), Some(network)) = (os, &machine.network) {
            for (pointer, message) in check_network::unfit(network, os) {
                self.problem(&format!("{at}/network{pointer}"), message);
            }
        }
        if let Some(hints) = &machine.disk {
            self.hints(&format!("{at}/disk"), hints);
        }
    }

    fn identity(&mut self, at: &str, machine: &Hardware, owner: &str) {
        if let Some(uuid) = machine.uuid {
            let pointer = format!("{at}/uuid");
            if is_filler_uuid(uuid) {
                let message = format!("UUID {uuid} is vendors' filler and names no machine; leave it out");
                self.problem(&pointer, message);
            } else {
                self.once("UUID", canonical(uuid), owner, &pointer);
            }
        }
        if let Some(serial) = &machine.serial {
            let pointer = format!("{at}/serial");
            if is_filler_serial(serial.as_str()) {
                let message =
                    format!("serial \"{serial}\" is vendors' filler and names no machine; leave it out");
                self.problem(&pointer, message);
            } else {
                self.once("serial", serial, owner, &pointer);
            }
        }
    }

    fn nic(&mut self, at: &str, nic: &Nic, owner: &str) {
        self.once("MAC", nic.mac, owner, &format!("{at}/mac"));
        if let Some(net) = nic.address6 {
            let (pointer, address) = (format!("{at}/address6"), net.addr());
            self.once("address", address, owner, &pointer);
            let bits = u128::from(address) & u128::from(net.hostmask());
            if address.is_multicast()
                || address.is_unicast_link_local()
                || (net.prefix_len() < 127 && bits == 0)
            {
                self.problem(&pointer, format!("{address} is not an address of one machine"));
            }
        }
        let Some(net) = nic.address else {
            if nic.gateway.is_some() {
                self.problem(&format!("{at}/gateway"), "a gateway needs an address beside it");
            }
            return;
        };
        let (pointer, address) = (format!("{at}/address"), net.addr());
        self.once("address", address, owner, &pointer);
        if address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_broadcast()
        {
            self.problem(&pointer, format!("{address} is not an address of one machine"));
        } else if net.prefix_len() < 31 && (address == net.network() || address == net.broadcast()) {
            self.problem(
                &pointer,
                format!("{address} is the network or broadcast address of {}", net.trunc()),
            );
        }
        if let Some(gateway) = nic.gateway {
            let pointer = format!("{at}/gateway");
            if gateway == address {
                self.problem(&pointer, format!("the gateway {gateway} is the machine's own address"));
            } else if !net.contains(&gateway) {
                self.problem(&pointer, format!("the gateway {gateway} is outside {}", net.trunc()));
            }
        }
    }

    fn profile(
        &mut self,
        at: &str,
        profile: &Profile,
        inventory: &Inventory,
        templates: &BTreeSet<RecordName>,
    ) {
        let owner = format!("profile {}", profile.name);
        self.once("profile name", &profile.name, &owner, &format!("{at}/name"));
        if !inventory.images.iter().any(|image| image.name == profile.image) {
            let known = list(inventory.images.iter().map(|i| &i.name));
            let message = format!("there is no image {} (there is: {known})", profile.image);
            self.problem(&format!("{at}/image"), message);
        }
        if !templates.contains(&profile.template) {
            let message =
                format!("there is no template {} (there is: {})", profile.template, list(templates.iter()));
            self.problem(&format!("{at}/template"), message);
        }
        for (place, message) in check_delivery::delivery(profile, &inventory.images) {
            self.problem(&format!("{at}{place}"), message);
        }
        self.hints(&format!("{at}/disk"), &profile.disk);
        for (pointer, message) in check_cluster::of_profile(profile, inventory) {
            self.problem(&format!("{at}{pointer}"), message);
        }
    }

    fn cluster(&mut self, at: &str, cluster: &Cluster) {
        let owner = format!("cluster {}", cluster.name);
        self.once("cluster name", &cluster.name, &owner, &format!("{at}/name"));
        for (pointer, message) in check_cluster::of_cluster(cluster) {
            self.problem(&format!("{at}{pointer}"), message);
        }
    }

    fn hints(&mut self, at: &str, hints: &DiskHints) {
        if let (Some(min), Some(max)) = (hints.min_size, hints.max_size)
            && min > max
        {
            self.problem(&format!("{at}/min_size"), format!("min_size {min} is above max_size {max}"));
        }
    }

    fn image(&mut self, at: &str, image: &ImageDeclaration) {
        let owner = format!("image {}", image.name);
        self.once("image name", &image.name, &owner, &format!("{at}/name"));
        match (&image.source, &image.sha256) {
            (ImageSource::Url(_), DeclaredSha256::In { .. }) => self
                .problem(&format!("{at}/sha256"), "an image from a URL needs its SHA-256 itself, not a file"),
            (ImageSource::Url(_) | ImageSource::File(_), DeclaredSha256::Absent) => {
                self.problem(
                    at,
                    "it needs its sha256: the hash decides what is written, not the place it came from",
                );
            }
            (ImageSource::Oci(_), DeclaredSha256::In { .. }) => self.problem(
                &format!("{at}/sha256"),
                "an artifact's SHA-256 is in its registry; leave it out, or give the digits",
            ),
            _ => {}
        }
        if !image.mirrors.is_empty() && !matches!(image.source, ImageSource::Url(_)) {
            self.problem(&format!("{at}/mirrors"), "only an image from a URL has mirrors");
        }
        if image.architecture.is_some() && !matches!(image.source, ImageSource::Oci(_)) {
            self.problem(
                &format!("{at}/architecture"),
                "only an artifact of a registry is chosen by architecture",
            );
        }
        if image.size.is_some_and(|size| size.0 == 0) {
            self.problem(&format!("{at}/size"), "an image is not empty");
        }
    }
}

fn list<'a>(names: impl Iterator<Item = &'a RecordName>) -> String {
    let names: Vec<&str> = names.map(RecordName::as_str).take(20).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
