//! PURE. Who a machine is, whether it is what was declared, and which of its disks is meant.

use super::{
    DiskHints, Hardware,
    identity::{canonical, is_filler_serial, is_filler_uuid},
};
use provisioner_wire::{
    Mac, MachineName,
    report::{Disk, Firmware, HardwareReport, MarkKind},
};
use std::fmt;
use uuid::Uuid;

/// What a machine said of itself. None of it is proof of anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub macs: Vec<Mac>,
    pub uuid: Option<Uuid>,
    pub serial: Option<String>,
}

impl From<&HardwareReport> for Seen {
    fn from(report: &HardwareReport) -> Self {
        Self {
            macs: report.nics.iter().map(|nic| nic.mac).chain(report.boot_mac).collect(),
            uuid: report.dmi.uuid.as_deref().and_then(|text| text.parse().ok()),
            serial: report.dmi.serial.clone(),
        }
    }
}

#[derive(Debug, Clone)]
pub enum Identity<'a> {
    /// All that is known of it speaks for this one machine.
    Machine(&'a Hardware),
    Unknown,
    /// An alarm: nothing is done for it.
    Conflict(Conflict),
}

/// Identities that speak for different machines. `Display` is fit for an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Each identity, and the machine it speaks for or against.
    pub facts: Vec<String>,
    pub machines: Vec<MachineName>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conflicting identity: {}", self.facts.join("; "))
    }
}

/// The declared machine that `seen` is. Filler counts for nothing. A conflict is never settled by a majority.
pub fn identify<'a>(machines: impl IntoIterator<Item = &'a Hardware>, seen: &Seen) -> Identity<'a> {
    let uuid = seen.uuid.filter(|uuid| !is_filler_uuid(*uuid));
    let serial = seen.serial.as_deref().map(str::trim).filter(|serial| !is_filler_serial(serial));
    let (mut found, mut facts, mut against): (Vec<&Hardware>, Vec<String>, bool) =
        (Vec::new(), Vec::new(), false);
    for machine in machines {
        let (mut speaks_for, mut speaks_against) = (Vec::new(), Vec::new());
        for mac in machine.nics.iter().map(|nic| nic.mac).filter(|mac| seen.macs.contains(mac)) {
            speaks_for.push(format!("MAC {mac} is {}'s", machine.name));
        }
        if let (Some(seen), Some(declared)) = (uuid, machine.uuid) {
            if canonical(seen) == canonical(declared) {
                speaks_for.push(format!("UUID {seen} is {}'s", machine.name));
            } else {
                speaks_against.push(format!("UUID {seen} is not {}'s ({declared})", machine.name));
            }
        }
        if let (Some(seen), Some(declared)) = (serial, &machine.serial) {
            if seen.eq_ignore_ascii_case(declared.as_str()) {
                speaks_for.push(format!("serial {seen} is {}'s", machine.name));
            } else {
                speaks_against.push(format!("serial {seen} is not {}'s ({declared})", machine.name));
            }
        }
        if !speaks_for.is_empty() {
            found.push(machine);
            against |= !speaks_against.is_empty();
            facts.extend(speaks_for);
            facts.extend(speaks_against);
        }
    }
    match found.as_slice() {
        [] => Identity::Unknown,
        [machine] if !against => Identity::Machine(machine),
        several => {
            Identity::Conflict(Conflict { facts, machines: several.iter().map(|m| m.name.clone()).collect() })
        }
    }
}

/// What in the report is not as declared, each with both values; empty where all is.
pub fn compare(hardware: &Hardware, report: &HardwareReport) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(declared) = hardware.uuid {
        let seen: Option<Uuid> = report.dmi.uuid.as_deref().and_then(|text| text.parse().ok());
        if seen.map(canonical) != Some(canonical(declared)) {
            let seen = report.dmi.uuid.as_deref().unwrap_or("none");
            reasons.push(format!("UUID {declared} is declared, the machine has {seen}"));
        }
    }
    if let Some(declared) = &hardware.serial {
        let seen = report.dmi.serial.as_deref().map(str::trim).unwrap_or_default();
        if !seen.eq_ignore_ascii_case(declared.as_str()) {
            reasons.push(format!("serial {declared} is declared, the machine has {:?}", seen));
        }
    }
    for nic in &hardware.nics {
        if !report.nics.iter().any(|seen| seen.mac == nic.mac) {
            reasons.push(format!("no NIC has the declared MAC {}", nic.mac));
        }
    }
    if let Some(declared) = hardware.firmware
        && declared != report.firmware
    {
        let (declared, seen) = (firmware(declared), firmware(report.firmware));
        reasons.push(format!("firmware {declared} is declared, the machine booted with {seen}"));
    }
    reasons
}

