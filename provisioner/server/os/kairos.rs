//! Kairos: one cloud-config. Cloud-init's keys, where Kairos has them, are held to cloud-init's own schema and to what
//! Kairos' reader (yip) makes of them; its own keys (`install`, `stages`, `k3s` and so on) are known by name.

use super::{
    cloud_init,
    document::{at, parse_octal},
    near::or_near,
};
use crate::inventory::{Located, Problem};
use provisioner_wire::order::{Config, ConfigFile};
use serde_json::{Map, Value};

/// Cloud-init's keys that Kairos reads; it knows no others of them.
const SHARED: [&str; 6] = ["growpart", "hostname", "runcmd", "ssh_authorized_keys", "users", "write_files"];

/// What Kairos' reference and its own schema name at the top, beside [`SHARED`].
const KEYS: &[&str] = &[
    "arch",
    "bind-pcrs",
    "bind-public-pcrs",
    "bundles",
    "cloud-init-paths",
    "cluster",
    "config_url",
    "cosign",
    "cosign-key",
    "debug",
    "eject-cd",
    "env",
    "fail_on_bundles_errors",
    "fullcloudconfig",
    "grub_options",
    "install",
    "k0s",
    "k0s-worker",
    "k3s",
    "k3s-agent",
    "kcrypt",
    "kubevip",
    "logs",
    "name",
    "options",
    "p2p",
    "platform",
    "provider",
    "reset",
    "squash-compression",
    "squash-no-compression",
    "stages",
    "strict",
    "uki-max-entries",
    "upgrade",
    "verify",
];

/// Keys of `install`.
const INSTALL: &[&str] = &[
    "auto",
    "bind_mounts",
    "bundles",
    "device",
    "encrypted_partitions",
    "env",
    "ephemeral_mounts",
    "extra-dirs-rootfs",
    "extra-partitions",
    "firmware",
    "force",
    "grub-entry-name",
    "grub_options",
    "image",
    "no-format",
    "no_format",
    "nousers",
    "part-table",
    "partitions",
    "passive",
    "poweroff",
    "reboot",
    "recovery-system",
    "skip_copy_kcrypt_plugin",
    "source",
    "ssh_hardening",
    "system",
];

const GRUB_OPTIONS: &[&str] = &[
    "default_fallback",
    "default_menu_entry",
    "extra_active_cmdline",
    "extra_cmdline",
    "extra_passive_cmdline",
    "extra_recovery_cmdline",
    "next_entry",
    "saved_entry",
];

const PARTITIONS: &[&str] = &["bios", "efi", "oem", "persistent", "recovery", "state"];

/// Each is run with `.before` and `.after`, too.
const STAGES: &[&str] = &[
    "after-install",
    "after-install-chroot",
    "after-reset",
    "after-reset-chroot",
    "after-upgrade",
    "after-upgrade-chroot",
    "before-install",
    "before-reset",
    "before-upgrade",
    "boot",
    "fs",
    "initramfs",
    "kairos-install.after",
    "kairos-install.pre",
    "kairos-uki-install.after",
    "kairos-uki-install.pre",
    "kairos-uki-reset.after",
    "kairos-uki-reset.pre",
    "kairos-uki-upgrade.after",
    "kairos-uki-upgrade.pre",
    "network",
    "reconcile",
    "rootfs",
];

/// Run by the provider, with the name of a role at the end.
const PROVIDER_STAGES: [&str; 2] = ["provider-kairos.bootstrap.before.", "provider-kairos.bootstrap.after."];

/// Keys of one step of a stage.
const STEP: &[&str] = &[
    "after",
    "authorized_keys",
    "commands",
    "datasource",
    "delete_entities",
    "directories",
    "dns",
    "downloads",
    "ensure_entities",
    "environment",
    "environment_file",
    "files",
    "git",
    "hostname",
    "if",
    "if_files",
    "layout",
    "modules",
    "name",
    "networkmanager",
    "node",
    "only_arch",
    "only_os",
    "only_os_version",
    "only_service_manager",
    "packages",
    "sysctl",
    "systemctl",
    "systemd_firstboot",
    "timesyncd",
    "unpack_images",
    "users",
];

/// Keys of a file of a step.
const FILE: &[&str] = &["content", "encoding", "group", "owner", "ownerstring", "path", "permissions"];

/// The file with the places of its values, and what is wrong so far.
struct Check<'a> {
    file: &'a ConfigFile,
    places: &'a Located,
    problems: &'a mut Vec<Problem>,
}

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
    let Some((value, places)) = parse_octal(file, problems) else { return };
    cloud_init::shared(file, &shared(&value), &places, problems);
    let mut check = Check { file, places: &places, problems };
    check.unknown(&value, "", &[&SHARED, KEYS].concat());
    check.grub_options(&value, "/grub_options");
    check.commands(&value, "/runcmd");
    check.install(&value);
    check.stages(&value);
}

/// The part of a config that is cloud-init's as much as Kairos'.
fn shared(value: &Value) -> Value {
    let ours = |(key, _): &(&String, &Value)| SHARED.contains(&key.as_str());
    let all = value.as_object().into_iter().flatten().filter(ours);
    let mut shared: Map<String, Value> = all.map(|(key, value)| (key.clone(), value.clone())).collect();
    // Go's reader takes a number for the text that cloud-init wants.
    for file in shared.get_mut("write_files").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(permissions) = file.get_mut("permissions").filter(|permissions| permissions.is_u64()) {
            *permissions = permissions.to_string().into();
        }
    }
    Value::Object(shared)
}

