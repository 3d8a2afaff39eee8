//! libvirtd without systemd, inside the lab's namespaces, for the BMC emulator to drive. Its state is in the private
//! mounts of [`crate::namespace`], so that it never meets the host's.

use crate::{
    accelerator::Accelerator,
    assets,
    process::{self, Daemon},
    vm,
};
use anyhow::{Context, Result};
use provisioner_wire::{Mac, report::Firmware};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use uuid::Uuid;

/// Read by libvirtd from /etc/libvirt only. There is no AppArmor, cgroup delegation, virtlogd here.
const QEMU_CONF: &str = r#"security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"#;
const LIBVIRTD_CONF: &str = r#"listen_tls = 0
listen_tcp = 0
unix_sock_dir = "/run/libvirt"
auth_unix_ro = "none"
auth_unix_rw = "none"
"#;
/// Where its clients find it.
pub const URI: &str = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock";

/// A running libvirtd.
#[derive(Debug)]
pub struct Libvirt {
    daemon: Daemon,
    folder: PathBuf,
}

/// A machine that libvirt runs when its BMC says so.
#[derive(Debug, Clone)]
pub struct Domain {
    pub name: String,
    pub firmware: Firmware,
    pub uuid: Uuid,
    pub serial: String,
    pub mac: Mac,
    pub disk_bytes: u64,
    pub disk_serial: String,
    pub memory_mib: u32,
    pub cpus: u32,
}

impl Libvirt {
    /// Starts it; its files (disks, EFI variables, logs) go to `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        for part in ["disks", "pool", "logs"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("{}: cannot be made", part.display()))?;
        }
        fs::create_dir_all("/run/libvirt").context("/run/libvirt")?;
        fs::write("/etc/libvirt/qemu.conf", QEMU_CONF)
            .context("/etc/libvirt/qemu.conf (package libvirt-daemon-system)")?;
        let config = folder.join("libvirtd.conf");
        fs::write(&config, LIBVIRTD_CONF).with_context(|| config.display().to_string())?;
        let mut command = Command::new("libvirtd");
        command.arg("--config").arg(&config).arg("--pid-file").arg(folder.join("libvirtd.pid"));
        let mut daemon = Daemon::start("libvirtd", &mut command, &folder.join("logs/libvirtd.log"))?;
        daemon.wait_ready(Duration::from_secs(60), || virsh(["-q", "version"]).is_ok())?;
        let this = Self { daemon, folder: folder.to_owned() };
        this.define_pool()?;
        Ok(this)
    }

    pub fn log(&self) -> &Path {
        self.daemon.log()
    }

    /// sushy-tools keeps virtual media in a storage pool and will not start without one.
    fn define_pool(&self) -> Result<()> {
        let target = self.folder.join("pool").display().to_string();
        virsh(["-q", "pool-define-as", "default", "dir", "--target", &target])?;
        virsh(["-q", "pool-start", "default"])?;
        Ok(())
    }

    /// Makes `domain` known: off, with an empty disk.
    pub fn define(&self, domain: &Domain) -> Result<()> {
        vm::make_disk(&self.disk(&domain.name), domain.disk_bytes)?;
        let file = self.folder.join(format!("{}.xml", domain.name));
        fs::write(&file, self.xml(domain))
            .with_context(|| format!("{}: cannot be written", file.display()))?;
        virsh(["-q".as_ref(), "define".as_ref(), file.as_os_str()])?;
        Ok(())
    }

    /// The disk's file of the machine `name`.
    pub fn disk(&self, name: &str) -> PathBuf {
        self.folder.join(format!("disks/{name}.qcow2"))
    }

    /// What the machine `name` wrote to its serial port, over all its power-ons.
    pub fn serial_log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("logs/{name}.serial.log"))
    }

    fn xml(&self, domain: &Domain) -> String {
        let Domain { name, uuid, serial, mac, disk_serial, memory_mib, cpus, .. } = domain;
        let (kind, cpu) = match Accelerator::here() {
            Accelerator::Kvm => ("kvm", "host-passthrough"),
            Accelerator::Tcg => ("qemu", "maximum"),
        };
        let (loader, rom) = match assets::firmware(domain.firmware, &vm::Board::Pc) {
            // Without the ROM OVMF's own PXE runs, as on real boards.
            Some((code, variables)) => (
                format!(
                    "<loader readonly='yes' type='pflash'>{}</loader><nvram template='{}'>{}</nvram>",
                    code.display(),
                    variables.display(),
                    self.folder.join(format!("disks/{name}.vars")).display()
                ),
                "<rom enabled='no'/>",
            ),
            None => (String::new(), ""),
        };
        let disk = self.disk(name);
        let (disk, log) = (disk.display(), self.serial_log(name));
        let log = log.display();
        let bridge = crate::namespace::BRIDGE;
        format!(
            "<domain type='{kind}'><name>{name}</name><uuid>{uuid}</uuid>
<memory unit='MiB'>{memory_mib}</memory><vcpu>{cpus}</vcpu>
<sysinfo type='smbios'><system><entry name='manufacturer'>Lab</entry><entry name='product'>LabVM</entry>
<entry name='serial'>{serial}</entry></system></sysinfo>
<os><type arch='x86_64' machine='q35'>hvm</type>{loader}<boot dev='network'/><boot dev='hd'/>
<bios useserial='yes'/><smbios mode='sysinfo'/></os>
<features><acpi/><apic/></features><cpu mode='{cpu}'/>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>restart</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe' discard='unmap'/>
<source file='{disk}'/><target dev='vda' bus='virtio'/><serial>{disk_serial}</serial></disk>
<interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/><model type='virtio'/>{rom}</interface>
<serial type='file'><source path='{log}' append='on'/><target port='0'/></serial>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<controller type='sata' index='0'/></devices></domain>\n"
        )
    }
}

fn virsh<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new("virsh");
    command.arg("-c").arg(URI).args(arguments);
    process::output(&mut command)
}
