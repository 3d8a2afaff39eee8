//! PURE. The words that an operating system's own kernel must be given to install itself, as each one's documentation has
//! them. Values only: whether a word can stand in a boot script is checked where scripts are made.

use super::pointer::WHOLE;
use crate::inventory::OperatingSystem;
use provisioner_wire::report::Disk;

/// What the installer is told.
#[derive(Clone, Copy)]
pub struct Installer<'a> {
    /// `https://…/config/MACHINE/CAPABILITY`, without a slash at the end: a capability, never a token.
    pub base: &'a str,
    pub rootfs_url: Option<&'a str>,
    /// The disk of the licence.
    pub disk: &'a Disk,
}

impl std::fmt::Debug for Installer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Installer({})", self.disk.identity())
    }
}

/// `name=value` or a bare word, in the order in which they stand on the command line.
pub type Words = Vec<(&'static str, Option<String>)>;

/// The words for `os`; an error where it has no installer that is booted from the network, or lacks something for it.
pub fn words(os: OperatingSystem, installer: Installer<'_>) -> Result<Words, String> {
    let url = format!("{}/{WHOLE}", installer.base);
    let value = |name, value: &str| (name, Some(value.to_owned()));
    let rootfs = |name: &'static str, prefix: &str| {
        let url = installer.rootfs_url.ok_or_else(|| format!("{os:?} needs netboot.rootfs: an image"))?;
        Ok::<_, String>((name, Some(format!("{prefix}{url}"))))
    };
    Ok(match os {
        OperatingSystem::Talos => {
            // Its config names the disk, and only one that keeps its name may stand there.
            by_id(installer.disk)?;
            vec![value("talos.platform", "metal"), value("talos.config", &url)]
        }
        // Ignition runs where it finds `flatcar.first_boot`, and asks `ignition.config.url` where the image has no config.
        OperatingSystem::Flatcar => vec![
            value("flatcar.first_boot", "1"),
            value("ignition.platform.id", "metal"),
            value("ignition.config.url", &url),
        ],
        // coreos-installer runs where it finds `install_dev`; the installed system then runs Ignition at its first boot.
        OperatingSystem::FedoraCoreos => vec![
            rootfs("coreos.live.rootfs_url", "")?,
            ("ignition.firstboot", None),
            value("ignition.platform.id", "metal"),
            ("coreos.inst.install_dev", Some(by_id(installer.disk)?)),
            value("coreos.inst.ignition_url", &url),
        ],
        OperatingSystem::Kairos => {
            by_id(installer.disk)?;
            vec![
                rootfs("root", "live:")?,
                value("rd.neednet", "1"),
                value("ip", "dhcp"),
                ("rd.cos.disable", None),
                ("install-mode", None),
                value("config_url", &url),
            ]
        }
        // A live image whose cloud-init reads a seed by HTTP. `i=`: it need not ask again to know its instance.
        OperatingSystem::CloudInit => {
            vec![value("ds", &format!("nocloud;s={}/", installer.base))]
        }
        OperatingSystem::Bottlerocket => {
            return Err(
                "Bottlerocket has no installer that is booted from the network: use method: disk".into()
            );
        }
    })
}

