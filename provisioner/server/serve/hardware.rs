//! The hardware folder: loaded whole at start, or not at all.

use super::{House, content::names};
use crate::{
    http::checked::{take_cluster_secrets, take_secrets},
    inventory::{cluster::secret_owner, load},
    os,
    store::{self, declared::Kind},
    workflow::{
        Engine,
        declare::{Declaration, declare},
    },
};
use anyhow::{Context, Result, bail};
use secrecy::ExposeSecret;
use std::path::Path;

/// Declares everything in the hardware folder. A record with a problem stops the start, and nothing is changed.
pub async fn declare_all(house: &House, engine: &Engine) -> Result<()> {
    let Some(folder) = &house.config.hardware_dir else { return Ok(()) };
    let inventory = load(folder, &names(&house.templates)).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the hardware folder has problems:\n{}", lines.join("\n"))
    })?;
    let complaints = inventory.images.iter().filter_map(|i| house.config.signatures.required.complaint(i));
    let complaints: Vec<String> = complaints.collect();
    if !complaints.is_empty() {
        bail!("the hardware folder has problems:\n{}", complaints.join("\n"));
    }
    let now = engine.now();
    let mut tx = house.db.write().await?;
    for image in &inventory.images {
        store::declared::put(&mut tx, Kind::Image, image.name.as_str(), image, now).await?;
    }
    for profile in &inventory.profiles {
        store::declared::put(&mut tx, Kind::Profile, profile.name.as_str(), profile, now).await?;
    }
    for mut cluster in inventory.clusters {
        let name = cluster.name.as_str().to_owned();
        let secrets = take_cluster_secrets(&mut cluster, Some(folder)).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.place, p.what)).collect();
            anyhow::anyhow!("cluster {name}: {}", lines.join("; "))
        })?;
        store::declared::put(&mut tx, Kind::Cluster, &name, &cluster, now).await?;
        let owner = secret_owner(&name);
        for (field, secret) in secrets {
            let sealed = house.keyring.seal(&owner, &field, secret.expose_secret().as_bytes())?;
            store::secrets::put(&mut tx, &owner, &field, &sealed).await?;
        }
    }
    tx.commit().await?;
    for mut hardware in inventory.machines {
        let name = hardware.name.clone();
        let secrets = take_secrets(&mut hardware, Some(folder)).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.place, p.what)).collect();
            anyhow::anyhow!("machine {name}: {}", lines.join("; "))
        })?;
        let mut sealed = Vec::new();
        for (field, secret) in secrets {
            let bytes = house.keyring.seal(name.as_str(), &field, secret.expose_secret().as_bytes())?;
            sealed.push((field, bytes));
        }
        let spec = serde_json::to_value(&hardware)?;
        let macs = hardware.nics.iter().map(|n| n.mac).collect();
        let declaration =
            Declaration { name: name.clone(), spec: &spec, macs, bmc: hardware.bmc.is_some(), sealed };
        declare(engine, declaration).await.with_context(|| format!("machine {name}"))?;
    }
    Ok(())
}

/// `provisioner check DIR`: the folder is looked at, nothing is declared. Templates are those beside it.
pub fn check(folder: &Path) -> Result<String, Vec<String>> {
    let beside = folder.parent().unwrap_or(Path::new(".")).join("templates/machine-config");
    let counted = || -> Result<String> {
        let templates = os::read_templates(&beside)?;
        match load(folder, &names(&templates)) {
            Ok(all) => Ok(format!(
                "{} machines, {} profiles, {} images, {} clusters: no problem",
                all.machines.len(),
                all.profiles.len(),
                all.images.len(),
                all.clusters.len()
            )),
            Err(problems) => {
                bail!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        }
    };
    counted().map_err(|e| format!("{e:#}").lines().map(str::to_owned).collect())
}
