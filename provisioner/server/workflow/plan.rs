//! PURE. What a workflow will do to a machine: the target it freezes, and the disks it may touch.

use crate::{
    inventory::{Cluster, DiskHints, FetchedFrom, Hardware, IssuerKind, Over, Profile, ReadyBy, matching},
    machine::state::{ByUrl, Join, Joined, Minter, Netboot, Target},
};
use provisioner_wire::{
    machine::WorkflowKind,
    order::{Config, Image, Place, WipeMethod},
    report::{Disk, DiskIdentity, HardwareReport},
};

/// What is booted beside a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    pub initramfs: Vec<Image>,
    pub rootfs: Option<Image>,
}

/// The target of a provision, as declared now, and rendered with a dummy token as `config`. `image` is what the agent writes, or with `netboot` the kernel.
pub fn provision(
    profile: &Profile,
    hardware: &Hardware,
    image: Image,
    netboot: Option<Beside>,
    (config, cluster): (&Config, Option<&Cluster>),
) -> Result<Target, String> {
    let milliseconds = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let by_url = profile.by_url().map(|url| ByUrl {
        tls: url.over == Over::Https,
        own_address: url.from == FetchedFrom::OwnAddress,
        files: config.files.iter().map(|file| file.name.clone()).collect(),
    });
    let (image, netboot) = match netboot {
        None => (Some(image), None),
        Some(Beside { initramfs, rootfs }) => {
            let own = profile.netboot.iter().flat_map(|files| &files.arguments);
            let arguments = own.map(|argument| argument.as_str().to_owned()).collect();
            (None, Some(Netboot { kernel: image, initramfs, rootfs, arguments }))
        }
    };
    Ok(Target {
        // Only what is here in chunks can be compared with what the disk holds.
        read_back: image.as_ref().is_some_and(|i| i.chunks.is_some()).then_some(profile.read_back),
        image,
        place: profile.placement().map(Place::from),
        netboot,
        by_url,
        wipe: profile.wipe,
        join: Some(join(profile, hardware, cluster)),
        token_ttl_ms: milliseconds(profile.token.ttl.duration()),
        ready_deadline_ms: milliseconds(profile.ready.deadline.duration()),
        kernel_arguments: words(profile, hardware),
        profile: serde_json::to_value(profile)
            .map_err(|e| format!("the profile {} cannot be kept: {e}", profile.name))?,
    })
}

/// The target of a wipe or an inspection: nothing is written, the profile only says how to wipe.
pub fn without_image(profile: Option<&Profile>, hardware: &Hardware) -> Target {
    let own = || hardware.kernel_arguments.iter().map(|a| a.as_str().to_owned()).collect();
    Target {
        image: None,
        place: None,
        netboot: None,
        by_url: None,
        wipe: profile.map_or(WipeMethod::default(), |p| p.wipe),
        read_back: None,
        join: None,
        token_ttl_ms: 0,
        ready_deadline_ms: 0,
        kernel_arguments: profile.map_or_else(own, |p| words(p, hardware)),
        profile: serde_json::Value::Null,
    }
}

/// What the machine will have to do with its profile's cluster.
fn join(profile: &Profile, hardware: &Hardware, cluster: Option<&Cluster>) -> Join {
    let issuer = profile.token.issuer;
    // What Talos' secrets hold is nobody's to revoke; only a bootstrap token beside them is minted.
    let minted = match issuer {
        IssuerKind::Builtin => false,
        IssuerKind::Talos => cluster.is_some_and(|c| c.kubernetes.is_some()) && !profile.is_control_plane(),
        IssuerKind::K3s | IssuerKind::Rke2 => !profile.is_control_plane(),
        IssuerKind::Kubernetes | IssuerKind::Webhook => true,
    };
    let minter = cluster.filter(|_| minted).map(|cluster| Minter {
        cluster: cluster.name.as_str().to_owned(),
        issuer: issuer.word().to_owned(),
    });
    let node = cluster.filter(|c| c.kubernetes.is_some()).map(|cluster| {
        let within = cluster.leaving.within.duration();
        Joined {
            cluster: cluster.name.as_str().to_owned(),
            node: hardware.name.to_string(),
            provider_id: profile.ready.provider_id.as_ref().map(|id| provider_id(id.as_str(), hardware)),
            drain_within_ms: i64::try_from(within.as_millis()).unwrap_or(i64::MAX),
        }
    });
    Join { watched: profile.ready.by != ReadyBy::PhoneHome, minter, node }
}

/// The profile's pattern with this machine's name, UUID and serial.
fn provider_id(pattern: &str, hardware: &Hardware) -> String {
    let uuid = hardware.uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
    let serial = hardware.serial.as_ref().map_or("", |serial| serial.as_str());
    pattern.replace("{name}", hardware.name.as_str()).replace("{uuid}", &uuid).replace("{serial}", serial)
}

fn words(profile: &Profile, hardware: &Hardware) -> Vec<String> {
    profile.kernel_arguments_of(hardware).iter().map(|a| a.as_str().to_owned()).collect()
}

/// The disks the workflow may touch: for a provision the one that the hints name, for a wipe all that can be wiped.
/// A machine that is not the declared one gets none.
pub fn disks(
    kind: WorkflowKind,
    hardware: &Hardware,
    profile: Option<&Profile>,
    report: &HardwareReport,
) -> Result<Vec<DiskIdentity>, String> {
    let differences = matching::compare(hardware, report);
    if !differences.is_empty() {
        return Err(format!("this is not the declared machine: {}", differences.join("; ")));
    }
    match (kind, profile) {
        (WorkflowKind::Wipe, _) => {
            let hints = profile.map(|profile| profile.disk_of(hardware)).or(hardware.disk.as_ref());
            let disks = matching::wipeable(hints.unwrap_or(&DiskHints::default()), report)?;
            Ok(disks.iter().map(Disk::identity).collect())
        }
        (_, Some(profile)) => {
            let disk = matching::choose_disk(profile.disk_of(hardware), report).map_err(|e| e.to_string())?;
            Ok(vec![disk.identity()])
        }
        (_, None) => Err("no profile says which disk to write".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(disks: Vec<Disk>) -> HardwareReport {
        HardwareReport { disks, ..HardwareReport::default() }
    }

    fn disk(name: &str, serial: Option<&str>) -> Disk {
        Disk { name: name.into(), serial: serial.map(str::to_owned), size_bytes: 1 << 30, ..Disk::default() }
    }

    #[test]
    fn another_machine_than_the_declared_gets_no_disk() {
        let hardware: Hardware = serde_json::from_value(serde_json::json!({
            "name": "node-1", "serial": "SN-1", "nics": [{"mac": "52:54:00:00:00:01"}]
        }))
        .unwrap();
        let seen = report(vec![disk("vda", Some("A"))]);
        let error = disks(WorkflowKind::Wipe, &hardware, None, &seen).unwrap_err();
        assert!(error.contains("SN-1") && error.contains("52:54:00:00:00:01"), "{error}");
    }
}
