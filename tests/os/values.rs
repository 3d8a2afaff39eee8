//! Whatever an operator sets comes out as that value when the operating system's own format is read, never as structure:
//! each kind of template file by itself, and every sample template with every field that it takes.

use super::nasty::{self, PyYaml};
use crate::content::templates;
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::{collection, prelude::*, sample::select};
use provisioner::{
    inventory::{Hardware, KernelArgument, Problem, Profile},
    os::{Site, config},
    render::Templates,
    token::{Grant, PlainToken},
};
use provisioner_wire::{Generation, order::Config};
use serde_json::{Value, json};
use std::{collections::BTreeMap, process::Command};

const TOKEN: &str = "abcdef.0123456789abcdef";
/// Host names that are no text where they are not quoted.
const NAMES: [&str; 12] =
    ["node-1", "yes", "no", "y", "null", "true", "1e3", "0x10", "12", "007", "inf", "1e21"];
/// The same for links.
const LINKS: [&str; 8] = ["eno1", "y", "no", "null", "e1.5", "nan", "x-1_2", "True"];

type Given = (String, BTreeMap<String, String>, Vec<String>, Value);

fn given() -> impl Strategy<Value = Given> {
    let labels = collection::btree_map(nasty::text(), nasty::text(), 0..4);
    // A worker's kubelet may not set these; that is another test's.
    let labels = labels.prop_filter("a label of Kubernetes", |l| !l.keys().any(|k| k.contains("k8s.io/")));
    (
        select(&NAMES[..]).prop_map(str::to_owned),
        labels,
        collection::vec(nasty::line(), 0..3),
        nasty::tree(false),
    )
}

fn hardware(name: &str, link: &str, labels: &BTreeMap<String, String>, values: Value) -> Hardware {
    serde_json::from_value(json!({
        "name": name, "labels": labels, "values": values,
        "nics": [{"mac": "52:54:00:88:00:01"}],
        "network": {
            "links": {
                link: {"mac": "52:54:00:88:00:01", "addresses": ["10.88.0.11/24", "fd88::11/64"],
                    "routes": [{"via": "fd88::1"}, {"to": "10.0.0.0/8", "via": "10.88.0.1"}]},
            },
            "nameservers": ["10.88.0.1"], "search": ["1e3", "no", "12.5"],
        },
    }))
    .unwrap()
}

fn rendered(os: &str, template: &str, machine: &Hardware) -> Result<Config, Vec<Problem>> {
    let profile: Profile = serde_json::from_value(json!({
        "name": "p", "image": "i", "os": os, "template": template, "role": "worker",
        "place": {"partition": {"number": 1}, "directory": "/"},
        "values": {"ssh_authorized_keys": [], "installer_image": "i",
            "cluster_name": "c", "cluster_endpoint": "https://c:6443", "cluster_ca": "PEM"},
    }))
    .unwrap();
    let site = Site {
        phone_home_url: "https://10.88.0.1:8443/node/v1/ready?a='b'&c={{d}}".into(),
        phone_home_http_url: "http://10.88.0.1:8080/node/v1/ready?a='b'&c=$(id)".into(),
        ca_pem: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(),
    };
    let grant = Grant::from(PlainToken::new(TOKEN));
    config(&templates(), &profile, machine, Generation(3), &site, None, &grant)
}

#[track_caller]
fn taken(os: &str, template: &str, machine: &Hardware) -> Config {
    rendered(os, template, machine).unwrap_or_else(|problems| panic!("{template}: {problems:#?}"))
}

fn file<'a>(config: &'a Config, name: &str) -> &'a str {
    &config.files.iter().find(|file| file.name == name).unwrap().contents
}

