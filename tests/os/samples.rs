//! The sample templates: each operating system and role, for a machine with bond, VLAN, IPv6 and routes. Goldens with the
//! token replaced (`UPDATE_GOLDEN=1` writes them), and settings that fight each other.

use super::fixtures;
use crate::content::templates;
use provisioner::{
    inventory::{Hardware, Profile},
    os::{Run, Site, config},
    token::{Grant, PlainToken},
};
use provisioner_wire::{Generation, order::Config, report::Disk};
use serde_json::{Value, json};
use std::{env, fs, path::Path, process::Command};

const TOKEN: &str = "abcdef.0123456789abcdef";
const SYSTEMS: [&str; 6] = ["talos", "flatcar", "fedora-coreos", "bottlerocket", "kairos", "cloud-init"];

fn grant() -> Grant {
    Grant::from(PlainToken::new(TOKEN))
}

pub(super) fn machine(values: Value, labels: Value) -> Hardware {
    serde_json::from_value(json!({
        "name": "node-1",
        "uuid": "88000000-0000-4000-8000-000000000007",
        "nics": [{"mac": "52:54:00:88:00:01"}, {"mac": "52:54:00:88:00:02"}, {"mac": "52:54:00:88:00:03"}],
        "network": {
            "links": {
                "eno1": {"mac": "52:54:00:88:00:01"},
                "eno2": {"mac": "52:54:00:88:00:02"},
                "eno3": {"mac": "52:54:00:88:00:03", "dhcp": true},
                "bond0": {
                    "bond": {"members": ["eno1", "eno2"]}, "mtu": 9000,
                    "addresses": ["10.88.0.11/24", "fd88::11/64"],
                    "routes": [{"via": "10.88.0.1"}, {"via": "fd88::1"}, {"to": "10.99.0.0/16", "via": "10.88.0.2"}]
                },
                "storage": {"vlan": {"on": "bond0", "id": 42}, "addresses": ["10.42.0.11/24"]}
            },
            "nameservers": ["10.88.0.1", "fd88::1"],
            "search": ["lab.example"]
        },
        "labels": labels,
        "values": values
    }))
    .unwrap()
}

fn profile(os: &str, role: &str) -> Profile {
    serde_json::from_value(json!({
        "name": format!("{os}-{role}"), "image": os, "os": os, "template": os, "role": role,
        "place": {"partition": {"number": 1}, "directory": "/"},
        "values": {
            "ssh_authorized_keys": ["ssh-ed25519 AAAA a@b"],
            "installer_image": "ghcr.io/siderolabs/installer:v1.12.0",
            "cluster_name": "lab", "cluster_endpoint": "https://10.88.0.100:6443", "cluster_ca": "PEM",
            "kernel_arguments": ["console=ttyS0"]
        }
    }))
    .unwrap()
}

/// Bottlerocket has no setting for the MTU, and says so.
fn fitting(os: &str, mut machine: Hardware) -> Hardware {
    if os == "bottlerocket" {
        machine.network.as_mut().unwrap().links.values_mut().for_each(|link| link.mtu = None);
    }
    machine
}

pub(super) fn render(os: &str, role: &str, machine: &Hardware) -> Config {
    let site = Site {
        phone_home_url: "https://10.88.0.1:8443/node/v1/ready".into(),
        phone_home_http_url: "http://10.88.0.1:8080/node/v1/ready".into(),
        ca_pem: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(),
    };
    let machine = fitting(os, machine.clone());
    let disk = Disk {
        name: "nvme0n1".into(),
        wwn: Some("eui.0025388b71b2c3d4".into()),
        transport: Some("nvme".into()),
        ..Disk::default()
    };
    let run = Run { generation: Generation(3), disk: Some(&disk) };
    config(&templates(), &profile(os, role), &machine, run, &site, None, &grant())
        .unwrap_or_else(|problems| panic!("{os}: {problems:#?}"))
}

#[test]
fn every_system_and_role_renders_as_recorded() {
    let machine = machine(json!({}), json!({"rack": "r1"}));
    for os in SYSTEMS {
        for role in ["control-plane", "worker"] {
            for file in render(os, role, &machine).files {
                // Base64 hides the token in Ignition's data URLs: these are opened.
                let text = opened(&file.contents).replace(TOKEN, "<token>");
                assert!(!text.contains("0123456789abcdef"), "{os} {}", file.name);
                let path = fixtures("golden-os").join(format!("{os}-{role}")).join(&file.name);
                if env::var_os("UPDATE_GOLDEN").is_some() {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, &text).unwrap();
                }
                assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{}", path.display());
            }
        }
    }
}

/// Ignition's data URLs as text that can be read.
fn opened(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut parts = text.split("data:;base64,");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find('"').unwrap();
        let inner = String::from_utf8(STANDARD.decode(&part[..end]).unwrap()).unwrap();
        out += &format!("data:,{}", inner.replace('\n', "\\n"));
        out += &part[end..];
    }
    out
}

