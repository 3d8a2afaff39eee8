//! PURE. The API's door to the inventory: records as JSON, mistakes with their JSON pointer in the body.

use super::{Inventory, Problem, RecordName, check};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

/// One record. A mistake's place is a JSON pointer (`/nics/0/mac`).
pub fn from_json<T: DeserializeOwned>(record: &Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(record).map_err(|error| {
        let pointer = error.path().iter().fold(String::new(), |path, part| match part {
            serde_path_to_error::Segment::Seq { index } => format!("{path}/{index}"),
            serde_path_to_error::Segment::Map { key } => format!("{path}/{key}"),
            serde_path_to_error::Segment::Enum { variant } => format!("{path}/{variant}"),
            serde_path_to_error::Segment::Unknown => path,
        });
        Problem::new(if pointer.is_empty() { "/" } else { &pointer }, error.into_inner().to_string())
    })
}

/// [`check`] of the whole inventory after one record was put in at `changed` (`/machines/3`): places in that record are
/// pointers into it; places elsewhere begin with the other record's name.
pub fn check_change(inventory: &Inventory, templates: &BTreeSet<RecordName>, changed: &str) -> Vec<Problem> {
    check(inventory, templates, |pointer| match pointer.strip_prefix(changed) {
        Some("") => "/".to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        _ => elsewhere(inventory, pointer),
    })
}

fn elsewhere(inventory: &Inventory, pointer: &str) -> String {
    let mut parts = pointer.splitn(4, '/').skip(1);
    let kind = parts.next().unwrap_or_default();
    let index: usize = parts.next().and_then(|index| index.parse().ok()).unwrap_or(usize::MAX);
    let rest = parts.next().unwrap_or_default();
    let name = match kind {
        "machines" => inventory.machines.get(index).map(|m| format!("machine {}", m.name)),
        "clusters" => inventory.clusters.get(index).map(|c| format!("cluster {}", c.name)),
        "profiles" => inventory.profiles.get(index).map(|p| format!("profile {}", p.name)),
        _ => inventory.images.get(index).map(|i| format!("image {}", i.name)),
    };
    format!("{}/{rest}", name.unwrap_or_default())
}