/// What Go's template engine makes of text whose only actions are quoted braces.
fn through_go(text: &str) -> String {
    let out = text.replace(r#"{{"{{"}}"#, "\u{1}open\u{1}");
    assert!(!out.contains("{{"), "an action is left: {text}");
    out.replace("\u{1}open\u{1}", "{{")
}

fn from_data_url(source: &Value) -> String {
    let bytes = STANDARD.decode(source.as_str().unwrap().strip_prefix("data:;base64,").unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What a shell has in `variable` after the assignments among a script's lines.
fn shell(script: &str, variable: &str) -> String {
    let line = script.lines().find(|line| line.starts_with(&format!("{variable}="))).unwrap();
    let said =
        Command::new("sh").args(["-c", &format!("{line}\nprintf %s \"${variable}\"")]).output().unwrap();
    String::from_utf8(said.stdout).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_value_stands_in_yaml_json_and_toml(value in nasty::tree(true), plain in nasty::tree(false)) {
        thread_local!(static READER: std::cell::RefCell<PyYaml> = std::cell::RefCell::new(PyYaml::start()));
        let files = [
            ("s/f.yaml.j2", "a: {{ x }}\nb:\n  - {{ x }}\n  - [{{ x }}]\nc: {{ x | tojson }}\n"),
            ("s/g.json.j2", "{\"a\": {{ x }}, \"b\": [{{ x }}], \"c\": {{ x | tojson }}}\n"),
            ("s/h.toml.j2", "a = {{ y }}\nb = [{{ y }}]\nc = {{ x | tojson }}\n"),
        ];
        let set = Templates::new(files.map(|(name, text)| (name.to_owned(), text.to_owned()))).unwrap();
        let files = set.render("s", &json!({"x": value, "y": plain}), &[]).unwrap();
        let json_text = |value: &Value| serde_json::from_str::<Value>(value.as_str().unwrap()).unwrap();

        let yaml = READER.with(|reader| reader.borrow_mut().agreed(&files[0].contents)).remove(0);
        prop_assert_eq!((&yaml["a"], &yaml["b"]), (&value, &json!([value, [value]])));
        prop_assert_eq!(json_text(&yaml["c"]), value.clone());
        let json: Value = serde_json::from_str(&files[1].contents).unwrap();
        prop_assert_eq!((&json["a"], &json["b"], json_text(&json["c"])), (&value, &json!([value]), value.clone()));
        let toml: Value = toml::from_str(&files[2].contents).unwrap();
        prop_assert_eq!((&toml["a"], &toml["b"], json_text(&toml["c"])), (&plain, &json!([plain]), value.clone()));
    }

    #[test]
    fn any_text_stands_in_a_shell_script(text in nasty::text()) {
        let source = "#!/bin/sh\nprintf %s {{ x }}\n".to_owned();
        let set = Templates::new([("s/f.sh.j2".to_owned(), source)]).unwrap();
        match set.render("s", &json!({"x": text}), &[]) {
            Ok(files) => {
                let said = Command::new("sh").args(["-c", &files[0].contents]).output().unwrap();
                prop_assert_eq!(String::from_utf8(said.stdout).unwrap(), text);
            }
            Err(error) => prop_assert!(text.contains('\0'), "{}", error),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_value_stands_in_cloud_inits_sample((name, labels, keys, _) in given(), link in select(&LINKS[..])) {
        let mut yaml = PyYaml::start();
        let machine = hardware(&name, link, &labels, json!({"ssh_authorized_keys": keys}));
        let config = taken("cloud-init", "cloud-init", &machine);
        let user_data = yaml.agreed(file(&config, "user-data")).remove(0);
        prop_assert_eq!(&user_data["hostname"], &json!(name));
        prop_assert_eq!(user_data.get("ssh_authorized_keys").cloned().unwrap_or(json!([])), json!(keys));
        let written = user_data["write_files"][1]["content"].as_str().unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(written).unwrap(), json!(labels));
        let meta_data = yaml.agreed(file(&config, "meta-data")).remove(0);
        prop_assert_eq!(&meta_data["local-hostname"], &json!(name));
        let network = yaml.agreed(file(&config, "network-config")).remove(0);
        let ethernet = &network["network"]["ethernets"][link];
        prop_assert_eq!(&ethernet["set-name"], &json!(link));
        prop_assert_eq!(&ethernet["nameservers"]["search"], &json!(["1e3", "no", "12.5"]));
    }

    #[test]
    fn any_value_stands_in_the_labs_samples((name, labels, ..) in given()) {
        let mut yaml = PyYaml::start();
        let machine = hardware(&name, "eno1", &labels, json!({}));
        let config = taken("cloud-init", "tiny", &machine);
        prop_assert_eq!(&yaml.agreed(file(&config, "user-data"))[0]["hostname"], &json!(name));
        prop_assert_eq!(&yaml.agreed(file(&config, "meta-data"))[0]["local-hostname"], &json!(name));
        let ignition: Value =
            serde_json::from_str(file(&taken("flatcar", "tiny-ignition", &machine), "config.ign")).unwrap();
        let contents = |index: usize| from_data_url(&ignition["storage"]["files"][index]["contents"]["source"]);
        prop_assert_eq!(&yaml.agreed(&contents(1))[0]["local-hostname"], &json!(name));
        for script in [file(&config, "phone-home"), &contents(0)] {
            prop_assert_eq!(shell(script, "url"), "http://10.88.0.1:8080/node/v1/ready?a='b'&c=$(id)");
            prop_assert_eq!(shell(script, "body"), json!({"token": TOKEN}).to_string());
        }
    }

    #[test]
    fn any_value_stands_in_ignitions_samples((name, labels, mut keys, _) in given(), link in select(&LINKS[..])) {
        // Ignition refuses a key that stands there twice, and so do we.
        keys.sort();
        keys.dedup();
        let machine = hardware(&name, link, &labels, json!({"ssh_authorized_keys": keys}));
        for os in ["flatcar", "fedora-coreos"] {
            let config = taken(os, os, &machine);
            let ignition: Value = serde_json::from_str(file(&config, "config.ign")).unwrap();
            let content = |path: &str| {
                let files = ignition["storage"]["files"].as_array().unwrap();
                from_data_url(&files.iter().find(|f| f["path"] == path).unwrap()["contents"]["source"])
            };
            prop_assert_eq!(content("/etc/hostname"), format!("{name}\n"));
            let written: Value = serde_json::from_str(&content("/etc/provisioner/labels.json")).unwrap();
            prop_assert_eq!(written, json!(labels));
            prop_assert_eq!(&ignition["passwd"]["users"][0]["sshAuthorizedKeys"], &json!(keys));
        }
    }

    #[test]
    fn any_value_stands_in_kairos_sample(
        (name, labels, keys, _) in given(), link in select(&LINKS[..]),
        argument in nasty::text(),
    ) {
        let mut yaml = PyYaml::start();
        let values = json!({
            "ssh_authorized_keys": keys, "kernel_arguments": ["quiet", argument]
        });
        let machine = hardware(&name, link, &labels, values);
        let is_word = argument.parse::<KernelArgument>();
        let config = match rendered("kairos", "kairos", &machine) {
            Ok(config) => config,
            Err(problems) => {
                let text = format!("{problems:?}");
                prop_assert!(is_word.is_err() && text.contains("kernel argument"), "{text}");
                return Ok(());
            }
        };
        let value = yaml.agreed(file(&config, "config")).remove(0);
        prop_assert_eq!(&value["hostname"], &json!(name));
        let user = &value["users"][0];
        prop_assert_eq!(user.get("ssh_authorized_keys").cloned().unwrap_or(json!([])), json!(keys));
        prop_assert_eq!(&value["install"]["device"], &json!("/dev/disk/by-id/not-seen-yet"));
        let line = value["install"]["grub_options"]["extra_cmdline"].as_str().unwrap();
        prop_assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["quiet", &argument]);
        let contents = value["stages"]["initramfs"][1]["files"].as_array().unwrap();
        let written = through_go(contents[0]["content"].as_str().unwrap());
        prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), json!(labels));
        let command = through_go(value["stages"]["boot.after"][0]["commands"][0].as_str().unwrap());
        prop_assert!(command.contains("?a='\\''b'\\''&c={{d}}'"), "{command}");
    }

    #[test]
    fn any_value_stands_in_bottlerockets_sample(
        (name, labels, keys, _) in given(), texts in [nasty::text(), nasty::text(), nasty::text(), nasty::text()],
    ) {
        let taints: BTreeMap<&String, &Vec<String>> = labels.keys().map(|key| (key, &keys)).collect();
        let values = json!({"cluster_name": texts[0], "cluster_endpoint": texts[1], "cluster_ca": texts[2],
            "cluster_dns_ip": texts[3], "node_taints": taints});
        let config = taken("bottlerocket", "bottlerocket", &hardware(&name, "y", &labels, values));
        let settings: Value = toml::from_str(file(&config, "user-data.toml")).unwrap();
        let kubernetes = &settings["settings"]["kubernetes"];
        for (key, value) in [
            ("cluster-name", json!(texts[0])), ("api-server", json!(texts[1])),
            ("cluster-certificate", json!(STANDARD.encode(&texts[2]))), ("cluster-dns-ip", json!(texts[3])),
            ("node-labels", json!(labels)), ("node-taints", json!(taints)), ("hostname-override", json!(name)),
            ("bootstrap-token", json!(TOKEN)),
        ] {
            prop_assert_eq!(&kubernetes[key], &value, "{}", key);
        }
        prop_assert_eq!(&settings["settings"]["dns"]["search-list"], &json!(["1e3", "no", "12.5"]));
        let net: Value = toml::from_str(file(&config, "net.toml")).unwrap();
        prop_assert_eq!(&net["52:54:00:88:00:01"]["static4"]["addresses"], &json!(["10.88.0.11/24"]));
    }

    /// With and without patches: these make the file anew.
    #[test]
    fn any_value_stands_in_talos_sample(
        (name, labels, _, tree) in given(), link in select(&LINKS[..]),
        texts in [nasty::text(), nasty::text(), nasty::text()], key in nasty::text(), patched in any::<bool>(),
    ) {
        let mut yaml = PyYaml::start();
        let file_given = json!({"content": texts[2], "path": "/var/x", "permissions": 384, "op": "create"});
        let mirror = json!({"mirrors": {&key: {"endpoints": [format!("https://{}", texts[1])]}}});
        let patch = json!({"machine": {
            "files": [file_given], "env": {&key: texts[1]}, "sysctls": {"a": texts[2]}, "registries": mirror,
            "kubelet": {"extraConfig": {"x": tree}},
        }});
        let mut values = json!({
            "cluster_name": texts[0], "cluster_endpoint": format!("https://{}", texts[1]), "installer_image": texts[2],
            "node_taints": labels,
        });
        if patched {
            values["talos_patches"] = json!([patch]);
        }
        let config = taken("talos", "talos", &hardware(&name, link, &labels, values));
        let documents = yaml.agreed(file(&config, "config"));
        let (machine, cluster) = (&documents[0]["machine"], &documents[0]["cluster"]);
        prop_assert_eq!((&machine["nodeLabels"], &machine["nodeTaints"]), (&json!(labels), &json!(labels)));
        prop_assert_eq!(&machine["install"]["image"], &json!(texts[2]));
        prop_assert_eq!(&machine["install"]["disk"], &json!("/dev/disk/by-id/not-seen-yet"));
        prop_assert_eq!(&cluster["clusterName"], &json!(texts[0]));
        prop_assert_eq!(&cluster["controlPlane"]["endpoint"], &json!(format!("https://{}", texts[1])));
        if patched {
            prop_assert_eq!(&machine["files"][0], &file_given);
            prop_assert_eq!((&machine["env"], &machine["registries"]), (&json!({&key: texts[1]}), &mirror));
            prop_assert_eq!(&machine["kubelet"]["extraConfig"]["x"], &tree);
        }
        let of_kind = |kind: &str| documents.iter().find(|d| d["kind"] == kind).unwrap();
        prop_assert_eq!(&of_kind("HostnameConfig")["hostname"], &json!(name));
        prop_assert_eq!(&of_kind("LinkConfig")["name"], &json!(link));
        prop_assert_eq!(&of_kind("ResolverConfig")["searchDomains"]["domains"], &json!(["1e3", "no", "12.5"]));
    }
}

/// A key with a line break would be two keys in `authorized_keys`.
#[test]
fn an_ssh_key_is_one_line() {
    for (os, place) in [
        ("cloud-init", "user-data:5:"),
        ("kairos", "config:8:"),
        ("flatcar", "config.ign:"),
        ("fedora-coreos", "config.ign:"),
    ] {
        for bad in ["ssh-ed25519 A\nssh-ed25519 B", "", "a\0b"] {
            let values = json!({"ssh_authorized_keys": ["ssh-ed25519 good", bad]});
            let problems = rendered(os, os, &hardware("n", "eno1", &BTreeMap::new(), values)).unwrap_err();
            let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(text.starts_with(place) && text.contains("one line"), "{os}: {text}");
        }
    }
}
