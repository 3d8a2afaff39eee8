//! Talos: a machine config of one v1alpha1 document and any number of others, each checked with the JSON schema of its
//! kind. Beside the schema: what a machine on metal is refused for at its first boot.

use super::document::{at, check_schema, parse_all};
use crate::{
    inventory::{Located, Problem, Profile},
    render::yaml_document,
};
use jsonschema::Validator;
use provisioner_wire::order::{Config, ConfigFile};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, OnceLock},
};

const SCHEMA: &str = include_str!("schemas/talos/config.schema.json");

/// A kind that Talos has and its schema does not.
const UNCHECKED: &str = "ImageVerificationConfig";

static DEFINITIONS: LazyLock<Value> = LazyLock::new(|| {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap_or_default();
    // The schema names these two kinds otherwise than Talos' own samples (and its decoder) do.
    for (_, definition) in schema.get_mut("$defs").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(kind) = definition.pointer_mut("/properties/kind/enum/0") else { continue };
        match kind.as_str() {
            Some("KubeSpanEndpoints") => *kind = "KubeSpanEndpointsConfig".into(),
            Some("UnattendedInstall") => *kind = "UnattendedInstallConfig".into(),
            _ => {}
        }
    }
    // The schema has the number that Go keeps; what Talos reads and writes is its word.
    if let Some(action) =
        schema.pointer_mut("/$defs/network.RoutingRuleConfigV1Alpha1/properties/action/type")
    {
        *action = json!(["string", "integer"]);
    }
    schema.get("$defs").cloned().unwrap_or_default()
});

/// The schema of a kind; compiled when the kind is first met.
struct Schema {
    definition: String,
    compiled: OnceLock<Result<Validator, String>>,
}

/// By `kind`; the v1alpha1 document has none.
static SCHEMAS: LazyLock<BTreeMap<String, Schema>> = LazyLock::new(|| {
    let definitions = DEFINITIONS.as_object().into_iter().flatten();
    let schema = |name: &str| Schema { definition: name.to_owned(), compiled: OnceLock::new() };
    let kinds = definitions.filter_map(|(name, definition)| {
        definition.pointer("/properties/apiVersion")?;
        let kind = definition.pointer("/properties/kind/enum/0")?.as_str()?;
        Some((kind.to_owned(), schema(name)))
    });
    kinds.chain([(String::new(), schema("v1alpha1.Config"))]).collect()
});

impl Schema {
    fn validator(&self) -> &Result<Validator, String> {
        self.compiled.get_or_init(|| {
            let reference = format!("#/$defs/{}", self.definition);
            let mut schema = json!({ "$ref": reference });
            if let Some(root) = schema.as_object_mut() {
                root.insert("$defs".to_owned(), DEFINITIONS.clone());
            }
            jsonschema::options()
                .should_validate_formats(false)
                .build(&schema)
                .map_err(|error| error.to_string())
        })
    }
}

/// Keys of the v1alpha1 document that Talos reads (v1.3 to v1.14 write them) but its newest schema does not name, because
/// documents of their own have taken their place. What is in them is not checked here.
const OLDER: [(&str, &[&str]); 4] = [
    ("", &["persist"]),
    (
        "/machine",
        &[
            "baseRuntimeSpecOverrides",
            "controlPlane",
            "disks",
            "env",
            "files",
            "install",
            "kernel",
            "kubelet",
            "network",
            "nodeAnnotations",
            "nodeLabels",
            "nodeTaints",
            "pods",
            "registries",
            "sysctls",
            "sysfs",
            "systemDiskEncryption",
            "time",
            "udev",
        ],
    ),
    (
        "/machine/features",
        &[
            "apidCheckExtKeyUsage",
            "hostDNS",
            "imageCache",
            "kubePrism",
            "kubernetesTalosAPIAccess",
            "rbac",
            "stableHostname",
        ],
    ),
    (
        "/cluster",
        &[
            "aescbcEncryptionSecret",
            "aggregatorCA",
            "allowSchedulingOnControlPlanes",
            "apiServer",
            "ca",
            "clusterName",
            "controlPlane",
            "controllerManager",
            "coreDNS",
            "discovery",
            "extraManifestHeaders",
            "extraManifests",
            "id",
            "inlineManifests",
            "network",
            "proxy",
            "scheduler",
            "secret",
            "secretboxEncryptionSecret",
            "serviceAccount",
        ],
    ),
];