impl Check<'_> {
    fn say(&mut self, pointer: &str, message: impl Into<String>) {
        self.problems.push(at(self.file, self.places, pointer, message));
    }

    /// A typing error in a key would be passed over in silence by the system. Dots are its other way to write a path.
    fn unknown(&mut self, value: &Value, pointer: &str, known: &[&str]) {
        for key in value.as_object().into_iter().flat_map(|map| map.keys()) {
            let head = key.split('.').next().unwrap_or(key);
            if !known.contains(&head) {
                let path = format!("{pointer}/{key}");
                let named = path.trim_start_matches('/').replace('/', " ");
                self.say(&path, or_near(format!("Kairos knows no {named}"), head, known));
            }
        }
    }

    fn install(&mut self, value: &Value) {
        let Some(install) = value.get("install") else { return };
        if !install.is_object() {
            self.say("/install", "install is a mapping");
            return;
        }
        self.unknown(install, "/install", INSTALL);
        self.grub_options(value, "/install/grub_options");
        self.unknown(install.get("partitions").unwrap_or(&Value::Null), "/install/partitions", PARTITIONS);
        if let Some(device) = install.get("device") {
            let good = device
                .as_str()
                .is_some_and(|d| d == "auto" || d.starts_with("/dev/") || d.starts_with("script://"));
            if !good {
                self.say("/install/device", "install.device is auto, a path below /dev/ or script:///…");
            }
        }
        for key in ["auto", "force", "no-format", "nousers", "poweroff", "reboot", "ssh_hardening"] {
            if install.get(key).is_some_and(|value| !value.is_boolean()) {
                self.say(&format!("/install/{key}"), format!("install.{key} is true or false"));
            }
        }
        let set = |key: &str| install.get(key) == Some(&Value::Bool(true));
        if set("reboot") && set("poweroff") {
            self.say("/install/poweroff", "install.reboot and install.poweroff are both set");
        }
    }

    /// Texts by known names.
    fn grub_options(&mut self, value: &Value, pointer: &str) {
        let Some(options) = value.pointer(pointer) else { return };
        self.unknown(options, pointer, GRUB_OPTIONS);
        for (key, value) in options.as_object().into_iter().flatten() {
            if !value.is_string() {
                self.say(&format!("{pointer}/{key}"), format!("{key} is a text"));
            }
        }
    }

    /// yip cannot read a command that is a list, and then reads nothing of the file.
    fn commands(&mut self, value: &Value, pointer: &str) {
        let Some(commands) = value.pointer(pointer) else { return };
        if !commands.is_array() {
            self.say(pointer, "commands are a list of texts");
        }
        for (index, command) in commands.as_array().into_iter().flatten().enumerate() {
            if !command.is_string() {
                let message = "a command is one text for a shell here, not a list as cloud-init has it";
                self.say(&format!("{pointer}/{index}"), message);
            }
        }
    }

    fn stages(&mut self, value: &Value) {
        let Some(stages) = value.get("stages") else { return };
        let Some(stages) = stages.as_object() else {
            self.say("/stages", "stages is a mapping of lists");
            return;
        };
        for (stage, steps) in stages {
            let pointer = format!("/stages/{stage}");
            if !is_stage(stage) {
                self.say(&pointer, or_near(format!("Kairos runs no stage {stage}"), base(stage), STAGES));
            }
            let Some(steps) = steps.as_array().filter(|steps| steps.iter().all(Value::is_object)) else {
                self.say(&pointer, "a stage is a list of mappings");
                continue;
            };
            for (index, step) in steps.iter().enumerate() {
                self.step(value, step, &format!("{pointer}/{index}"));
            }
        }
    }

    fn step(&mut self, value: &Value, step: &Value, pointer: &str) {
        self.unknown(step, pointer, STEP);
        self.commands(value, &format!("{pointer}/commands"));
        for (index, file) in step.get("files").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let pointer = format!("{pointer}/files/{index}");
            self.unknown(file, &pointer, FILE);
            if file.get("path").and_then(Value::as_str).is_none_or(|path| !path.starts_with('/')) {
                self.say(&format!("{pointer}/path"), "a file needs an absolute path");
            }
            if file.get("permissions").is_some_and(|permissions| !is_octal(permissions)) {
                self.say(&format!("{pointer}/permissions"), "permissions are an octal number like 0644");
            }
        }
        if step.get("users").is_some_and(|users| !users.is_object()) {
            self.say(&format!("{pointer}/users"), "the users of a stage are a mapping of names, not a list");
        }
    }
}

/// A number, or a text of octal digits, which Kairos' own samples have, too.
fn is_octal(value: &Value) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| (b'0'..=b'7').contains(&c));
    value.is_u64() || value.as_str().is_some_and(digits)
}

/// A stage without its `.before` or `.after`.
fn base(stage: &str) -> &str {
    stage.strip_suffix(".before").or_else(|| stage.strip_suffix(".after")).unwrap_or(stage)
}

fn is_stage(stage: &str) -> bool {
    let of_provider = |begin: &&str| stage.strip_prefix(begin).is_some_and(|role| !role.is_empty());
    STAGES.contains(&stage) || STAGES.contains(&base(stage)) || PROVIDER_STAGES.iter().any(of_provider)
}
