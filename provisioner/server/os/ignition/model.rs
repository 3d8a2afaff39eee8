//! The parts of an Ignition config that its rules look at, as types. Every key may be missing: the schema has said already
//! what is missing and what has another type.

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Spec {
    pub(super) ignition: Ignition,
    #[serde(rename = "kernelArguments")]
    pub(super) kernel_arguments: KernelArguments,
    pub(super) passwd: Passwd,
    pub(super) storage: Storage,
    pub(super) systemd: Systemd,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Ignition {
    pub(super) config: ConfigReferences,
    pub(super) proxy: Proxy,
    pub(super) security: Security,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ConfigReferences {
    pub(super) merge: Vec<Resource>,
    pub(super) replace: Resource,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Proxy {
    pub(super) http_proxy: Option<String>,
    pub(super) https_proxy: Option<String>,
    pub(super) no_proxy: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Security {
    pub(super) tls: Tls,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Tls {
    pub(super) certificate_authorities: Vec<Resource>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct KernelArguments {
    pub(super) should_exist: Vec<String>,
    pub(super) should_not_exist: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Passwd {
    pub(super) users: Vec<User>,
    pub(super) groups: Vec<Named>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
    pub(super) ssh_authorized_keys: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Storage {
    pub(super) disks: Vec<Disk>,
    pub(super) raid: Vec<Raid>,
    pub(super) filesystems: Vec<Filesystem>,
    pub(super) luks: Vec<Luks>,
    pub(super) files: Vec<Node>,
    pub(super) directories: Vec<Node>,
    pub(super) links: Vec<Node>,
}

/// A file, a directory or a link.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) user: Owner,
    pub(super) group: Owner,
    pub(super) overwrite: bool,
    pub(super) mode: Option<i64>,
    pub(super) contents: Resource,
    pub(super) append: Vec<Resource>,
    pub(super) target: Option<String>,
    pub(super) hard: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Owner {
    pub(super) id: Option<i64>,
    pub(super) name: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Resource {
    pub(super) source: Option<String>,
    pub(super) compression: String,
    pub(super) http_headers: Vec<Named>,
    pub(super) verification: Verification,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Verification {
    pub(super) hash: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Disk {
    pub(super) device: String,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Partition {
    pub(super) number: i64,
    pub(super) label: Option<String>,
    pub(super) guid: String,
    pub(super) type_guid: String,
    #[serde(rename = "startMiB")]
    pub(super) start: Option<i64>,
    #[serde(rename = "sizeMiB")]
    pub(super) size: Option<i64>,
    pub(super) should_exist: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Raid {
    pub(super) name: String,
    pub(super) level: Option<String>,
    pub(super) devices: Vec<String>,
    pub(super) spares: i64,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Filesystem {
    pub(super) device: String,
    pub(super) path: String,
    pub(super) format: String,
    pub(super) label: String,
    pub(super) uuid: String,
    pub(super) wipe_filesystem: bool,
    pub(super) options: Vec<String>,
    pub(super) mount_options: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Luks {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) label: String,
    pub(super) key_file: Resource,
    pub(super) clevis: Clevis,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Clevis {
    pub(super) custom: Custom,
    pub(super) tang: Vec<Tang>,
    pub(super) tpm2: bool,
    pub(super) threshold: i64,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Custom {
    pub(super) pin: String,
    pub(super) config: String,
    pub(super) needs_network: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Tang {
    pub(super) url: String,
    pub(super) thumbprint: String,
    pub(super) advertisement: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Systemd {
    pub(super) units: Vec<Unit>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) contents: String,
    pub(super) dropins: Vec<Dropin>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Dropin {
    pub(super) name: String,
    pub(super) contents: String,
}

impl Clevis {
    /// Whether the config uses it at all.
    pub(super) fn is_present(&self) -> bool {
        self.tpm2 || self.threshold != 0 || !self.tang.is_empty() || self.custom.is_present()
    }
}

impl Custom {
    pub(super) fn is_present(&self) -> bool {
        !self.pin.is_empty() || !self.config.is_empty() || self.needs_network
    }
}

/// A key with `null` is a key that is not there, as it is for Ignition.
pub(super) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}
