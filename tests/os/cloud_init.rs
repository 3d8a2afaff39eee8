//! cloud-init: each file of a NoCloud seed, by its own schemas and by Debian's own cloud-init.

use provisioner::{inventory::OperatingSystem::CloudInit, os::validate};
use provisioner_wire::order::{Config, ConfigFile};

const SEED: [(&str, &str); 4] = [
    ("user-data", "#cloud-config\nhostname: a\n"),
    ("vendor-data", "#cloud-config\nwrite_files:\n  - path: /a\n    permissions: \"0644\"\n"),
    ("meta-data", "instance-id: a-1\nlocal-hostname: a\nseedfrom: https://s/c/\n"),
    (
        "network-config",
        "version: 2\nethernets:\n  e0:\n    match: {macaddress: \"52:54:00:00:00:01\"}\n    addresses: [10.0.0.1/24]\n    \
         routes:\n      - {to: default, via: 10.0.0.254}\nvlans:\n  v0: {id: 5, link: e0, dhcp4: true}\n",
    ),
];

/// The seed with one file changed or added.
fn problems(name: &str, contents: &str) -> Vec<String> {
    let others = SEED.iter().filter(|(other, _)| *other != name).copied();
    let files = others.chain([(name, contents)]).map(|(name, contents)| ConfigFile {
        name: name.into(),
        contents: contents.into(),
        mode: 0o600,
    });
    let problems = validate(CloudInit, &Config { files: files.collect() }).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_file_of_a_seed_is_checked_at_its_place() {
    for (name, from, to, expected) in [
        ("vendor-data", "#cloud-config\n", "", "vendor-data:1:1: the first line is not #cloud-config"),
        ("vendor-data", "write_files", "wirte_files", "vendor-data:3:3: Additional properties"),
        ("vendor-data", "path: /a", "path: [a]", "vendor-data:3:11: write_files.0.path: "),
        // As Python reads it, that is the number 420.
        ("vendor-data", "\"0644\"", "0644", "vendor-data:4:18: write_files.0.permissions: "),
        ("vendor-data", "path: /a", "path: /a\n    path: /b", "vendor-data:4:5: "),
        ("user-data", "#cloud-config", "## template: jinja\n#cloud-config", "user-data:1:1: the first line"),
        ("meta-data", "instance-id: a-1", "instance-id: 12", "meta-data:1:14: instance-id is not a text"),
        ("meta-data", "a-1", "\"a\\nb\"", "meta-data:1:14: instance-id is not one line"),
        (
            "meta-data",
            "instance-id",
            "instance_id",
            "meta-data:1:14: cloud-init reads no instance_id; did you mean instance-id?",
        ),
        (
            "meta-data",
            "local-hostname: a",
            "local-hostname: a_b",
            "meta-data:2:17: local-hostname is not a host name",
        ),
        ("meta-data", "https://s/c/", "https://s/c", "meta-data:3:11: seedfrom is not"),
        ("network-config", "version: 2", "version: 3", "network-config:1:10: the network config's version"),
        (
            "network-config",
            "macaddress",
            "macadress",
            "network-config:4:24: cloud-init knows no macadress; did you mean macaddress?",
        ),
        (
            "network-config",
            "routes:",
            "route:",
            "network-config:7:7: cloud-init knows no route; did you mean routes?",
        ),
        ("network-config", "id: 5", "id: five", "network-config:9:12: vlans.v0.id: "),
        ("network-config", "dhcp4: true", "dhcp4: 7", "network-config:9:"),
        ("network-config", "version: 2", "version: 2\nversion: 2", "network-config:2:1: "),
    ] {
        let good = SEED.iter().find(|(other, _)| *other == name).unwrap().1;
        assert_eq!(problems(name, good), Vec::<String>::new());
        let found = problems(name, &good.replacen(from, to, 1));
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{name} {to}: {found:#?}");
    }
    assert_eq!(problems("vendor-data", "\n"), Vec::<String>::new());
    assert_eq!(problems("phone-home", "#!/bin/sh\n"), Vec::<String>::new());
    for near in ["network_config", "userdata", "network-config.yaml", "metadata"] {
        let found = problems(near, "");
        assert!(
            found.len() == 1 && found[0].contains("cloud-init reads no file of this name; did you mean "),
            "{found:?}"
        );
    }
}
