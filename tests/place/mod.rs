//! Disks laid out as each operating system's image lays out its own, with file systems that the real tools made, mounted
//! by this kernel: the agent's own code places a config, and the tools find it where that system reads it. No image of
//! these systems is to be had here, so nothing boots; docs/delivery.md says what that proves.

mod stand_in;

use provisioner_wire::order::{Config, ConfigFile, PartitionSelector, Place};
use stand_in::{Fs, Part, StandIn, part};

const SECRET: &str = "#!config\ntoken: abcdef.0123456789abcdef\n";

fn config(names: &[&str]) -> Config {
    let file = |name: &&str| ConfigFile {
        name: (*name).into(),
        contents: format!("{SECRET}# {name}\n"),
        mode: 0o600,
    };
    Config { files: names.iter().map(file).collect() }
}

fn at(partition: PartitionSelector, directory: &str) -> Place {
    Place { partition, directory: directory.into() }
}

fn label(text: &str) -> PartitionSelector {
    PartitionSelector::Label(text.into())
}

/// Places `names` and reads each back from partition `number`.
fn lands(parts: &[Part], place: &Place, names: &[&str], number: u32) {
    let disk = StandIn::new(parts);
    for round in ["first", "again"] {
        disk.place(place, &config(names)).unwrap();
        for name in names {
            let path = format!("{}/{name}", place.directory.trim_end_matches('/'));
            let found = disk.read(number, &path);
            assert_eq!(found.contents, format!("{SECRET}# {name}\n"), "{round}: {path}");
            // FAT keeps neither.
            if disk.fs(number) != Fs::Fat {
                assert_eq!((found.mode & 0o7777, found.owner), (0o600, (0, 0)), "{round}: {path}");
            }
        }
    }
    disk.check_file_systems();
}

#[test]
#[ignore = "needs root and loop devices: run by `cargo xtask test`"]
fn vm_flatcar_reads_config_ign_on_its_oem_partition() {
    for oem in [Fs::Btrfs, Fs::Ext4] {
        let parts = [
            part(1, "EFI-SYSTEM", "EFI-SYSTEM", Fs::Fat, 40),
            part(3, "USR-A", "USR-A", Fs::Ext4, 16),
            part(6, "OEM", "OEM", oem, 128),
            part(9, "ROOT", "ROOT", Fs::Ext4, 16),
        ];
        lands(&parts, &at(label("OEM"), "/"), &["config.ign"], 6);
    }
}

#[test]
#[ignore = "needs root and loop devices: run by `cargo xtask test`"]
fn vm_fedora_coreos_reads_ignition_config_ign_on_its_boot_partition() {
    let parts = [
        part(1, "BIOS-BOOT", "", Fs::None, 1),
        part(2, "EFI-SYSTEM", "EFI-SYSTEM", Fs::Fat, 40),
        part(3, "boot", "boot", Fs::Ext4, 64),
        part(4, "root", "root", Fs::Xfs, 304),
    ];
    lands(&parts, &at(label("boot"), "/ignition"), &["config.ign"], 3);
}

#[test]
#[ignore = "needs root and loop devices: run by `cargo xtask test`"]
fn vm_bottlerocket_reads_two_files_on_its_private_partition() {
    let parts = [
        part(2, "EFI-SYSTEM", "EFI-SYSTEM", Fs::Fat, 40),
        part(3, "BOTTLEROCKET-BOOT-A", "", Fs::Ext4, 16),
        part(12, "BOTTLEROCKET-PRIVATE", "BOTTLEROCKET-P", Fs::Ext4, 24),
        part(13, "BOTTLEROCKET-DATA-A", "", Fs::None, 16),
    ];
    let place = at(PartitionSelector::PartLabel("BOTTLEROCKET-PRIVATE".into()), "/");
    lands(&parts, &place, &["user-data.toml", "net.toml"], 12);
}