fn without_older(value: &Value) -> Value {
    let mut value = value.clone();
    for (pointer, keys) in OLDER {
        if let Some(map) = value.pointer_mut(pointer).and_then(Value::as_object_mut) {
            map.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
    value
}

pub(super) fn validate(config: &Config, problems: &mut Vec<Problem>) {
    let [file] = config.files.as_slice() else {
        let names: Vec<&str> = config.files.iter().map(|file| file.name.as_str()).collect();
        let message = format!("Talos reads one file with all its documents, not {}", names.len());
        problems.push(Problem::new(names.join(", "), message));
        return;
    };
    let documents = parse_all(file, problems);
    let mut seen = BTreeSet::new();
    for (value, places) in &documents {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        match SCHEMAS.get(kind) {
            None if kind == UNCHECKED => {}
            None => {
                problems.push(at(file, places, "/kind", format!("Talos knows no document of kind {kind}")))
            }
            Some(schema) => {
                let value = if kind.is_empty() { &without_older(value) } else { value };
                check_schema(schema.validator(), file, value, places, "", problems);
            }
        }
        let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
        if !seen.insert((kind, name)) {
            let what = if kind.is_empty() { "v1alpha1" } else { kind };
            problems.push(at(file, places, "", format!("there are two documents {what} {name}")));
        }
    }
    match documents.iter().find(|(value, _)| value.get("kind").is_none()) {
        Some((value, places)) => {
            let apart = documents.iter().any(|(v, _)| v.get("kind") == Some(&"KubeClusterConfig".into()));
            machine(file, value, places, apart, problems);
        }
        None if documents.is_empty() && !problems.is_empty() => {}
        None => {
            problems.push(Problem::new(&*file.name, "there is no v1alpha1 document (version: v1alpha1)"));
        }
    }
}

/// `cluster_apart`: the cluster is in a document of its own.
fn machine(
    file: &ConfigFile,
    value: &Value,
    places: &Located,
    cluster_apart: bool,
    problems: &mut Vec<Problem>,
) {
    let mut say = |pointer: &str, message: &str| problems.push(at(file, places, pointer, message));
    if value.get("version").is_none() {
        say("", "version is not given; it is v1alpha1");
    }
    for part in ["machine", "cluster"].into_iter().filter(|part| *part == "machine" || !cluster_apart) {
        if !value.get(part).is_some_and(Value::is_object) {
            say(&format!("/{part}"), &format!("{part} instructions are required"));
        }
    }
    match value.pointer("/machine/type").and_then(Value::as_str) {
        Some("controlplane" | "worker") => {}
        _ => say("/machine/type", "machine.type is controlplane or worker"),
    }
    let endpoint = value.pointer("/cluster/controlPlane/endpoint").and_then(Value::as_str);
    if !cluster_apart && !endpoint.is_some_and(|endpoint| endpoint.starts_with("https://")) {
        say("/cluster/controlPlane", "cluster.controlPlane.endpoint is not an https:// URL");
    }
}

/// The config as it is after the patches of the profile, then those of the machine (`values.talos_patches`, a mapping or
/// a list of them).
pub(super) fn patched(
    config: &mut Config,
    profile: &Profile,
    own: &crate::inventory::Values,
) -> Result<(), Vec<Problem>> {
    let of = |values: &crate::inventory::Values| match values.get("talos_patches") {
        Some(Value::Array(patches)) => patches.clone(),
        Some(patch) => vec![patch.clone()],
        None => Vec::new(),
    };
    let patches: Vec<Value> = of(&profile.values).into_iter().chain(of(own)).collect();
    let [file] = config.files.as_mut_slice() else { return Ok(()) };
    if patches.is_empty() {
        return Ok(());
    }
    let mut problems = Vec::new();
    let mut documents: Vec<Value> = parse_all(file, &mut problems).into_iter().map(|(v, _)| v).collect();
    for (index, patch) in patches.iter().enumerate() {
        if !patch.is_object() {
            problems.push(Problem::new(format!("values.talos_patches[{index}]"), "a patch is a mapping"));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for patch in &patches {
        merge(&mut documents, patch);
    }
    let texts: Vec<String> = documents.iter().map(|document| yaml_document(document, 0)).collect();
    file.contents = texts.join("---\n");
    Ok(())
}

/// A strategic merge patch: one document into those of the same kind and name, or added where there is none.
pub fn merge(documents: &mut Vec<Value>, patch: &Value) {
    let key = |document: &Value| (document.get("kind").cloned(), document.get("name").cloned());
    let position = documents.iter().position(|document| key(document) == key(patch));
    match position {
        Some(index) if is_delete(patch) => {
            documents.remove(index);
        }
        Some(index) => {
            if let Some(document) = documents.get_mut(index) {
                merge_value("", document, patch);
            }
        }
        None if is_delete(patch) => {}
        None => documents.push(patch.clone()),
    }
}

const PATCH: &str = "$patch";

fn is_delete(value: &Value) -> bool {
    value.get(PATCH).and_then(Value::as_str) == Some("delete")
}

/// Lists that a patch replaces; Talos marks them so in its types. All others grow.
fn is_replaced(key: &str) -> bool {
    matches!(key, "podSubnets" | "serviceSubnets" | "authorizationConfig" | "ports" | "ingress")
}

/// What two entries of such a list have in common when they are the same one.
fn identity(list: &str) -> &'static [&'static str] {
    match list {
        "interfaces" => &["interface", "deviceSelector"],
        "vlans" => &["vlanId"],
        "configFiles" => &["mountPath"],
        "admissionControl" | "seccompProfiles" => &["name"],
        _ => &[],
    }
}

fn merge_value(key: &str, left: &mut Value, right: &Value) {
    match (left, right) {
        // Kubernetes' own document: taken as a whole.
        (left, right) if key == "auditPolicy" => *left = right.clone(),
        (Value::Object(left), Value::Object(right)) => merge_maps(left, right),
        (Value::Array(left), Value::Array(right)) if !is_replaced(key) => merge_lists(key, left, right),
        (left, right) => *left = right.clone(),
    }
}

fn merge_maps(left: &mut Map<String, Value>, right: &Map<String, Value>) {
    for (key, value) in right {
        if is_delete(value) {
            left.remove(key);
        } else if let Some(there) = left.get_mut(key) {
            merge_value(key, there, value);
        } else {
            let mut fresh = if value.is_array() { Value::Array(Vec::new()) } else { Value::Null };
            merge_value(key, &mut fresh, value);
            left.insert(key.clone(), fresh);
        }
    }
}

fn merge_lists(key: &str, left: &mut Vec<Value>, right: &[Value]) {
    for entry in right.iter().filter(|entry| is_delete(entry)) {
        let wanted = entry.as_object().into_iter().flatten().filter(|(key, _)| *key != PATCH);
        let wanted: Vec<(&String, &Value)> = wanted.collect();
        left.retain(|there| !wanted.iter().all(|(key, value)| there.get(key) == Some(value)));
    }
    for entry in right.iter().filter(|entry| !is_delete(entry)) {
        let same = |there: &&mut Value| {
            identity(key).iter().any(|id| entry.get(id).is_some_and(|value| there.get(id) == Some(value)))
        };
        match left.iter_mut().find(same) {
            Some(there) => merge_value("", there, entry),
            None => left.push(entry.clone()),
        }
    }
}
