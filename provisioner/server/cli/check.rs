//! `check`: the inventory's own rules on a folder, without a server.

use crate::inventory::{self, RecordName};
use std::{collections::BTreeSet, io, path::Path};

/// What the folder holds, in a few words; or each problem with its place.
pub fn folder(folder: &Path, templates: Option<&Path>) -> Result<String, Vec<String>> {
    if !folder.is_dir() {
        return Err(vec![format!("{}: is not a folder", folder.display())]);
    }
    let beside = folder.parent().unwrap_or(Path::new("")).join("templates/machine-config");
    let templates = templates.unwrap_or(&beside);
    let known = template_folders(templates).map_err(|e| vec![format!("{}: {e}", templates.display())])?;
    let inventory = inventory::load(folder, &known)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(format!(
        "good: {} machines, {} profiles, {} images",
        inventory.machines.len(),
        inventory.profiles.len(),
        inventory.images.len()
    ))
}

/// Names of the template folders.
fn template_folders(folder: &Path) -> io::Result<BTreeSet<RecordName>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().to_str().and_then(|name| name.parse::<RecordName>().ok()));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let root = tempfile::tempdir().unwrap();
        let (hardware, templates) =
            (root.path().join("hardware"), root.path().join("templates/machine-config"));
        std::fs::create_dir_all(hardware.join("machines")).unwrap();
        std::fs::create_dir_all(templates.join("debian")).unwrap();
        std::fs::write(hardware.join("machines/a.yaml"), "name: a\nnics:\n  - mac: 52:54:00:00:00:01\n")
            .unwrap();
        assert_eq!(folder(&hardware, None), Ok("good: 1 machines, 0 profiles, 0 images".to_owned()));
        std::fs::write(hardware.join("machines/b.yaml"), "name: b\nnics:\n  - mac: nonsense\n").unwrap();
        let problems = folder(&hardware, None).unwrap_err();
        assert!(problems[0].contains("b.yaml:3:"), "{problems:?}");
        assert!(folder(&root.path().join("none"), None).is_err());
    }
}
