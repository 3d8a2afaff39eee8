//! Records as the API and the store hold them (JSON) and as the inventory checks them (types).

use crate::{
    http::{
        content::{Change, Checked, Declared, Facts},
        error::Problem,
    },
    inventory::{
        Hardware, ImageDeclaration, Inventory, Password, Profile, RecordName, check as check_inventory,
    },
    store::declared::Kind,
    workflow::perform::BMC_PASSWORD,
};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// Checks what would be declared after `change`. Problems of the changed record have its own JSON paths.
pub fn check(
    declared: &Declared,
    change: Change<'_>,
    templates: &BTreeSet<RecordName>,
    secrets_dir: Option<&Path>,
) -> Result<Checked, Vec<Problem>> {
    let (kind, name, spec) = match change {
        Change::Put { kind, name, spec } => (kind, name, Some(spec)),
        Change::Delete { kind, name } => (kind, name, None),
    };
    let mut inventory = Inventory {
        machines: read_all(&declared.machines, kind == Kind::Machine, name)?,
        profiles: read_all(&declared.profiles, kind == Kind::Profile, name)?,
        images: read_all(&declared.images, kind == Kind::Image, name)?,
    };
    let mut checked = Checked { spec: Value::Null, secrets: Vec::new() };
    let mut own = String::new();
    if let Some(spec) = spec {
        own = add(&mut inventory, kind, name, spec, &mut checked, secrets_dir)?;
    }
    let problems = check_inventory(&inventory, templates, |pointer| match pointer.strip_prefix(&own) {
        Some(rest) if !own.is_empty() => json_path(rest),
        _ => pointer.to_owned(),
    });
    if problems.is_empty() {
        Ok(checked)
    } else {
        Err(problems.into_iter().map(|p| Problem { place: p.place, what: p.message }).collect())
    }
}

/// Adds the changed record; its JSON pointer in the inventory.
fn add(
    inventory: &mut Inventory,
    kind: Kind,
    name: &str,
    spec: Value,
    checked: &mut Checked,
    secrets_dir: Option<&Path>,
) -> Result<String, Vec<Problem>> {
    match kind {
        Kind::Machine => {
            let mut hardware: Hardware = read(spec)?;
            named(hardware.name.as_str(), name)?;
            checked.secrets = take_secrets(&mut hardware, secrets_dir)?;
            checked.spec = written(&hardware)?;
            inventory.machines.push(hardware);
            Ok(format!("/machines/{}", inventory.machines.len() - 1))
        }
        Kind::Profile => {
            let profile: Profile = read(spec)?;
            named(profile.name.as_str(), name)?;
            checked.spec = written(&profile)?;
            inventory.profiles.push(profile);
            Ok(format!("/profiles/{}", inventory.profiles.len() - 1))
        }
        Kind::Image => {
            let image: ImageDeclaration = read(spec)?;
            named(image.name.as_str(), name)?;
            checked.spec = written(&image)?;
            inventory.images.push(image);
            Ok(format!("/images/{}", inventory.images.len() - 1))
        }
    }
}

/// The BMC password, wherever it is said to be: read now, sealed by the caller, never kept in the record.
pub fn take_secrets(
    hardware: &mut Hardware,
    secrets_dir: Option<&Path>,
) -> Result<Vec<(String, SecretString)>, Vec<Problem>> {
    let Some(bmc) = &mut hardware.bmc else { return Ok(Vec::new()) };
    let problem = |what: String| vec![Problem { place: "bmc.password".to_owned(), what }];
    let password = match &bmc.password {
        Password::Stored => return Ok(Vec::new()),
        Password::Value(password) => password.clone(),
        Password::Env(name) => {
            let text = std::env::var(name.as_str())
                .map_err(|_| problem(format!("the server has no environment variable {}", name.as_str())))?;
            SecretString::from(text)
        }
        Password::File(file) => {
            let path = secrets_dir.unwrap_or(Path::new("/")).join(file.as_str());
            let text = fs::read_to_string(&path).map_err(|e| problem(format!("{}: {e}", path.display())))?;
            SecretString::from(text.lines().next().unwrap_or_default().to_owned())
        }
    };
    bmc.password = Password::Stored;
    Ok(vec![(BMC_PASSWORD.to_owned(), password)])
}

pub fn facts(spec: &Value) -> Facts {
    let Ok(hardware) = serde_json::from_value::<Hardware>(spec.clone()) else { return Facts::default() };
    Facts {
        macs: hardware.nics.iter().map(|n| n.mac).collect(),
        uuid: hardware.uuid,
        bmc: hardware.bmc.as_ref().map(|b| b.url.as_str().to_owned()),
        labels: hardware.labels.clone(),
        profile: hardware.profile.as_ref().map(|p| p.as_str().to_owned()),
    }
}

fn named(said: &str, asked: &str) -> Result<(), Vec<Problem>> {
    if said == asked {
        return Ok(());
    }
    let what = format!("the record is named {said:?}, the address says {asked:?}");
    Err(vec![Problem { place: "name".to_owned(), what }])
}

/// All stored records of a kind, without the one that is changed.
fn read_all<T: DeserializeOwned>(specs: &[Value], changed: bool, name: &str) -> Result<Vec<T>, Vec<Problem>> {
    let others = specs.iter().filter(|s| !(changed && s.get("name").and_then(Value::as_str) == Some(name)));
    others.map(|spec| read(spec.clone())).collect()
}

fn read<T: DeserializeOwned>(spec: Value) -> Result<T, Vec<Problem>> {
    serde_path_to_error::deserialize(spec).map_err(|e| {
        let place = e.path().to_string();
        let place = if place == "." { String::new() } else { place };
        vec![Problem { place, what: e.into_inner().to_string() }]
    })
}

fn written<T: serde::Serialize>(record: &T) -> Result<Value, Vec<Problem>> {
    serde_json::to_value(record).map_err(|e| vec![Problem { place: String::new(), what: e.to_string() }])
}

/// `/nics/0/mac` as `nics[0].mac`.
fn json_path(pointer: &str) -> String {
    let mut path = String::new();
    for word in pointer.split('/').filter(|w| !w.is_empty()) {
        if word.bytes().all(|c| c.is_ascii_digit()) {
            path.push_str(&format!("[{word}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(word);
        }
    }
    path
}
