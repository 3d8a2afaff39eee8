//! Bottlerocket's settings: known and unknown ones.

use provisioner::{inventory::OperatingSystem::Bottlerocket, os::validate};
use provisioner_wire::order::{Config, ConfigFile};

fn problems(user_data: &str, net: Option<&str>) -> Vec<String> {
    let file =
        |name: &str, contents: &str| ConfigFile { name: name.into(), contents: contents.into(), mode: 0o600 };
    let mut files = vec![file("user-data.toml", user_data)];
    files.extend(net.map(|net| file("net.toml", net)));
    let problems = validate(Bottlerocket, &Config { files }).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
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
