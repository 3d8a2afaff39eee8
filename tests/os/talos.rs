//! Talos: its stability configs, its documents, its merge vectors.

use super::{all, fixtures, refused};
use provisioner::{inventory::OperatingSystem::Talos, os::talos::merge};
use serde_json::Value;
use std::fs;

#[test]
fn the_stability_configs_of_all_versions_are_taken() {
    let mut seen = 0;
    for path in all(&fixtures("talos/stability"), ".yaml") {
        if path.file_name().unwrap().to_string_lossy().starts_with("patch") {
            continue;
        }
        let problems = refused(Talos, "config", &fs::read_to_string(&path).unwrap());
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn documents_of_every_kind_are_taken_beside_a_machine() {
    let machine =
        "version: v1alpha1\nmachine: {type: worker}\ncluster: {controlPlane: {endpoint: https://c:6443}}\n";
    let mut all_problems = Vec::new();
    for path in all(&fixtures("talos/documents"), ".yaml") {
        let text = fs::read_to_string(&path).unwrap();
        let problems = refused(Talos, "config", &format!("{machine}---\n{text}"));
        // A sample of the encoder that Talos itself would not take: kernel logs go to tcp:// or udp:// only.
        if path.ends_with("runtime-kmsglog.yaml") {
            assert!(problems.iter().all(|p| p.contains("url: ")) && problems.len() == 1, "{problems:#?}");
            continue;
        }
        all_problems.extend(problems.into_iter().map(|problem| format!("{}: {problem}", path.display())));
    }
    assert!(all_problems.is_empty(), "{all_problems:#?}");
}

#[test]
fn mistakes_are_named_with_their_place() {
    let good = "version: v1alpha1\nmachine:\n  type: worker\ncluster:\n  controlPlane:\n    endpoint: https://c:6443\n";
    assert_eq!(refused(Talos, "config", good), Vec::<String>::new());
    for (from, to, place) in [
        ("type: worker", "type: node", "config:3:9: "),
        ("type: worker", "tpye: worker", "config:3:9: machine: Additional"),
        ("endpoint: https://c:6443", "endpoint: 5", "config:6:5: cluster.controlPlane.endpoint"),
        ("version: v1alpha1\n", "", "config:1:1: version"),
        ("cluster:\n", "---\nkind: NoSuchConfig\nother:\n", "config:5:7: Talos knows no document"),
    ] {
        let problems = refused(Talos, "config", &good.replace(from, to));
        assert!(problems.iter().any(|p| p.starts_with(place)), "{to}: {problems:#?}");
    }
}

/// Talos writes its defaults out after a merge; what is empty is nothing.
fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) if text.starts_with("https://") => Some(text.trim_end_matches('/').into()),
        Value::Object(map) => {
            let map: serde_json::Map<_, _> =
                map.into_iter().filter_map(|(k, v)| Some((k, pruned(v)?))).collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.into_iter().filter_map(pruned).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        other => Some(other),
    }
}

fn documents(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(fixtures(path)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn patches_merge_as_talos_merges_them() {
    let mut cases: Vec<(String, Vec<String>, String)> = (1..=6)
        .map(|n| {
            let folder = format!("talos/strategic/00{n}");
            (
                format!("{folder}/left.yaml"),
                vec![format!("{folder}/right.yaml")],
                format!("{folder}/expected.yaml"),
            )
        })
        .collect();
    let several = |folder: &str, base: &str, patches: &[&str]| {
        let name = |file: &str| format!("talos/{folder}/{file}.yaml");
        (name(base), patches.iter().map(|p| name(p)).collect(), name("expected"))
    };
    cases.push(several("multidoc", "config", &["strategic1", "strategic2", "strategic3"]));
    cases.push(several("patchdelete", "config", &["strategic1"]));
    cases.push(several("patchlink", "base", &["patch"]));
    cases.push(several("auditpolicy", "config", &["patch1"]));
    for (base, patches, expected) in cases {
        let mut merged = documents(&base);
        for patch in patches.iter().flat_map(|patch| documents(patch)) {
            merge(&mut merged, &patch);
        }
        let order = |documents: Vec<Value>| {
            let mut all: Vec<Value> = documents.into_iter().filter_map(pruned).collect();
            all.sort_by_key(|d| (d["kind"].to_string(), d["name"].to_string()));
            all
        };
        let (merged, expected) = (order(merged), order(documents(&expected)));
        for (merged, expected) in merged.iter().zip(&expected) {
            differences(&base, "", merged, expected);
        }
        assert_eq!(merged.len(), expected.len(), "{base}");
    }
}

fn differences(base: &str, at: &str, left: &Value, right: &Value) {
    if let (Some(left), Some(right)) = (left.as_object(), right.as_object()) {
        let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
        for key in keys {
            differences(
                base,
                &format!("{at}/{key}"),
                &left.get(key).cloned().unwrap_or_default(),
                &right.get(key).cloned().unwrap_or_default(),
            );
        }
        return;
    }
    assert_eq!(left, right, "{base} {at}");
}