fn firmware(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "bios",
        Firmware::Uefi => "uefi",
    }
}

/// Why no disk was chosen, with every disk that was seen. `Display` is one line a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DiskRefusal {
    pub hints: Box<DiskHints>,
    /// Each disk with why it was not taken; an empty list for one that matches.
    pub seen: Vec<(Disk, Vec<String>)>,
}

impl DiskRefusal {
    pub fn matched(&self) -> usize {
        self.seen.iter().filter(|(_, reasons)| reasons.is_empty()).count()
    }
}

impl fmt::Display for DiskRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.matched() {
            0 => write!(f, "no disk matches the hints ({})", hints_text(&self.hints))?,
            n => write!(f, "{n} disks match the hints ({}); exactly one must", hints_text(&self.hints))?,
        }
        if self.seen.is_empty() {
            return f.write_str("; the machine shows no disk at all");
        }
        f.write_str("; disks seen:")?;
        for (disk, reasons) in &self.seen {
            let verdict = if reasons.is_empty() { "matches".to_owned() } else { reasons.join(", ") };
            write!(
                f,
                "\n  {} serial {} wwn {} model {} {} bytes: {verdict}",
                disk.name,
                disk.serial.as_deref().unwrap_or("-"),
                disk.wwn.as_deref().unwrap_or("-"),
                disk.model.as_deref().unwrap_or("-"),
                disk.size_bytes,
            )?;
        }
        Ok(())
    }
}

fn hints_text(hints: &DiskHints) -> String {
    match serde_json::to_string(hints) {
        Ok(text) if text != "{}" => text,
        _ => "none given".to_owned(),
    }
}

/// The one disk that the hints name. Never a removable, read-only or used one, nor one whose identity would not survive
/// a reboot or is shared with another; and none that belongs to a set, or maybe to other machines, unless the hints allow
/// that.
pub fn choose_disk(hints: &DiskHints, report: &HardwareReport) -> Result<Disk, DiskRefusal> {
    let judged: Vec<(Disk, Vec<String>)> =
        report.disks.iter().map(|disk| (disk.clone(), objections(hints, disk, report))).collect();
    let mut matching = judged.iter().filter(|(_, reasons)| reasons.is_empty());
    match (matching.next(), matching.next()) {
        (Some((disk, _)), None) => Ok(disk.clone()),
        _ => Err(DiskRefusal { hints: Box::new(hints.clone()), seen: judged }),
    }
}

fn objections(hints: &DiskHints, disk: &Disk, report: &HardwareReport) -> Vec<String> {
    let mut reasons = never(disk, report);
    reasons.extend(held_by_others(disk, &hints.allow));
    let mut text =
        |name: &str, hint: &Option<super::Line>, seen: &Option<String>, same: fn(&str, &str) -> bool| {
            if let Some(hint) = hint
                && !seen.as_deref().is_some_and(|seen| same(hint.as_str(), seen.trim()))
            {
                reasons.push(format!("{name} is not {hint}"));
            }
        };
    text("serial", &hints.serial, &disk.serial, str::eq_ignore_ascii_case);
    text("wwn", &hints.wwn, &disk.wwn, same_wwn);
    text("model", &hints.model, &disk.model, contains_ignoring_case);
    text("transport", &hints.transport, &disk.transport, str::eq_ignore_ascii_case);
    text("by_path", &hints.by_path, &disk.by_path, |hint, seen| hint == seen);
    if let Some(min) = hints.min_size.filter(|min| disk.size_bytes < min.0) {
        reasons.push(format!("smaller than {min}"));
    }
    if let Some(max) = hints.max_size.filter(|max| disk.size_bytes > max.0) {
        reasons.push(format!("larger than {max}"));
    }
    if let Some(rotational) = hints.rotational.filter(|hint| *hint != disk.rotational) {
        reasons.push(if rotational { "not rotational" } else { "rotational" }.to_owned());
    }
    reasons
}

