//! Kairos: one cloud-config, with cloud-init's keys (checked by cloud-init's own schema where Kairos takes them as they
//! are) and its own: `install`, `k3s`, `stages`, `p2p` and so on.

use super::document::{at, parse};
use crate::inventory::{Located, Problem};
use provisioner_wire::order::{Config, ConfigFile};
use serde_json::Value;

/// What Kairos' reference names at the top, and cloud-init's keys that it reads.
const KEYS: [&str; 32] = [
    "bundles",
    "cloud-init-paths",
    "config_url",
    "debug",
    "eject-cd",
    "fail_on_bundles_errors",
    "grub_options",
    "hostname",
    "install",
    "k0s",
    "k0s-worker",
    "k3s",
    "k3s-agent",
    "kcrypt",
    "logs",
    "name",
    "options",
    "p2p",
    "reset",
    "runcmd",
    "ssh_authorized_keys",
    "stages",
    "strict",
    "upgrade",
    "users",
    "write_files",
    "no-format",
    "provider",
    "cluster",
    "growpart",
    "kubevip",
    "bootcmd",
];

/// Keys of `install`.
const INSTALL: [&str; 23] = [
    "auto",
    "bind_mounts",
    "bundles",
    "device",
    "encrypted_partitions",
    "ephemeral_mounts",
    "env",
    "extra-partitions",
    "extra-dirs-to-rootfs",
    "firmware",
    "force",
    "grub-entry-name",
    "grub_options",
    "image",
    "nousers",
    "no-format",
    "partitions",
    "part-table",
    "poweroff",
    "reboot",
    "source",
    "system",
    "recovery-system",
];

/// Stages of yip as Kairos runs them; each has `.before` and `.after` too.
const STAGES: [&str; 14] = [
    "rootfs",
    "initramfs",
    "boot",
    "fs",
    "network",
    "reconcile",
    "after-install",
    "after-install-chroot",
    "after-upgrade",
    "after-upgrade-chroot",
    "after-reset",
    "after-reset-chroot",
    "before-install",
    "before-upgrade",
];

pub(super) fn validate(config: &Config, problems: &mut Vec<Problem>) {
    let [file] = config.files.as_slice() else {
        problems.push(Problem::new("", "Kairos reads one cloud-config file"));
        return;
    };
    let first = file.contents.lines().next().map(str::trim_end);
    if !matches!(first, Some("#cloud-config" | "#kairos-config" | "#node-config")) {
        let message = "the first line is not #cloud-config, so Kairos would not read the rest";
        problems.push(Problem::new(format!("{}:1:1", file.name), message));
        return;
    }
    let Some((value, places)) = parse(file, problems) else { return };
    unknown(file, &value, &places, "", &KEYS, problems);
    install(file, &value, &places, problems);
    stages(file, &value, &places, problems);
    users(file, &value, &places, problems);
}

/// A typing error in a key would be passed over in silence by the system. Dots are its other way to write a path.
fn unknown(
    file: &ConfigFile,
    value: &Value,
    places: &Located,
    pointer: &str,
    known: &[&str],
    problems: &mut Vec<Problem>,
) {
    for key in value.as_object().into_iter().flat_map(|map| map.keys()) {
        let head = key.split('.').next().unwrap_or(key);
        if !known.contains(&head) {
            let path = format!("{pointer}/{key}");
            problems.push(at(
                file,
                places,
                &path,
                format!("Kairos knows no {}", path.replace('/', " ").trim()),
            ));
        }
    }
}

fn install(file: &ConfigFile, value: &Value, places: &Located, problems: &mut Vec<Problem>) {
    let Some(install) = value.get("install") else { return };
    if !install.is_object() {
        problems.push(at(file, places, "/install", "install is a mapping"));
        return;
    }
    unknown(file, install, places, "/install", &INSTALL, problems);
    if let Some(device) = install.get("device") {
        let good = device
            .as_str()
            .is_some_and(|d| d == "auto" || d.starts_with("/dev/") || d.starts_with("script:///"));
        if !good {
            let message = "install.device is auto, a path below /dev/ or script:///…";
            problems.push(at(file, places, "/install/device", message));
        }
    }
    for key in ["auto", "reboot", "poweroff", "no-format", "nousers"] {
        if install.get(key).is_some_and(|value| !value.is_boolean()) {
            problems.push(at(
                file,
                places,
                &format!("/install/{key}"),
                format!("install.{key} is true or false"),
            ));
        }
    }
    if install.get("reboot") == Some(&Value::Bool(true))
        && install.get("poweroff") == Some(&Value::Bool(true))
    {
        problems.push(at(
            file,
            places,
            "/install/poweroff",
            "install.reboot and install.poweroff are both set",
        ));
    }
}

fn stages(file: &ConfigFile, value: &Value, places: &Located, problems: &mut Vec<Problem>) {
    for (stage, steps) in value.get("stages").and_then(Value::as_object).into_iter().flatten() {
        let base = stage.trim_end_matches(".before").trim_end_matches(".after");
        let pointer = format!("/stages/{stage}");
        if !STAGES.contains(&base) {
            problems.push(at(file, places, &pointer, format!("Kairos runs no stage {stage}")));
        }
        if !steps.as_array().is_some_and(|steps| steps.iter().all(Value::is_object)) {
            problems.push(at(file, places, &pointer, "a stage is a list of mappings"));
        }
    }
}

fn users(file: &ConfigFile, value: &Value, places: &Located, problems: &mut Vec<Problem>) {
    for (index, user) in value.get("users").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if user.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
            problems.push(at(file, places, &format!("/users/{index}"), "a user needs a name"));
        }
    }
}