#[test]
#[ignore = "needs root and loop devices: run by `cargo xtask test`"]
fn vm_talos_reads_config_yaml_on_a_volume_named_metal_iso_or_on_state() {
    let parts = [
        part(1, "EFI", "EFI", Fs::Fat, 40),
        part(3, "BOOT", "BOOT", Fs::Xfs, 304),
        part(4, "META", "", Fs::None, 1),
        part(5, "STATE", "STATE", Fs::Xfs, 304),
    ];
    lands(&parts, &at(PartitionSelector::PartLabel("STATE".into()), "/"), &["config.yaml"], 5);
    let disk = StandIn::new(&parts[..3]);
    let place = at(PartitionSelector::New("metal-iso".into()), "/");
    for _ in 0..2 {
        disk.place(&place, &config(&["config.yaml"])).unwrap();
        assert_eq!(disk.read_new(5, "metal-iso", "config.yaml"), format!("{SECRET}# config.yaml\n"));
    }
    assert_eq!(disk.blkid(5), "metal-iso vfat");
}

#[test]
#[ignore = "needs root and loop devices: run by `cargo xtask test`"]
fn vm_kairos_reads_yaml_on_its_oem_partition() {
    let parts = [
        part(1, "efi", "COS_GRUB", Fs::Fat, 40),
        part(2, "oem", "COS_OEM", Fs::Ext4, 64),
        part(3, "recovery", "COS_RECOVERY", Fs::Ext4, 16),
        part(5, "persistent", "COS_PERSISTENT", Fs::Ext4, 16),
    ];
    lands(&parts, &at(label("COS_OEM"), "/"), &["90_custom.yaml"], 2);
}

#[test]
#[ignore = "needs root and loop devices: run by `cargo xtask test`"]
fn vm_cloud_init_reads_a_seed_in_the_root_or_on_a_partition_of_its_own() {
    let files = ["user-data", "meta-data", "network-config"];
    let root = || part(1, "root", "cloudimg-rootfs", Fs::Ext4, 64);
    lands(&[root()], &at(label("cloudimg-rootfs"), "/var/lib/cloud/seed/nocloud"), &files, 1);
    // The image brings one; FAT writes labels in capitals.
    let brought = part(2, "seed", "CIDATA", Fs::Fat, 40);
    lands(&[root(), brought], &at(label("cidata"), "/"), &files, 2);
    let brought = part(2, "seed", "CIDATA", Fs::Fat, 40);
    lands(&[root(), brought], &at(PartitionSelector::New("CIDATA".into()), "/"), &files, 2);
    // It brings none.
    let disk = StandIn::new(&[root()]);
    disk.place(&at(PartitionSelector::New("CIDATA".into()), "/"), &config(&files)).unwrap();
    for file in files {
        assert_eq!(disk.read_new(2, "CIDATA", file), format!("{SECRET}# {file}\n"));
    }
    assert_eq!(disk.blkid(2), "CIDATA vfat");
    disk.check_table();
}

#[test]
#[ignore = "needs root and loop devices: run by `cargo xtask test`"]
fn vm_by_type_or_number_and_what_is_not_there() {
    let parts = [part(1, "a", "a", Fs::Ext4, 16), part(15, "b", "b", Fs::Xfs, 304)];
    lands(&parts, &at(PartitionSelector::Number(15), "/x/y"), &["f"], 15);
    let linux = uuid::Uuid::parse_str("0fc63daf-8483-4772-8e79-3d69d8477de4").unwrap();
    let disk = StandIn::new(&parts);
    let several = disk.place(&at(PartitionSelector::TypeGuid(linux), "/"), &config(&["f"])).unwrap_err();
    assert!(several.contains("more than one partition"), "{several}");
    let none = disk.place(&at(label("c"), "/"), &config(&["f"])).unwrap_err();
    assert!(none.contains("seen: ") && none.contains("label b"), "{none}");
}
