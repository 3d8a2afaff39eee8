//! `config render` and `config diff` as an operator calls them, against the real server: each operating system's sample,
//! and a machine that was given its config.

use crate::crash::site::{NAME, Site};
use std::{
    fs,
    process::{Command, Output},
    time::{Duration, Instant},
};

const PROFILE: &str = "name: crash\nimage: crash\nos: cloud-init\ntemplate: tiny\nrole: worker\n\
    disk: {min_size: 8MiB}\nplace: {partition: {number: 1}, directory: /seed}\n\
    token: {ttl: 30m}\nready: {deadline: 10m}\n";
const SYSTEMS: [&str; 6] = ["talos", "flatcar", "fedora-coreos", "bottlerocket", "kairos", "cloud-init"];
const VALUES: &str = "ssh_authorized_keys: [ssh-ed25519 A], installer_image: i, \
    cluster_name: c, cluster_endpoint: 'https://c:6443', cluster_ca: PEM";

/// The code, what it printed, what it complained of.
fn run(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    let data = site.database().parent().unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_provisioner"));
    command.env("PROVISIONER_SERVER", site.url()).env("PROVISIONER_CA_FILE", data.join("ca.pem"));
    command.env("PROVISIONER_TOKEN_FILE", data.join("admin-token")).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn files() -> Vec<(&'static str, String)> {
    let (mut profiles, mut machines) = (Vec::new(), Vec::new());
    for (index, os) in SYSTEMS.iter().enumerate() {
        profiles.push(format!(
            "name: {os}\nimage: crash\nos: {os}\ntemplate: {os}\nrole: worker\nvalues: {{{VALUES}}}\n\
             place: {{partition: {{number: 1}}, directory: /}}\n"
        ));
        machines.push(format!(
            "name: m-{os}\nprofile: {os}\nlabels: {{rack: r1}}\nnics: [{{mac: '52:54:00:aa:00:0{index}'}}]\n"
        ));
    }
    vec![
        ("hardware/profiles/systems.yaml", profiles.join("---\n")),
        ("hardware/machines/systems.yaml", machines.join("---\n")),
    ]
}

fn until(site: &Site, what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(90), "{what}: not yet\n{}", site.story());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_config_is_shown_without_secrets_and_a_diff_is_what_has_changed() {
    let mut site = Site::with(410, None, PROFILE, &files());
    until(&site, "served", || run(&site, &["machine", "list"]).0 == 0);
    for os in SYSTEMS {
        let machine = format!("m-{os}");
        let (code, shown, said) = run(&site, &["config", "render", &machine]);
        assert_eq!(code, 0, "{os}: {said}");
        assert!(
            shown.contains("REDACTED") && !shown.contains("dryrun") && !shown.contains("base64,"),
            "{shown}"
        );
        let (_, json, _) = run(&site, &["config", "render", &machine, "-o", "json"]);
        // `dryrun.` in base64, wherever in a file it stands.
        let canaries = ["dryrun", "ZHJ5cnVu", "RyeXJ1b", "kcnlydW"];
        assert!(!canaries.iter().any(|canary| json.contains(canary)), "{json}");
        let (code, _, said) = run(&site, &["config", "diff", &machine]);
        assert!(code == 4 && said.contains("was never given a config"), "{code} {said}");
    }
    assert_eq!(run(&site, &["config", "render", "nobody"]).0, 4);

    let mut asked = false;
    until(&site, "installed", || {
        asked = asked || site.ask_to_provision();
        site.machine.installs() > 0
    });
    let token = site.machine.token().unwrap();
    let (code, changed, said) = run(&site, &["config", "diff", NAME]);
    assert_eq!((code, changed.as_str(), said.as_str()), (0, "", ""));
    let (_, shown, _) = run(&site, &["config", "render", NAME]);
    assert!(shown.contains("REDACTED") && !shown.contains(&token), "{shown}");

    let file = site.database().with_file_name("changed.yaml");
    fs::write(&file, PROFILE.replace("role: worker", "role: other")).unwrap();
    assert_eq!(run(&site, &["profile", "apply", "-f", file.to_str().unwrap()]).0, 0);
    let (code, changed, said) = run(&site, &["config", "diff", NAME]);
    assert!(code == 1 && said.contains("has changed since it was given"), "{code} {said}");
    let lines = changed.lines().filter(|line| line.starts_with(['-', '+']));
    let lines: Vec<&str> =
        lines.filter(|line| !line.starts_with("---") && !line.starts_with("+++")).collect();
    assert_eq!(lines, [r#"-    content: "worker\n""#, r#"+    content: "other\n""#], "{changed}");
    site.end();
}

#[test]
fn what_cannot_be_rendered_is_told_with_its_place() {
    let mut site = Site::with(411, None, PROFILE, &files());
    until(&site, "served", || run(&site, &["machine", "list"]).0 == 0);
    let file = site.database().with_file_name("changed.yaml");
    for (os, from, to, expected) in [
        (
            "talos",
            "installer_image: i",
            "x: 1",
            "talos/config.yaml.j2:19: the value values.installer_image is not given",
        ),
        (
            "talos",
            "'https://c:6443'",
            "c",
            "config:14:5: cluster.controlPlane.endpoint is not an https:// URL",
        ),
        ("flatcar", "[ssh-ed25519 A]", "[5]", "config.ign:7:29: passwd.users.0.sshAuthorizedKeys.0: "),
        ("kairos", "cluster_name: c", "kernel_arguments: [a b]", "kairos/config.yaml.j2:"),
        (
            "bottlerocket",
            "cluster_name: c",
            "cluster_name: 5",
            "user-data.toml:3:16: settings.kubernetes.cluster-name",
        ),
        ("cloud-init", "[ssh-ed25519 A]", "[\"a\\nb\"]", "user-data:5:23: an SSH key is one line of text"),
    ] {
        let all = &files()[0].1;
        let profile = all.split("---\n").find(|text| text.starts_with(&format!("name: {os}\n"))).unwrap();
        fs::write(&file, profile.replace(from, to)).unwrap();
        let applied = run(&site, &["profile", "apply", "-f", file.to_str().unwrap()]);
        assert_eq!(applied.0, 0, "{applied:?}");
        let (code, shown, said) = run(&site, &["config", "render", &format!("m-{os}")]);
        assert!(code == 4 && shown.is_empty() && said.contains(expected), "{os}: {code} {said}");
    }
    site.end();
}
