//! PURE. Settings that are each valid but fight each other: between image, kernel arguments and kubelet. Every rule names
//! the place and what to write instead.

use super::document::{at, parse_all};
use crate::inventory::{Hardware, OperatingSystem, Problem, Profile};
use provisioner_wire::order::{Config, ConfigFile};
use serde_json::Value;

/// What the rules look at, whatever the system calls it.
#[derive(Default)]
struct Settings {
    /// Of the installed system's kernel.
    kernel_arguments: Vec<String>,
    cgroup_driver: Option<String>,
    hostnames: Vec<String>,
    /// Labels that the kubelet gives its own node.
    labels: Vec<String>,
}

/// Contradictions in a valid config.
pub(super) fn lint(profile: &Profile, hardware: &Hardware, config: &Config, problems: &mut Vec<Problem>) {
    for file in &config.files {
        let settings = settings(profile.os, file);
        kernel(profile.os, file, &settings, problems);
        kubelet(hardware, file, &settings, problems);
        ssh_keys(profile.os, file, problems);
    }
}

fn settings(os: OperatingSystem, file: &ConfigFile) -> Settings {
    let documents: Vec<Value> = match os {
        OperatingSystem::Bottlerocket => toml::from_str(&file.contents).ok().into_iter().collect(),
        OperatingSystem::CloudInit if !matches!(&*file.name, "user-data" | "meta-data") => Vec::new(),
        _ => parse_all(file, &mut Vec::new()).into_iter().map(|(value, _)| value).collect(),
    };
    let mut found = Settings::default();
    for document in &documents {
        let words = |pointer: &str| document.pointer(pointer).map(words_of).unwrap_or_default();
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let keys = |pointer: &str| {
            let map = document.pointer(pointer).and_then(Value::as_object);
            map.into_iter().flat_map(|map| map.keys().cloned()).collect::<Vec<_>>()
        };
        match os {
            OperatingSystem::Talos => {
                found.kernel_arguments.extend(words("/machine/install/extraKernelArgs"));
                found.cgroup_driver =
                    found.cgroup_driver.or(text("/machine/kubelet/extraConfig/cgroupDriver"));
                found.hostnames.extend(text("/machine/kubelet/extraArgs/hostname-override"));
                found.hostnames.extend(text("/machine/network/hostname"));
                if document.get("kind") == Some(&"HostnameConfig".into()) {
                    found.hostnames.extend(text("/hostname"));
                }
                // A control plane's labels are set by Talos with more than the node's own rights.
                if text("/machine/type").as_deref() == Some("worker") {
                    found.labels.extend(keys("/machine/nodeLabels"));
                }
            }
            OperatingSystem::Bottlerocket => {
                for (name, values) in document
                    .pointer("/settings/boot/kernel-parameters")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                {
                    let values = words_of(values);
                    found.kernel_arguments.extend(values.iter().map(|value| format!("{name}={value}")));
                }
                found.hostnames.extend(text("/settings/kubernetes/hostname-override"));
                found.hostnames.extend(text("/settings/network/hostname"));
                found.labels.extend(keys("/settings/kubernetes/node-labels"));
            }
            OperatingSystem::Flatcar | OperatingSystem::FedoraCoreos => {
                found.kernel_arguments.extend(words("/kernelArguments/shouldExist"));
            }
            OperatingSystem::Kairos => {
                found.kernel_arguments.extend(words("/install/grub_options/extra_cmdline"));
                found.hostnames.extend(text("/hostname"));
            }
            OperatingSystem::CloudInit => {
                found.hostnames.extend(text("/hostname"));
                found.hostnames.extend(text("/local-hostname"));
            }
        }
    }
    found
}

/// The words of a command line, or of a list of them.
fn words_of(value: &Value) -> Vec<String> {
    let texts: Vec<&str> = match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect()
}

