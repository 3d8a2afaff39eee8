//! Bottlerocket: settings, and netdog's good and bad samples of `net.toml`.

use super::{all, fixtures};
use provisioner::{inventory::OperatingSystem::Bottlerocket, os::validate};
use provisioner_wire::order::{Config, ConfigFile};
use std::fs;

fn problems(user_data: &str, net: Option<&str>) -> Vec<String> {
    let file =
        |name: &str, contents: &str| ConfigFile { name: name.into(), contents: contents.into(), mode: 0o600 };
    let mut files = vec![file("user-data.toml", user_data)];
    files.extend(net.map(|net| file("net.toml", net)));
    let problems = validate(Bottlerocket, &Config { files }).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

/// The samples are handlebars templates of a version.
fn versioned(text: &str, version: u8) -> String {
    let mut kept = vec![true];
    let mut out = String::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("{{#if (eq version ") {
            kept.push(rest.starts_with(&version.to_string()));
        } else if line.starts_with("{{#if") {
            kept.push(true);
        } else if line.starts_with("{{/if") {
            kept.pop();
        } else if kept.iter().all(|k| *k) {
            out += &line.replace("{{version}}", &version.to_string());
            out.push('\n');
        }
    }
    out
}

#[test]
fn netdogs_samples_are_taken_and_refused_as_netdog_does() {
    let (mut good, mut bad) = (0, 0);
    for path in all(&fixtures("netdog"), ".toml") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // It takes these three: a file without `primary`; DHCP with a static address; a VLAN over a bond's interface is
        // refused by what it has not: an address.
        let taken = matches!(
            &*name,
            "net_config.toml" | "no_primary.toml" | "dhcp_and_static.toml" | "dhcp_and_routes.toml"
        );
        let text = versioned(&fs::read_to_string(&path).unwrap(), 2);
        let problems = problems("", Some(&text));
        assert_eq!(problems.is_empty(), taken, "{}: {problems:#?}", path.display());
        if taken { good += 1 } else { bad += 1 }
    }
    assert!(good >= 5 && bad >= 20, "{good} {bad}");
}

#[test]
fn unknown_settings_are_named_with_their_place() {
    let good = "[settings.kubernetes]\ncluster-name = \"c\"\nstandalone-mode = true\n[settings.host-containers.admin]\n\
                enabled = true\n";
    assert_eq!(problems(good, None), Vec::<String>::new());
    for (from, to, place) in [
        ("cluster-name", "clustername", "user-data.toml:2:1: unknown field settings.kubernetes.clustername"),
        ("host-containers", "hostcontainers", "user-data.toml:4:11: unknown field settings.hostcontainers"),
        (
            "= true\n[",
            "= \"true\"\n[",
            "user-data.toml:3:19: settings.kubernetes.standalone-mode is not true or false",
        ),
        ("settings.kubernetes", "kubernetes", "user-data.toml:1:2: user data holds"),
        ("cluster-name = \"c\"", "cluster-name = c", "user-data.toml:2:"),
    ] {
        let problems = problems(&good.replace(from, to), None);
        assert!(problems.iter().any(|p| p.starts_with(place)), "{to}: {problems:#?}");
    }
}
