//! netdog's own samples of `net.toml`, at the versions at which its tests run them, and its rules that no sample breaks.

use super::fixtures;
use provisioner::{
    inventory::OperatingSystem::Bottlerocket,
    os::{Site, config, validate},
    token::{Grant, PlainToken},
};
use provisioner_wire::{
    Generation,
    order::{Config, ConfigFile},
};
use serde_json::{Value, json};
use std::fs;

fn problems(net: &str) -> Vec<String> {
    let file =
        |name: &str, contents: &str| ConfigFile { name: name.into(), contents: contents.into(), mode: 0o600 };
    let config = Config { files: vec![file("user-data.toml", ""), file("net.toml", net)] };
    let problems = validate(Bottlerocket, &config).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

/// The samples are handlebars templates of a version.
fn sample(name: &str, version: u8) -> String {
    let text = fs::read_to_string(fixtures("netdog").join(name)).unwrap();
    let mut kept = vec![true];
    let mut out = String::new();
    for line in text.lines() {
        if let Some(rest) = line.trim().strip_prefix("{{#if (eq version ") {
            kept.push(rest.starts_with(&version.to_string()));
        } else if line.trim().starts_with("{{/if") {
            kept.pop();
        } else if kept.iter().all(|kept| *kept) {
            out += &line.replace("{{version}}", &version.to_string());
            out.push('\n');
        }
    }
    out
}

/// The versions at which netdog's tests run the samples of a folder.
const EVERY: &[u8] = &[1, 2, 3];
const ADDRESSES: &[u8] = &[2, 3];
const DEVICES: &[u8] = &[3];

const GOOD: &[(&str, &[u8])] = &[
    ("all/net_config.toml", EVERY),
    ("net_config.toml", &[1]),
    ("basic/net_config.toml", EVERY),
    ("basic/no_primary.toml", EVERY),
    ("static_address/net_config.toml", ADDRESSES),
    ("static_address/dhcp_and_static.toml", ADDRESSES),
    ("vlan/net_config.toml", DEVICES),
    ("bonding/net_config.toml", DEVICES),
];

#[test]
fn netdogs_good_samples_are_taken() {
    for (name, versions) in GOOD {
        for version in *versions {
            assert_eq!(problems(&sample(name, *version)), Vec::<String>::new(), "{name} {version}");
        }
    }
}

/// Each with the rule that it is a sample of.
const BAD: &[(&str, &[u8], &str)] = &[
    ("basic/bad_version.toml", EVERY, "net.toml:1:11: version: is 1, 2 or 3"),
    ("basic/multiple_primary.toml", EVERY, "net.toml:9:1: eno2.primary: another interface is primary"),
    ("basic/invalid_interface_config.toml", EVERY, "net.toml:9:1: eno2.optional: unknown key"),
    // netdog takes these two, says that no interface is configured, and leaves the machine without network.
    ("basic/no_interfaces.toml", EVERY, "there is no interface"),
    ("no_interfaces.toml", &[1], "there is no interface"),
    ("dhcp/dhcp4_missing_enabled.toml", EVERY, "eno1.dhcp4: enabled is missing"),
    ("dhcp/dhcp6_missing_enabled.toml", EVERY, "eno1.dhcp6: enabled is missing"),
    // Its last line is no TOML.
    ("dhcp/invalid_dhcp4_options.toml", EVERY, "net.toml:10:7: "),
    ("dhcp/invalid_dhcp6_options.toml", EVERY, "net.toml:9:1: eno2.dhcp6.route-metric: unknown key"),
    ("dhcp/invalid_dhcp_config.toml", EVERY, "net.toml:3:2: eno1: has neither"),
    (
        "static_address/dhcp_and_routes.toml",
        ADDRESSES,
        "net.toml:9:8: eno1.route: there are no routes beside",
    ),
    ("static_address/invalid_static_config.toml", ADDRESSES, "eno1.static4.route-metric: unknown key"),
    ("static_address/ipv4_in_static6.toml", ADDRESSES, "\"1.2.3.4/24\" is not an IPv6 address"),
    ("static_address/ipv6_in_static4.toml", ADDRESSES, "\"2001:dead:beef::2/64\" is not an IPv4 address"),
    ("static_address/no_dhcp_or_static.toml", ADDRESSES, "eno1: has neither"),
    ("static_address/routes_no_addresses.toml", ADDRESSES, "eno1.route: a route needs static4 or static6"),
    ("vlan/mac_as_identifier.toml", DEVICES, "f8:74:a4:d5:32:64: a bond or VLAN has a name"),
    ("vlan/mac_in_device.toml", DEVICES, "vlan0.device: f8:74:a4:d5:32:64: a device is given by its name"),
    ("vlan/missing_kind.toml", DEVICES, "vlan42.device: belongs to another kind"),
    ("vlan/no_device.toml", DEVICES, "vlan42: a VLAN needs a device"),
    ("vlan/no_id.toml", DEVICES, "vlan6: id is missing"),
    ("vlan/oob_id.toml", DEVICES, "net.toml:6:1: vlan6.id: is a whole number of 0 to 4094"),
    ("bonding/arpmon_no_targets.toml", DEVICES, "version: is 1, 2 or 3"),
    ("bonding/both_monitoring.toml", DEVICES, "duplicate key"),
    ("bonding/disabled_arpmon.toml", DEVICES, "bond1.monitoring.arpmon-interval-ms: is a whole number of 1"),
    ("bonding/disabled_miimon.toml", DEVICES, "bond0.monitoring.miimon-frequency-ms: is a whole number of 1"),
    ("bonding/mac_as_identifier.toml", DEVICES, "f8:74:a4:d5:32:64: a bond or VLAN has a name"),
    ("bonding/mac_in_interfaces.toml", DEVICES, "bond0.interfaces: f8:74:a4:d5:32:64: a device is given"),
    ("bonding/missing_kind.toml", DEVICES, "bond0.interfaces: belongs to another kind"),
    ("bonding/no_interfaces.toml", DEVICES, "bond0.interfaces: is a list of one interface or more"),
    ("bonding/no_monitoring.toml", DEVICES, "bond0: monitoring is missing"),
    ("bonding/too_many_min_links.toml", DEVICES, "bond0.min-links: is a whole number of 0 to 2"),
    ("bonding/vlan_using_bond.toml", DEVICES, "bond0.interfaces: eno51 is in this bond"),
];

#[test]
fn netdogs_bad_samples_are_refused() {
    for (name, versions, said) in BAD {
        for version in *versions {
            let problems = problems(&sample(name, *version));
            assert!(problems.iter().any(|p| p.contains(said)), "{name} {version}: {problems:#?}");
        }
    }
}

#[test]
fn every_sample_is_judged() {
    for path in super::all(&fixtures("netdog"), ".toml") {
        let name = path.strip_prefix(fixtures("netdog")).unwrap().to_str().unwrap();
        let judged = GOOD.iter().map(|(name, _)| name).chain(BAD.iter().map(|(name, ..)| name));
        assert_eq!(judged.filter(|judged| **judged == name).count(), 1, "{name}");
    }
}

#[test]
fn what_a_version_does_not_have_names_the_one_that_does() {
    for (version, body, said) in [
        (1, "[eno1.static4]\naddresses = [\"10.0.0.2/24\"]\n", "eno1.static4: needs version = 2, not 1"),
        (1, "[eno1.static6]\naddresses = [\"fd00::2/64\"]\n", "eno1.static6: needs version = 2, not 1"),
        (
            1,
            "[eno1]\ndhcp4 = true\n[[eno1.route]]\nto = \"default\"\n",
            "eno1.route: needs version = 2, not 1",
        ),
        (1, "[\"52:54:00:88:00:01\"]\ndhcp4 = true\n", "a MAC instead of a name needs version = 3, not 1"),
        (2, "[\"52-54-00-88-00-01\"]\ndhcp4 = true\n", "a MAC instead of a name needs version = 3, not 2"),
        (
            2,
            "[v]\nkind = \"vlan\"\ndevice = \"eno1\"\nid = 2\ndhcp4 = true\n",
            "net.toml:3:1: v.kind: bonds and VLANs need version = 3",
        ),
    ] {
        let problems = problems(&format!("version = {version}\n{body}"));
        assert!(problems.iter().any(|p| p.contains(said)), "{body}: {problems:#?}");
    }
}

/// A delay need not be a multiple; a VLAN may have the id 0.
const BOND: &str = r#"version = 3
[bond0]
kind = "bond"
mode = "active-backup"
interfaces = ["eno1", "eno2"]
dhcp4 = true
[bond0.monitoring]
miimon-frequency-ms = 100
miimon-updelay-ms = 250
miimon-downdelay-ms = 100
[v5]
kind = "vlan"
device = "bond0"
id = 0
dhcp4 = true
"#;

/// `good` is taken, and each mistake alone (what is replaced, by what) refused in these words.
fn each_is_refused(good: &str, mistakes: &[(&str, &str, &str)]) {
    assert_eq!(problems(good), Vec::<String>::new(), "{good}");
    for (from, to, said) in mistakes {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let problems = problems(&bad);
        assert!(problems.iter().any(|p| p.contains(said)), "{from} → {to}: {problems:#?}");
    }
}

#[test]
fn a_bond_is_watched_by_the_link_as_a_whole() {
    each_is_refused(
        BOND,
        &[
            ("miimon-frequency-ms = 100\n", "", "bond0.monitoring: miimon-frequency-ms is missing"),
            ("miimon-updelay-ms = 250\n", "", "bond0.monitoring: miimon-updelay-ms is missing"),
            ("miimon-downdelay-ms = 100\n", "", "bond0.monitoring: miimon-downdelay-ms is missing"),
            ("= 250", "= 99", "net.toml:9:1: bond0.monitoring.miimon-updelay-ms: is less than"),
            (
                "downdelay-ms = 100",
                "downdelay-ms = 0",
                "downdelay-ms: is less than miimon-frequency-ms (100)",
            ),
            ("[v5]", "use-carrier = 1\n[v5]", "net.toml:11:1: bond0.monitoring.use-carrier: unknown key"),
            (
                "[v5]",
                "arpmon-interval-ms = 9\n[v5]",
                "bond0.monitoring: is either by miimon-… or by arpmon-…",
            ),
        ],
    );
}

#[test]
fn a_bond_is_watched_by_arp_as_a_whole() {
    let mii = "miimon-frequency-ms = 100\nmiimon-updelay-ms = 250\nmiimon-downdelay-ms = 100\n";
    let arp = "arpmon-interval-ms = 200\narpmon-validate = \"all\"\narpmon-targets = [\"10.0.0.1\"]\n";
    let targets = |count: u8| (1..=count).map(|n| format!("\"10.0.0.{n}\"")).collect::<Vec<_>>().join(", ");
    let good = BOND.replace(mii, arp);
    each_is_refused(
        &good,
        &[
            ("arpmon-interval-ms = 200\n", "", "bond0.monitoring: arpmon-interval-ms is missing"),
            ("arpmon-validate = \"all\"\n", "", "bond0.monitoring: arpmon-validate is missing"),
            ("arpmon-targets = [\"10.0.0.1\"]\n", "", "bond0.monitoring: arpmon-targets is missing"),
            ("\"all\"", "\"some\"", "arpmon-validate: is active, all, backup or none"),
            (&targets(1), &targets(17), "arpmon-targets: is a list of 1 to 16 addresses"),
            ("\"10.0.0.1\"", "\"10.0.0.1/24\"", "arpmon-targets: is a list of 1 to 16 addresses"),
        ],
    );
    assert_eq!(problems(&good.replace(&targets(1), &targets(16))), Vec::<String>::new());
}

#[test]
fn a_bond_has_its_members_for_itself() {
    let bond1 = BOND.replace("version = 3\n", "").replace("bond0", "bond1").replace("[v5]", "[v6]");
    each_is_refused(
        BOND,
        &[
            ("active-backup", "802.3ad", "net.toml:4:1: bond0.mode: is active-backup"),
            ("mode = \"active-backup\"\n", "", "net.toml:2:2: bond0: mode is missing"),
            ("\"eno2\"]", "\"eno1\"]", "net.toml:5:1: bond0.interfaces: eno1 is in this bond"),
            ("\"eno2\"]", "\"bond0\"]", "bond0.interfaces: bond0 is in this bond"),
            ("[v5]\n", "[eno1]\ndhcp4 = true\n[v5]\n", "bond0.interfaces: eno1 is in this bond"),
            ("[v5]\n", &format!("{bond1}[v5]\n"), "bond1.interfaces: eno1 is in this bond"),
            ("device = \"bond0\"", "device = \"eno2\"", "bond0.interfaces: eno2 is in this bond"),
        ],
    );
}

#[test]
fn names_and_kinds_are_netdogs() {
    each_is_refused(
        BOND,
        &[
            ("kind = \"bond\"", "kind = \"BOND\"", "bond0.kind: is bond or vlan"),
            ("= \"bond0\"", "= \"eno9.5\"", "v5.device: \"eno9.5\": a name of an interface has no dot"),
            ("[v5]", "[\"storage.5\"]", "storage.5: a name of an interface has no dot"),
            ("[v5]", "[a-very-long-name]", "long-name: a name of an interface has 1 to 15 characters"),
            ("id = 0\n", "id = 0\nmtu = 9000\n", "net.toml:15:1: v5.mtu: netdog has no setting for the MTU"),
            ("id = 0\n", "id = \"5\"\n", "v5.id: is a whole number of 0 to 4094"),
            ("dhcp4 = true\n", "dhcp4 = \"yes\"\n", "bond0.dhcp4: is true, false or a table"),
            ("dhcp4 = true\n", "primary = 1\ndhcp4 = true\n", "bond0.primary: is true or false"),
        ],
    );
}

#[test]
fn routes_and_addresses_are_read_as_netdog_reads_them() {
    let good = "version = 2\n[eno1.static4]\naddresses = [\"10.0.0.2/24\"]\n[[eno1.route]]\nto = \"Default\"\n\
                via = \"10.0.0.1\"\nfrom = \"10.0.0.2\"\nroute-metric = 5\n";
    each_is_refused(
        good,
        &[
            ("to = \"Default\"\n", "", "net.toml:4:1: eno1.route: to is missing"),
            ("Default", "10.1.0.0", "eno1.route.to: is default, or a network with its prefix length"),
            ("\"10.0.0.1\"", "\"10.0.0.1/24\"", "eno1.route.via: is an address"),
            ("\"10.0.0.2\"\n", "2\n", "eno1.route.from: is an address"),
            ("metric = 5", "metric = -5", "eno1.route.route-metric: is a whole number of 0 to 4294967295"),
            ("route-metric", "metric", "net.toml:8:1: eno1.route.metric: unknown key"),
            ("2/24\"]", "2\"]", "net.toml:3:14: eno1.static4.addresses: \"10.0.0.2\" is not an IPv4 address"),
            (
                "[eno1.static4]",
                "[eno1]\ndhcp4 = false\n[eno1.static4]",
                "eno1.route: there are no routes beside",
            ),
            (
                "[eno1.static4]",
                "[eno1]\ndhcp6.enabled = true\n[eno1.static4]",
                "eno1.route: there are no routes beside",
            ),
            ("[eno1.static4]", "eno2 = 5\n[eno1.static4]", "net.toml:2:1: eno2: is not a table"),
            ("version = 2", "version = 4", "net.toml:1:11: version: is 1, 2 or 3"),
            ("version = 2", "", "net.toml:1:1: version: is 1, 2 or 3"),
        ],
    );
}

fn rendered(links: Value) -> Result<toml::Table, Vec<String>> {
    let machine = serde_json::from_value(json!({
        "name": "node-1",
        "nics": [{"mac": "52:54:00:88:00:01"}, {"mac": "52:54:00:88:00:02"}, {"mac": "52:54:00:88:00:03"}],
        "network": {"links": links}
    }));
    let profile = serde_json::from_value(json!({
        "name": "b", "image": "b", "os": "bottlerocket", "template": "bottlerocket", "role": "worker",
        "place": {"partition": {"number": 1}, "directory": "/"},
        "values": {"cluster_name": "lab", "cluster_endpoint": "https://10.88.0.100:6443", "cluster_ca": "PEM"}
    }));
    let site = Site {
        phone_home_url: "https://s/".into(),
        phone_home_http_url: "http://s/".into(),
        ca_pem: "P".into(),
    };
    let grant = Grant::from(PlainToken::new("abcdef.0123456789abcdef"));
    let templates = crate::content::templates();
    let (machine, profile) = (machine.unwrap(), profile.unwrap());
    match config(&templates, &profile, &machine, Generation(1), &site, None, &grant) {
        Ok(config) => {
            let net = config.files.iter().find(|file| file.name == "net.toml").unwrap();
            Ok(net.contents.parse().unwrap())
        }
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

/// A profile that the machine's record does not name: the inventory could not see it.
#[test]
fn a_network_that_netdog_cannot_have_is_not_rendered() {
    let eno = |n: u8| json!({"mac": format!("52:54:00:88:00:0{n}")});
    let with = |n: u8, more: Value| {
        let mut link = eno(n);
        link.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        link
    };
    let routes = json!([{"to": "10.99.0.0/16", "via": "10.88.0.2"}]);
    for (links, said) in [
        (
            json!({"eno1": with(1, json!({"dhcp": true, "routes": routes}))}),
            "node-1: /network/links/eno1/routes: Bottlerocket takes no routes on a link with dhcp",
        ),
        (
            json!({"eno1": with(1, json!({"dhcp": true, "addresses": ["10.88.0.9/24"], "routes": routes}))}),
            "/network/links/eno1/routes: Bottlerocket takes no routes on a link with dhcp",
        ),
        (
            json!({"eno1": with(1, json!({"dhcp": true, "mtu": 9000}))}),
            "/network/links/eno1/mtu: Bottlerocket has no setting for the MTU",
        ),
        (
            json!({"eno1": eno(1), "b": {"bond": {"members": ["eno1"], "mode": "802.3ad"}, "dhcp": true}}),
            "/network/links/b/bond/mode: Bottlerocket has bonds of mode active-backup only, not 802.3ad",
        ),
        (
            json!({"eno1": eno(1), "eno1.5": {"vlan": {"on": "eno1", "id": 5}, "dhcp": true}}),
            "/network/links/eno1.5: Bottlerocket takes no name with a dot",
        ),
        (
            json!({"eno1": eno(1), "b": {"bond": {"members": ["eno1"]}, "dhcp": true},
                "v": {"vlan": {"on": "eno1", "id": 5}, "dhcp": true}}),
            "/network/links/v/vlan/on: Bottlerocket takes no VLAN on eno1, which is in b: put it on b",
        ),
    ] {
        let problems = rendered(links.clone()).unwrap_err();
        assert!(problems.iter().any(|p| p.contains(said)), "{links}: {problems:#?}");
    }
}

#[test]
fn a_network_that_netdog_can_have_is_rendered_so() {
    let net = rendered(json!({
        "a.dotted.name": {"mac": "52:54:00:88:00:01", "dhcp": true, "addresses": ["10.88.0.9/24"]},
        "eno2": {"mac": "52:54:00:88:00:02", "addresses": ["10.77.0.9/24"]},
        "eno3": {"mac": "52:54:00:88:00:03"},
        "v5": {"vlan": {"on": "eno2", "id": 5}, "addresses": ["10.5.0.9/24"], "routes": [{"via": "10.5.0.1"}]},
        "v6": {"vlan": {"on": "eno3", "id": 6}}
    }))
    .unwrap();
    let sections: Vec<&str> = net.keys().map(String::as_str).collect();
    // netdog puts a VLAN on a name only: beside a section by MAC, the address of eno2 would be lost.
    assert_eq!(sections, ["52:54:00:88:00:01", "eno2", "v5", "v6", "version"]);
    assert_eq!(net["52:54:00:88:00:01"]["dhcp4"], true.into());
    assert_eq!(net["v6"]["dhcp4"], false.into());
    // The way out decides which address the kubelet takes.
    let primaries: Vec<&str> =
        sections.into_iter().filter(|name| net[*name].get("primary").is_some()).collect();
    assert_eq!(primaries, ["v5"]);
}