/// Debian's own `ignition-validate` and `cloud-init schema` say the same.
#[test]
fn the_systems_own_programs_take_them() {
    let machine = machine(json!({}), json!({"rack": "r1"}));
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str], file: &str, contents: &str| {
        let path = folder.path().join(file);
        fs::write(&path, contents).unwrap();
        let output = Command::new(program).args(arguments).arg(&path).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&said));
    };
    for os in ["flatcar", "fedora-coreos"] {
        let config = render(os, "worker", &machine);
        run("ignition-validate", &[], "config.ign", &config.files[0].contents);
    }
    // cloud-init is not installed for tests, because it would take the host itself at the next boot.
    if Path::new("/usr/bin/cloud-init").exists() {
        let seed = render("cloud-init", "worker", &machine);
        let user_data = &seed.files.iter().find(|file| file.name == "user-data").unwrap().contents;
        run("cloud-init", &["schema", "--config-file"], "user-data", user_data);
        network_is_read(&seed, folder.path());
        // Of Kairos' config the keys that are cloud-init's, too.
        let kairos = render("kairos", "worker", &machine).files.remove(0).contents;
        let mut value: Value = serde_saphyr::from_str(&kairos).unwrap();
        value.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "install" | "stages"));
        assert!(value.as_object().unwrap().len() > 1);
        run("cloud-init", &["schema", "--config-file"], "kairos", &format!("#cloud-config\n{value}\n"));
    }
}

/// `network-config` by cloud-init's own reader, and what it makes of it. The schema by itself, where this cloud-init has it
/// (23.4 and later).
fn network_is_read(seed: &Config, folder: &Path) {
    let path = folder.join("network-config");
    let contents = &seed.files.iter().find(|file| file.name == "network-config").unwrap().contents;
    fs::write(&path, contents).unwrap();
    let path = path.to_str().unwrap();
    let cloud_init = |arguments: &[&str]| {
        let output = Command::new("cloud-init").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    for (kind, lines) in [
        (
            "networkd",
            ["Address=10.88.0.11/24", "Address=fd88::11/64", "Gateway=fd88::1", "Destination=10.99.0.0/16"],
        ),
        ("eni", ["gateway fd88::1", "bond-master bond0", "vlan_id 42", "address 10.42.0.11/24"]),
    ] {
        let out = folder.join(kind);
        let out = out.to_str().unwrap();
        cloud_init(&[
            "devel",
            "net-convert",
            "-p",
            path,
            "-d",
            out,
            "-k",
            "yaml",
            "-D",
            "debian",
            "-O",
            kind,
        ]);
        let files = super::all(Path::new(out), "");
        let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        for line in lines {
            assert!(text.lines().any(|l| l.trim() == line), "{line}:\n{text}");
        }
        assert!(!text.contains("::/64"), "{text}");
    }
    if cloud_init(&["schema", "--help"]).contains("--schema-type") {
        cloud_init(&["schema", "--schema-type", "network-config", "--config-file", path]);
    }
}

/// What each rule refuses, by a value that an operator can set, and where it says so.
#[test]
fn settings_that_fight_each_other_are_refused() {
    let patch = |path: Value| json!({ "talos_patches": path });
    for (os, values, labels, expected) in [
        (
            "talos",
            patch(json!({"machine": {"install": {"extraKernelArgs": ["root=/dev/sda1"]}}})),
            json!({}),
            "root=",
        ),
        (
            "talos",
            patch(json!({"machine": {"install": {"extraKernelArgs": ["talos.platform=aws"]}}})),
            json!({}),
            "talos.platform=metal",
        ),
        (
            "talos",
            patch(
                json!({"machine": {"install": {"extraKernelArgs": ["systemd.unified_cgroup_hierarchy=0"]}}}),
            ),
            json!({}),
            "cgroup version 2",
        ),
        (
            "talos",
            patch(json!({"apiVersion": "v1alpha1", "kind": "HostnameConfig", "hostname": "other"})),
            json!({}),
            "the host name is not the machine's (node-1)",
        ),
        ("talos", json!({}), json!({"node-role.kubernetes.io/worker": ""}), "may not give its own node"),
        ("bottlerocket", json!({}), json!({"node-role.kubernetes.io/x": ""}), "user-data.toml:"),
        ("kairos", json!({"kernel_arguments": ["ignition.platform.id=qemu"]}), json!({}), "metal"),
    ] {
        let site = Site {
            phone_home_url: "https://s/".into(),
            phone_home_http_url: "http://s/".into(),
            ca_pem: "P".into(),
        };
        let profile = profile(os, "worker");
        let machine = fitting(os, machine(values, labels));
        let problems =
            config(&templates(), &profile, &machine, Generation(1), &site, None, &grant()).unwrap_err();
        assert!(problems.iter().any(|p| p.to_string().contains(expected)), "{os} {expected}: {problems:#?}");
    }
}