fn kernel(os: OperatingSystem, file: &ConfigFile, settings: &Settings, problems: &mut Vec<Problem>) {
    let mut say =
        |word: &str, message: &str| problems.push(at_text(file, word, format!("{word}: {message}")));
    for word in &settings.kernel_arguments {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match (name, value) {
            ("root" | "rootfstype" | "initrd", _) => {
                say(word, "the image's own boot loader says where its root is; leave it out");
            }
            ("talos.platform", platform) if platform != "metal" => {
                say(word, "the image is for metal; leave it out or write talos.platform=metal");
            }
            ("talos.platform" | "talos.config", _) if os != OperatingSystem::Talos => {
                say(word, "only Talos reads it; leave it out");
            }
            ("ignition.platform.id", platform) if platform != "metal" => {
                say(word, "the image is for metal; leave it out or write ignition.platform.id=metal");
            }
            ("systemd.unified_cgroup_hierarchy", "0" | "no" | "false") => {
                let driver = settings.cgroup_driver.as_deref().unwrap_or("systemd");
                let message = match os {
                    OperatingSystem::Talos => "Talos has cgroup version 2 only; leave it out".to_owned(),
                    _ => format!(
                        "cgroup version 1 with the kubelet's cgroupDriver {driver}: leave it out, so that both are of \
                         version 2"
                    ),
                };
                say(word, &message);
            }
            _ => {}
        }
    }
}

fn kubelet(hardware: &Hardware, file: &ConfigFile, settings: &Settings, problems: &mut Vec<Problem>) {
    for name in settings.hostnames.iter().filter(|name| *name != hardware.name.as_str()) {
        let message = format!(
            "the host name is not the machine's ({}), by which its node is found: write machine.name",
            hardware.name
        );
        problems.push(at_text(file, name, message));
    }
    for label in settings.labels.iter().filter(|label| is_forbidden(label)) {
        let message = format!(
            "a kubelet may not give its own node the label {label}: take another name, or set it in the cluster"
        );
        problems.push(at_text(file, label, message));
    }
}

/// A key with a line break in it would be two lines of `authorized_keys`.
fn ssh_keys(os: OperatingSystem, file: &ConfigFile, problems: &mut Vec<Problem>) {
    let (users, keys) = match os {
        OperatingSystem::CloudInit | OperatingSystem::Kairos => ("/users", "ssh_authorized_keys"),
        OperatingSystem::Flatcar | OperatingSystem::FedoraCoreos => ("/passwd/users", "sshAuthorizedKeys"),
        OperatingSystem::Talos | OperatingSystem::Bottlerocket => return,
    };
    for (document, places) in parse_all(file, &mut Vec::new()) {
        let users_given = document.pointer(users).and_then(Value::as_array).map_or(0, Vec::len);
        let lists = (0..users_given).map(|index| format!("{users}/{index}/{keys}"));
        for list in lists.chain([format!("/{keys}")]) {
            let given = document.pointer(&list).and_then(Value::as_array);
            for (index, key) in given.into_iter().flatten().enumerate() {
                let key = key.as_str().unwrap_or_default();
                if key.trim().is_empty() || key.chars().any(|c| c.is_control() && c != '\t') {
                    let message = "an SSH key is one line of text";
                    problems.push(at(file, &places, &format!("{list}/{index}"), message));
                }
            }
        }
    }
}

/// The admission plugin NodeRestriction refuses a kubelet these of the label names that belong to Kubernetes.
fn is_forbidden(label: &str) -> bool {
    let Some((space, _)) = label.split_once('/') else { return false };
    let of = |domain: &str| space == domain || space.ends_with(&format!(".{domain}"));
    if !of("kubernetes.io") && !of("k8s.io") {
        return false;
    }
    let known = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    !(known.contains(&label) || of("kubelet.kubernetes.io") || of("node.kubernetes.io"))
}

/// Where a text first stands in a file.
fn at_text(file: &ConfigFile, text: &str, message: String) -> Problem {
    let at = file.contents.find(text).unwrap_or(0);
    super::bottlerocket::at_offset(file, at, message)
}