/// What rules a disk out whatever the hints say.
fn never(disk: &Disk, report: &HardwareReport) -> Vec<String> {
    let identity = disk.identity();
    let mut reasons = Vec::new();
    let mut rule = |broken: bool, reason: &str| {
        if broken {
            reasons.push(reason.to_owned());
        }
    };
    rule(disk.removable, "removable");
    rule(disk.read_only, "read-only");
    rule(disk.in_use, "in use (mounted, swap, or part of a set that is running)");
    rule(disk.size_bytes == 0, "empty (no medium)");
    rule(!identity.is_certain(), "has neither serial nor WWN, so it could be mistaken for another");
    let filler = disk.wwn.is_none() && disk.serial.as_deref().is_some_and(is_filler_serial);
    rule(filler, "its serial is vendors' filler and it has no WWN");
    let others = || report.disks.iter().filter(|other| other.name != disk.name);
    let is_twin = |other: &&Disk| identity.is_certain() && other.identity() == identity;
    // The same name by another path: a multipath disk. Written by one path while another is in use, it is lost.
    let is_path = |other: &&Disk| disk.wwn.is_some() && other.wwn == disk.wwn;
    if let Some(path) = others().find(is_path) {
        reasons.push(format!("one of several paths to the same disk (multipath): {} is another", path.name));
    } else if let Some(twin) = others().find(is_twin) {
        reasons.push(format!("{} has the same WWN, serial and size", twin.name));
    }
    reasons
}

/// What on the disk says that it belongs to a set, or that other machines may be using it; without what is `allowed`.
fn held_by_others(disk: &Disk, allowed: &[MarkKind]) -> Vec<String> {
    let marks = disk.marks.iter().filter(|mark| !allowed.contains(&mark.kind));
    marks
        .map(|mark| {
            format!("{} ({}; allow: [{}] takes it all the same)", mark.kind, mark.at, mark.kind.word())
        })
        .collect()
}

/// The disks that a wipe takes: every fixed one. What cannot be wiped, or may be another machine's, stops the wipe: a
/// machine must not count as wiped while a disk of it is not, and a shared disk is not this machine's to wipe. Sets that
/// only this machine has (RAID, LVM, bcache, ZFS) are what a wipe is for.
pub fn wipeable(hints: &DiskHints, report: &HardwareReport) -> Result<Vec<Disk>, String> {
    let fixed: Vec<&Disk> = report.disks.iter().filter(|d| !d.removable && d.size_bytes > 0).collect();
    let own = [MarkKind::RaidMember, MarkKind::LvmMember, MarkKind::BcacheMember, MarkKind::ZfsMember];
    let allowed = [own.as_slice(), &hints.allow].concat();
    let refused: Vec<String> = fixed
        .iter()
        .map(|disk| (disk, [never(disk, report), held_by_others(disk, &allowed)].concat()))
        .filter(|(_, reasons)| !reasons.is_empty())
        .map(|(disk, reasons)| format!("{}: {}", disk.name, reasons.join(", ")))
        .collect();
    if !refused.is_empty() {
        return Err(format!("these disks cannot be wiped, so none is: {}", refused.join("; ")));
    }
    if fixed.is_empty() {
        return Err("the machine shows no disk".to_owned());
    }
    Ok(fixed.into_iter().cloned().collect())
}

fn contains_ignoring_case(part: &str, whole: &str) -> bool {
    whole.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
}

/// WWNs without their notation: `0x5000…`, `naa.5000…`, `eui.…`, `nvme.…`.
fn same_wwn(a: &str, b: &str) -> bool {
    let plain = |text: &str| {
        let text = text.to_ascii_lowercase();
        ["0x", "naa.", "eui.", "wwn-0x", "nvme-eui."]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix).map(str::to_owned))
            .unwrap_or(text)
    };
    plain(a) == plain(b)
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