/// The disk's name below `/dev/disk/by-id`, as udev's rules make it: the kernel's own names change between kernels.
pub(super) fn by_id(disk: &Disk) -> Result<String, String> {
    // udev leaves no other characters in a link's name.
    let kept = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    let clean = |text: &str| text.trim().replace(|c| !kept(c), "_");
    let wwn = disk.wwn.as_deref().map(clean);
    let name = match (disk.transport.as_deref(), wwn, &disk.serial) {
        (Some("nvme"), Some(wwn), _) => format!("nvme-{wwn}"),
        (Some("virtio"), _, Some(serial)) => format!("virtio-{}", clean(serial)),
        (Some("sata" | "sas" | "scsi" | "fc"), Some(wwn), _) => {
            format!("wwn-0x{}", wwn.trim_start_matches("naa.").trim_start_matches("0x"))
        }
        _ => {
            return Err(format!(
                "the disk {} has no name below /dev/disk/by-id that is known",
                disk.identity()
            ));
        }
    };
    Ok(format!("/dev/disk/by-id/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(os: OperatingSystem, disk: &Disk) -> Result<String, String> {
        let installer =
            Installer { base: "http://s/config/n/c", rootfs_url: Some("http://s/images/r"), disk };
        let words = words(os, installer)?;
        let text = words.into_iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.to_owned(),
        });
        Ok(text.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn each_operating_system_is_told_its_own_words() {
        let disk = Disk {
            wwn: Some("naa.5000c500a1b2c3d4".into()),
            transport: Some("sata".into()),
            ..Disk::default()
        };
        for (os, expected) in [
            (OperatingSystem::Talos, "talos.platform=metal talos.config=http://s/config/n/c/config"),
            (
                OperatingSystem::Flatcar,
                "flatcar.first_boot=1 ignition.platform.id=metal ignition.config.url=http://s/config/n/c/config",
            ),
            (
                OperatingSystem::FedoraCoreos,
                "coreos.live.rootfs_url=http://s/images/r ignition.firstboot ignition.platform.id=metal \
                 coreos.inst.install_dev=/dev/disk/by-id/wwn-0x5000c500a1b2c3d4 \
                 coreos.inst.ignition_url=http://s/config/n/c/config",
            ),
            (
                OperatingSystem::Kairos,
                "root=live:http://s/images/r rd.neednet=1 ip=dhcp rd.cos.disable install-mode \
                 config_url=http://s/config/n/c/config",
            ),
            (OperatingSystem::CloudInit, "ds=nocloud;s=http://s/config/n/c/"),
        ] {
            assert_eq!(line(os, &disk).unwrap(), expected);
        }
        assert!(line(OperatingSystem::Bottlerocket, &disk).unwrap_err().contains("method: disk"));
    }

    #[test]
    fn a_disk_is_named_as_udev_names_it_or_not_at_all() {
        let disk = |transport: &str, wwn: Option<&str>, serial: Option<&str>| Disk {
            transport: Some(transport.into()),
            wwn: wwn.map(str::to_owned),
            serial: serial.map(str::to_owned),
            ..Disk::default()
        };
        for (disk, expected) in [
            (disk("nvme", Some("eui.0025385b11b0a7a5"), Some("S4")), Some("nvme-eui.0025385b11b0a7a5")),
            (disk("virtio", None, Some("LAB DISK")), Some("virtio-LAB_DISK")),
            (disk("sas", Some("0x5000c5"), None), Some("wwn-0x5000c5")),
            (disk("sata", None, Some("S1")), None),
        ] {
            assert_eq!(by_id(&disk).ok(), expected.map(|name| format!("/dev/disk/by-id/{name}")));
        }
    }

    #[test]
    fn an_installer_is_let_at_no_disk_without_a_lasting_name() {
        let disk = |transport: &str, wwn: Option<&str>, serial: Option<&str>| Disk {
            transport: Some(transport.into()),
            wwn: wwn.map(str::to_owned),
            serial: serial.map(str::to_owned),
            ..Disk::default()
        };
        let virtio = disk("virtio", None, Some(" a/b \"c\n$(d)é "));
        assert_eq!(by_id(&virtio).unwrap(), "/dev/disk/by-id/virtio-a_b__c___d__");
        let nvme = disk("nvme", Some("eui.0025388b71b2c3d4"), Some("S"));
        assert_eq!(by_id(&nvme).unwrap(), "/dev/disk/by-id/nvme-eui.0025388b71b2c3d4");
        let nameless = disk("mmc", None, Some("S"));
        for os in [OperatingSystem::Talos, OperatingSystem::Kairos, OperatingSystem::FedoraCoreos] {
            assert!(line(os, &nvme).is_ok());
            assert!(line(os, &nameless).unwrap_err().contains("no name below /dev/disk/by-id"), "{os:?}");
        }
    }
}
