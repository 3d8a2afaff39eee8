//! Which disks are taken and which never are: tables.

use super::*;
use provisioner_wire::report::Mark;

fn disk(name: &str, serial: Option<&str>) -> Disk {
    Disk { name: name.into(), serial: serial.map(str::to_owned), size_bytes: 1 << 30, ..Disk::default() }
}

fn report(disks: Vec<Disk>) -> HardwareReport {
    HardwareReport { disks, ..HardwareReport::default() }
}

fn marked(kind: MarkKind) -> Disk {
    Disk { marks: vec![Mark { kind, at: "vda2".into() }], ..disk("vda", Some("A")) }
}

fn allowing(kinds: &[MarkKind]) -> DiskHints {
    DiskHints { allow: kinds.to_vec(), ..DiskHints::default() }
}

const ALL: [MarkKind; 7] = [
    MarkKind::RaidMember,
    MarkKind::LvmMember,
    MarkKind::BcacheMember,
    MarkKind::ZfsMember,
    MarkKind::ClusterFileSystem,
    MarkKind::SharedLvm,
    MarkKind::Reservation,
];

#[test]
fn a_disk_with_a_mark_is_taken_only_where_that_mark_is_allowed() {
    for kind in ALL {
        let seen = report(vec![marked(kind)]);
        let refusal = choose_disk(&DiskHints::default(), &seen).unwrap_err().to_string();
        for part in [kind.to_string().as_str(), kind.word(), "vda2"] {
            assert!(refusal.contains(part), "{refusal}");
        }
        assert!(choose_disk(&allowing(&[kind]), &seen).is_ok(), "{kind}");
        for other in ALL.into_iter().filter(|other| *other != kind) {
            assert!(choose_disk(&allowing(&[other]), &seen).is_err(), "{other} allows {kind}");
        }
        let word = serde_json::to_value(kind).unwrap();
        assert_eq!(word, kind.word(), "the word in a refusal is the word in a profile");
    }
}

#[test]
fn each_rule_is_named_beside_its_disk() {
    let size = 1 << 30;
    let disks = vec![
        Disk { removable: true, ..disk("sda", Some("A")) },
        Disk { read_only: true, ..disk("sdb", Some("B")) },
        Disk { in_use: true, ..disk("sdc", Some("C")) },
        Disk { wwn: Some("0x5".into()), ..disk("sdd", Some("D")) },
        Disk { wwn: Some("0x5".into()), ..disk("sde", Some("E")) },
        disk("sdf", Some("F")),
        disk("sdg", Some("F")),
        disk("sdh", None),
        Disk { size_bytes: size / 2, ..disk("sdi", Some("I")) },
    ];
    let hints = DiskHints { min_size: Some(super::super::Size(size)), ..DiskHints::default() };
    let told = choose_disk(&hints, &report(disks)).unwrap_err().to_string();
    let line = |name: &str| told.lines().find(|l| l.trim_start().starts_with(name)).unwrap().to_owned();
    for (name, why) in [
        ("sda", "removable"),
        ("sdb", "read-only"),
        ("sdc", "in use"),
        ("sdd", "multipath): sde"),
        ("sde", "multipath): sdd"),
        ("sdf", "sdg has the same"),
        ("sdh", "neither serial nor WWN"),
        ("sdi", "smaller than 1GiB"),
    ] {
        assert!(line(name).contains(why), "{told}");
    }
}

#[test]
fn more_than_one_is_refused_with_what_each_is() {
    let seen = report(vec![disk("vda", Some("A")), disk("vdb", Some("B")), marked(MarkKind::ZfsMember)]);
    let mut seen = seen;
    seen.disks[2].name = "vdc".into();
    seen.disks[2].serial = Some("C".into());
    let told = choose_disk(&DiskHints::default(), &seen).unwrap_err().to_string();
    assert!(told.starts_with("2 disks match"), "{told}");
    assert_eq!(told.matches(": matches").count(), 2, "{told}");
    assert!(told.contains("member of a ZFS pool"), "{told}");
}

#[test]
fn a_wipe_takes_every_fixed_disk_or_stops() {
    let usb = Disk { removable: true, ..disk("sdz", None) };
    let none = DiskHints::default();
    let all = wipeable(&none, &report(vec![disk("vda", Some("A")), usb, disk("vdb", Some("B"))])).unwrap();
    assert_eq!(all.len(), 2);
    let error = wipeable(&none, &report(vec![disk("vda", Some("A")), disk("vdb", None)])).unwrap_err();
    assert!(error.contains("vdb"), "{error}");
    assert!(wipeable(&none, &report(vec![])).is_err());
    for kind in ALL {
        let seen = report(vec![marked(kind)]);
        assert_eq!(wipeable(&none, &seen).is_err(), kind.is_shared(), "{kind}");
        assert!(wipeable(&allowing(&[kind]), &seen).is_ok(), "{kind}");
    }
}
