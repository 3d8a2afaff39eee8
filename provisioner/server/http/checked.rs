//! Checks one change to what is declared, as the API sends it, by the inventory's own rules; takes secrets out of it.

use super::{
    content::{Change, Checked, Declared, Facts},
    error::Problem,
};
use crate::{
    inventory::{
        self, BMC_PASSWORD, Cluster, Hardware, ImageDeclaration, Inventory, Password, Profile, RecordName,
    },
    store::declared::Kind,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

type Problems = Vec<Problem>;

/// All that would be declared after `change` keeps the inventory's rules, or every problem that it would bring.
/// `templates` are the template folders that exist; `secrets_dir` is what a password file is relative to.
pub fn check(
    declared: &Declared,
    change: Change<'_>,
    templates: &BTreeSet<RecordName>,
    secrets_dir: Option<&Path>,
) -> Result<Checked, Problems> {
    let mut inventory = read_all(declared)?;
    let before = problems(&inventory, templates, None);
    let (kind, name, checked) = match change {
        Change::Put { kind, name, spec } => {
            (kind, name, put(&mut inventory, declared, kind, (name, &spec), secrets_dir)?)
        }
        Change::Delete { kind, name } => {
            match kind {
                Kind::Machine => inventory.machines.retain(|m| m.name.as_str() != name),
                Kind::Profile => inventory.profiles.retain(|p| p.name.as_str() != name),
                Kind::Image => inventory.images.retain(|i| i.name.as_str() != name),
                Kind::Cluster => inventory.clusters.retain(|c| c.name.as_str() != name),
            }
            (kind, name, Checked { spec: Value::Null, secrets: Vec::new() })
        }
    };
    // What is wrong already (a template folder was taken away) must not hinder other records.
    let known: BTreeSet<String> = before.into_iter().map(|p| p.what).collect();
    let mut brought = problems(&inventory, templates, Some((kind, name)));
    brought.retain(|p| !known.contains(&p.what));
    if brought.is_empty() { Ok(checked) } else { Err(brought) }
}

/// What the store and the API need of a stored machine record.
pub fn facts(spec: &Value) -> Facts {
    let Ok(hardware) = Hardware::deserialize(spec) else { return Facts::default() };
    Facts {
        macs: hardware.nics.iter().map(|nic| nic.mac).collect(),
        uuid: hardware.uuid,
        bmc: hardware.bmc.map(|bmc| bmc.url.as_str().to_owned()),
        labels: hardware.labels,
        profile: hardware.profile.map(|p| p.as_str().to_owned()),
    }
}

/// The typed inventory of what is stored.
pub fn read_all(declared: &Declared) -> Result<Inventory, Problems> {
    fn all<T: for<'de> Deserialize<'de>>(kind: &str, specs: &[Value]) -> Result<Vec<T>, Problems> {
        let stored = |spec: &Value| {
            read(spec).map_err(|p| {
                let name = spec.get("name").and_then(Value::as_str).unwrap_or("?");
                vec![Problem { place: format!("{kind} {name}: {}", p.place), what: p.what }]
            })
        };
        specs.iter().map(stored).collect()
    }
    Ok(Inventory {
        machines: all("machine", &declared.machines)?,
        profiles: all("profile", &declared.profiles)?,
        images: all("image", &declared.images)?,
        clusters: all("cluster", &declared.clusters)?,
    })
}

fn put(
    inventory: &mut Inventory,
    declared: &Declared,
    kind: Kind,
    (name, spec): (&str, &Value),
    secrets_dir: Option<&Path>,
) -> Result<Checked, Problems> {
    match kind {
        Kind::Machine => {
            let mut new: Hardware = named(spec, name)?;
            may_have_password(&new, declared, secrets_dir)?;
            let secrets = take_secrets(&mut new, secrets_dir)?;
            let checked = Checked { spec: written(&new)?, secrets };
            inventory.machines.retain(|m| m.name != new.name);
            inventory.machines.push(new);
            Ok(checked)
        }
        Kind::Profile => {
            let new: Profile = named(spec, name)?;
            let checked = Checked { spec: written(&new)?, secrets: Vec::new() };
            inventory.profiles.retain(|p| p.name != new.name);
            inventory.profiles.push(new);
            Ok(checked)
        }
        Kind::Image => {
            let new: ImageDeclaration = named(spec, name)?;
            let checked = Checked { spec: written(&new)?, secrets: Vec::new() };
            inventory.images.retain(|i| i.name != new.name);
            inventory.images.push(new);
            Ok(checked)
        }
        Kind::Cluster => {
            let mut new: Cluster = named(spec, name)?;
            may_have_secrets(&mut new, declared, secrets_dir)?;
            let secrets = take_cluster_secrets(&mut new, secrets_dir)?;
            let checked = Checked { spec: written(&new)?, secrets };
            inventory.clusters.retain(|c| c.name != new.name);
            inventory.clusters.push(new);
            Ok(checked)
        }
    }
}

/// What the API may say of a password. A `stored` one must have been given for this BMC: it must not be sent to
/// another URL by someone who never knew it. For the same reason a caller may not name the server's environment, nor
/// files outside the hardware folder.
fn may_have_password(
    new: &Hardware,
    declared: &Declared,
    secrets_dir: Option<&Path>,
) -> Result<(), Problems> {
    let Some(bmc) = &new.bmc else { return Ok(()) };
    let what = match &bmc.password {
        Password::Value(_) => return Ok(()),
        Password::File(file) if !file.as_str().starts_with('/') && secrets_dir.is_some() => return Ok(()),
        Password::File(_) => "by the API, only a file below the hardware folder can be named",
        Password::Env(_) => "by the API, the server's environment cannot be named: give {value: …}",
        Password::Stored => {
            let records = declared.machines.iter().filter_map(|m| Hardware::deserialize(m).ok());
            let before = records.into_iter().find(|m| m.name == new.name).and_then(|m| m.bmc);
            match before.filter(|b| matches!(b.password, Password::Stored)) {
                Some(kept) if kept.url == bmc.url => return Ok(()),
                Some(_) => "the BMC's URL has changed: give its password again, {value: …}",
                None => "no password is stored for this machine: give {value: …}",
            }
        }
    };
    Err(vec![Problem { place: "bmc.password".to_owned(), what: what.to_owned() }])
}

/// [`may_have_password`] for a cluster's secrets.
fn may_have_secrets(
    new: &mut Cluster,
    declared: &Declared,
    secrets_dir: Option<&Path>,
) -> Result<(), Problems> {
    let records = declared.clusters.iter().filter_map(|c| Cluster::deserialize(c).ok());
    let mut before = records.into_iter().find(|c| c.name == new.name);
    let moved = before.as_ref().map_or_else(Vec::new, |before| {
        let known = before.destinations();
        new.destinations().into_iter().filter(|d| !known.contains(d)).map(|(field, _)| field).collect()
    });
    let kept: Vec<&str> = before
        .as_mut()
        .map_or_else(Vec::new, |b| b.secrets_mut().into_iter().map(|(field, _)| field).collect());
    for (field, secret) in new.secrets_mut() {
        let what = match secret {
            Password::Value(_) => continue,
            Password::File(file) if !file.as_str().starts_with('/') && secrets_dir.is_some() => continue,
            Password::File(_) => "by the API, only a file below the hardware folder can be named",
            Password::Env(_) => "by the API, the server's environment cannot be named: give {value: …}",
            Password::Stored if moved.contains(&field) => {
                "its address has changed: give it again, {value: …}"
            }
            Password::Stored if kept.contains(&field) => continue,
            Password::Stored => "none is stored: give {value: …}",
        };
        return Err(vec![Problem { place: field.to_owned(), what: what.to_owned() }]);
    }
    Ok(())
}

/// A cluster's secrets, read now, to be sealed by the caller.
pub fn take_cluster_secrets(
    cluster: &mut Cluster,
    secrets_dir: Option<&Path>,
) -> Result<Vec<(String, SecretString)>, Problems> {
    let taken = cluster
        .take_secrets(secrets_dir.unwrap_or(Path::new("/")))
        .map_err(|(place, error)| vec![Problem { place, what: error.to_string() }])?;
    for (field, secret) in &taken {
        secrets_are_sound(field, secret).map_err(|what| vec![Problem { place: field.clone(), what }])?;
    }
    Ok(taken)
}

/// What is stored must be of use: a mistake is told when it is made, not when a machine waits.
fn secrets_are_sound(field: &str, text: &SecretString) -> Result<(), String> {
    use crate::{inventory::cluster::secret, token};
    let text = text.expose_secret();
    match field {
        secret::KUBERNETES => {
            token::kubeconfig::Credentials::parse(text).map(drop).map_err(|e| e.to_string())
        }
        secret::TALOS => token::talos::Bundle::parse(text).map(drop).map_err(|e| e.to_string()),
        secret::K3S if !token::k3s::is_server_token(text) => {
            Err("not a server token: one line of 8 to 512 printable characters".to_owned())
        }
        secret::WEBHOOK if text.trim().len() < 16 => Err("shorter than 16 characters".to_owned()),
        _ => Ok(()),
    }
}

/// The BMC password, wherever it is said to be: read now, to be sealed by the caller, never kept in the record.
pub fn take_secrets(
    hardware: &mut Hardware,
    secrets_dir: Option<&Path>,
) -> Result<Vec<(String, SecretString)>, Problems> {
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

fn named<T: for<'de> Deserialize<'de>>(spec: &Value, name: &str) -> Result<T, Problems> {
    if spec.get("name").and_then(Value::as_str).is_some_and(|n| n != name) {
        let what = format!("is not the name in the address, {name}");
        return Err(vec![Problem { place: "name".to_owned(), what }]);
    }
    read(spec).map_err(|p| vec![p])
}

fn read<T: for<'de> Deserialize<'de>>(spec: &Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(spec).map_err(|e| {
        let path = e.path().to_string();
        let place = if path == "." { String::new() } else { path };
        Problem { place, what: e.into_inner().to_string() }
    })
}

fn written<T: Serialize>(record: &T) -> Result<Value, Problems> {
    serde_json::to_value(record).map_err(|e| vec![Problem { place: String::new(), what: e.to_string() }])
}

/// Every problem of `inventory`; those of the record `at` have bare JSON paths, others are named.
fn problems(inventory: &Inventory, templates: &BTreeSet<RecordName>, at: Option<(Kind, &str)>) -> Problems {
    let found = inventory::check(inventory, templates, |pointer| place(inventory, at, pointer));
    found.into_iter().map(|p| Problem { place: p.place, what: p.message }).collect()
}

/// `/machines/3/nics/0/mac` → `nics[0].mac`, or `machine node-4: nics[0].mac` for another record than `at`.
fn place(inventory: &Inventory, at: Option<(Kind, &str)>, pointer: &str) -> String {
    let mut parts = pointer.split('/').skip(1);
    let (list, index) =
        (parts.next(), parts.next().and_then(|i| i.parse::<usize>().ok()).unwrap_or(usize::MAX));
    let (kind, word, name) = match list {
        Some("machines") => {
            (Kind::Machine, "machine", inventory.machines.get(index).map(|m| m.name.as_str()))
        }
        Some("profiles") => {
            (Kind::Profile, "profile", inventory.profiles.get(index).map(|p| p.name.as_str()))
        }
        Some("clusters") => {
            (Kind::Cluster, "cluster", inventory.clusters.get(index).map(|c| c.name.as_str()))
        }
        _ => (Kind::Image, "image", inventory.images.get(index).map(|i| i.name.as_str())),
    };
    let path = parts.fold(String::new(), |path, part| match part.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) if path.is_empty() => part.to_owned(),
        Err(_) => format!("{path}.{part}"),
    });
    match name {
        Some(name) if at == Some((kind, name)) => path,
        Some(name) => format!("{word} {name}: {path}"),
        None => pointer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn templates() -> BTreeSet<RecordName> {
        BTreeSet::from(["debian".parse().unwrap()])
    }

    fn declared() -> Declared {
        let image = json!({"name": "debian-12", "source": {"file": "d.raw"}, "format": "raw", "sha256": "ab".repeat(32)});
        let profile = json!({"name": "debian", "image": "debian-12", "os": "cloud-init", "template": "debian",
            "place": {"partition": {"label": "CIDATA"}, "directory": "/"}, "role": "worker"});
        Declared {
            machines: vec![machine("a", 1)],
            profiles: vec![profile],
            images: vec![image],
            clusters: Vec::new(),
        }
    }

    fn machine(name: &str, last: u8) -> Value {
        json!({"name": name, "nics": [{"mac": format!("52:54:00:00:00:{last:02x}")}], "profile": "debian"})
    }

    fn put(declared: &Declared, spec: Value) -> Result<Checked, Problems> {
        let name = spec["name"].as_str().unwrap().to_owned();
        check(declared, Change::Put { kind: Kind::Machine, name: &name, spec }, &templates(), None)
    }

    fn first(result: Result<Checked, Problems>) -> String {
        let problem = result.unwrap_err().remove(0);
        format!("{}: {}", problem.place, problem.what)
    }

    #[test]
    fn each_mistake_has_its_json_path() {
        let declared = declared();
        put(&declared, machine("b", 2)).unwrap();
        put(&declared, machine("a", 2)).unwrap();
        let mut spec = machine("b", 2);
        spec["nics"][0]["mac"] = json!("zz");
        assert!(first(put(&declared, spec)).starts_with("nics[0].mac: \"zz\" is not a MAC address"));
        assert!(
            first(put(&declared, machine("b", 1)))
                .starts_with("nics[0].mac: MAC 52:54:00:00:00:01 is used twice")
        );
        let mut spec = machine("b", 2);
        spec["profile"] = json!("none");
        assert!(first(put(&declared, spec)).starts_with("profile: there is no profile none"));
        let mut spec = machine("b", 2);
        spec["colour"] = json!("red");
        assert!(first(put(&declared, spec)).contains("colour"));
    }

    #[test]
    fn what_is_needed_cannot_be_deleted() {
        let declared = declared();
        let delete = |kind, name| check(&declared, Change::Delete { kind, name }, &templates(), None);
        assert!(
            first(delete(Kind::Profile, "debian")).starts_with("machine a: profile: there is no profile")
        );
        assert!(delete(Kind::Image, "debian-12").is_err());
        delete(Kind::Machine, "a").unwrap();
        // What is wrong already hinders nobody else.
        let change = Change::Put { kind: Kind::Machine, name: "b", spec: machine("b", 2) };
        check(&declared, change, &BTreeSet::new(), None).unwrap();
    }

    #[test]
    fn a_password_is_taken_out_and_stays_with_its_bmc() {
        let mut declared = declared();
        let with = |password: Value, url: &str| {
            let mut spec = machine("b", 2);
            spec["bmc"] = json!({"url": url, "username": "admin", "password": password});
            spec
        };
        assert!(
            first(put(&declared, with(json!("stored"), "https://10.0.0.9")))
                .starts_with("bmc.password: no password")
        );
        let checked = put(&declared, with(json!({"value": "hunter2"}), "https://10.0.0.9")).unwrap();
        assert!(!checked.spec.to_string().contains("hunter2"));
        assert_eq!(checked.secrets[0].1.expose_secret(), "hunter2");
        declared.machines.push(checked.spec);
        for outside in [json!({"env": "HOME"}), json!({"file": "/etc/passwd"}), json!({"file": "x"})] {
            assert!(first(put(&declared, with(outside, "https://10.0.0.9"))).contains("by the API"));
        }
        assert!(put(&declared, with(json!("stored"), "https://10.0.0.9")).unwrap().secrets.is_empty());
        assert!(
            first(put(&declared, with(json!("stored"), "https://10.0.0.66"))).contains("URL has changed")
        );
    }
}
