//! One QEMU machine on the lab's bridge, started by hand: for faults that a BMC cannot make (a power cut at this very
//! moment) and for booting one disk with nothing around it.

use crate::{
    accelerator::Accelerator,
    assets, namespace, process,
    process::{Daemon, until},
    qmp, serial,
};
use anyhow::{Context, Result, bail};
use provisioner_wire::{Mac, report::Firmware};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Which device the firmware tries first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootOrder {
    Network,
    /// An empty disk falls through to the network.
    Disk,
}

/// What the machine is, beside its firmware's kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Board {
    /// A PC without Secure Boot.
    #[default]
    Pc,
    /// A PC whose UEFI enforces Secure Boot with the keys in this variable store.
    SecureBoot { variables: PathBuf },
    /// An arm64 server, UEFI without Secure Boot.
    Arm64,
}

/// By what UEFI boots from the network; BIOS knows PXE only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Netboot {
    #[default]
    Pxe,
    /// HTTP Boot, and HTTPS where the firmware knows an authority.
    Http,
}

/// What a machine is made of. Identity follows from the name where [`VmSpec::new`] makes it.
#[derive(Debug, Clone)]
pub struct VmSpec {
    pub name: String,
    pub firmware: Firmware,
    pub uuid: Uuid,
    pub serial: String,
    pub mac: Mac,
    /// The disk's file: `.raw` is raw, any other qcow2. Made empty where it is not there.
    pub disk: PathBuf,
    pub disk_bytes: u64,
    pub disk_serial: String,
    /// An NVMe drive in place of a virtio disk.
    pub nvme: bool,
    /// A slow disk, in bytes a second: time for a fault while it is written. 0: as fast as it goes.
    pub disk_write_rate: u64,
    pub boot: BootOrder,
    pub board: Board,
    pub netboot: Netboot,
    /// An EFI signature list of the authorities that UEFI's HTTPS trusts.
    pub authorities: Option<PathBuf>,
    /// Names and texts for QEMU's fw_cfg: `opt/org.tianocore/IPv4PXESupport`, `no`.
    pub fw_cfg: Vec<(&'static str, &'static str)>,
    /// No NIC at all: for booting a disk outside any namespace.
    pub network: bool,
    pub memory_mib: u32,
    pub cpus: u32,
    /// Logs, sockets, EFI variables. Made where it is not there.
    pub folder: PathBuf,
}

impl VmSpec {
    /// An empty 4 GiB machine `name` whose files are in `folder`; UUID and MAC follow from the name.
    pub fn new(name: &str, firmware: Firmware, folder: &Path) -> Self {
        let folder = folder.join(name);
        Self {
            name: name.to_owned(),
            firmware,
            uuid: uuid_of(name),
            serial: format!("SN-{name}"),
            mac: mac_of(name),
            disk: folder.join("disk.qcow2"),
            disk_bytes: 4 << 30,
            disk_serial: disk_serial_of(name),
            disk_write_rate: 0,
            nvme: false,
            boot: BootOrder::Network,
            board: Board::default(),
            netboot: Netboot::default(),
            authorities: None,
            fw_cfg: Vec::new(),
            network: true,
            memory_mib: 1024,
            cpus: 1,
            folder,
        }
    }
}

/// 64 stable bits of a name (FNV-1a): a machine keeps its identity over runs.
fn hash_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A UUID that belongs to a lab machine's name.
pub fn uuid_of(name: &str) -> Uuid {
    let half = hash_of(name);
    uuid::Builder::from_random_bytes(
        ((u128::from(half) << 64) | u128::from(hash_of(&format!("{name}/low")))).to_be_bytes(),
    )
    .into_uuid()
}

/// A MAC that belongs to a lab machine's name, in QEMU's range.
pub fn mac_of(name: &str) -> Mac {
    let [a, b, c, ..] = hash_of(name).to_be_bytes();
    Mac([0x52, 0x54, 0x00, a, b, c])
}

/// At most 20 characters: virtio-blk cuts what is longer.
pub fn disk_serial_of(name: &str) -> String {
    format!("D-{:016x}", hash_of(name))
}

/// A running machine. Dropped: its power is cut.
#[derive(Debug)]
pub struct Vm {
    spec: VmSpec,
    qemu: Daemon,
    started: Instant,
}

impl Vm {
    /// Powers the machine on. EFI variables and the disk are kept from an earlier start.
    pub fn start(spec: VmSpec) -> Result<Self> {
        fs::create_dir_all(&spec.folder)
            .with_context(|| format!("{}: cannot be made", spec.folder.display()))?;
        make_disk(&spec.disk, spec.disk_bytes)?;
        for old in ["serial.log", "firmware.log", "qmp.sock"] {
            let _ = fs::remove_file(spec.folder.join(old));
        }
        let mut command = command(&spec)?;
        let started = Instant::now();
        let log = spec.folder.join("qemu.log");
        let mut qemu = Daemon::start(&format!("QEMU {}", spec.name), &mut command, &log)?;
        let socket = spec.folder.join("qmp.sock");
        qemu.wait_ready(Duration::from_secs(30), || socket.exists())?;
        Ok(Self { spec, qemu, started })
    }

    pub fn spec(&self) -> &VmSpec {
        &self.spec
    }

    /// Since power-on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What it wrote to its serial port since power-on.
    pub fn serial(&self) -> Result<String> {
        serial::read(&self.spec.folder.join("serial.log"))
    }

    /// Waits until the serial log contains `marker`; time since power-on. An error, with the log's end, when the machine
    /// ends before or `limit` passes.
    pub fn wait_for(&mut self, marker: &str, limit: Duration) -> Result<Duration> {
        let found = until(limit, || {
            if self.serial()?.contains(marker) {
                return Ok(Some(self.started.elapsed()));
            }
            self.qemu.must_run()?;
            Ok(None)
        });
        match found {
            Ok(Some(after)) => Ok(after),
            Ok(None) => {
                bail!("{}: no {marker:?} in {} s; {}", self.spec.name, limit.as_secs(), self.log_tail()?)
            }
            Err(error) => {
                Err(error.context(format!("{}: no {marker:?}; {}", self.spec.name, self.log_tail()?)))
            }
        }
    }

    fn log_tail(&self) -> Result<String> {
        Ok(format!("{}:\n{}", self.spec.folder.join("serial.log").display(), process::tail(&self.serial()?)))
    }

    /// A QMP command, such as `system_reset`, `system_powerdown`, `query-status`.
    pub fn qmp(&self, command: &str, arguments: &Value) -> Result<Value> {
        qmp::execute(&self.spec.folder.join("qmp.sock"), command, arguments)
    }

    /// The reset button.
    pub fn reset(&self) -> Result<()> {
        self.qmp("system_reset", &Value::Null).map(|_| ())
    }

    /// Cuts the power: what was not flushed to the disk is lost.
    pub fn cut_power(mut self) -> Result<VmSpec> {
        self.qemu.kill()?;
        Ok(self.spec.clone())
    }

    /// Waits until the machine has powered itself off.
    pub fn wait_off(&mut self, limit: Duration) -> Result<()> {
        let ended = self.qemu.wait(limit)?;
        ended.map(|_| ()).with_context(|| format!("{}: still on after {} s", self.spec.name, limit.as_secs()))
    }
}

/// An empty disk of `bytes` at `file` where there is none.
pub fn make_disk(file: &Path, bytes: u64) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    let size = bytes.to_string();
    process::run(
        "qemu-img",
        [
            "create".as_ref(),
            "-q".as_ref(),
            "-f".as_ref(),
            format_of(file).as_ref(),
            file.as_os_str(),
            size.as_ref(),
        ],
    )?;
    Ok(())
}

fn format_of(disk: &Path) -> &'static str {
    if disk.extension().is_some_and(|e| e == "raw") { "raw" } else { "qcow2" }
}

fn command(spec: &VmSpec) -> Result<Command> {
    let at = |name: &str| spec.folder.join(name).display().to_string();
    let arm64 = spec.board == Board::Arm64;
    let mut qemu = Command::new(if arm64 { "qemu-system-aarch64" } else { "qemu-system-x86_64" });
    qemu.args(["-name", &spec.name, "-nodefaults", "-no-user-config", "-display", "none"]);
    if arm64 {
        // On a PC this is always emulated; a plain core, for each extension costs time.
        qemu.args(["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "cortex-a72"]);
    } else {
        qemu.args(Accelerator::here().arguments());
    }
    qemu.args(["-m", &spec.memory_mib.to_string(), "-smp", &spec.cpus.to_string()]);
    qemu.args(["-uuid", &spec.uuid.to_string(), "-smbios"]);
    qemu.arg(format!("type=1,manufacturer=Lab,product=LabVM,serial={},uuid={}", spec.serial, spec.uuid));
    qemu.arg("-serial").arg(format!("file:{}", at("serial.log")));
    qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", at("qmp.sock")));
    if !arm64 {
        qemu.arg("-chardev").arg(format!("file,path={},id=firmware", at("firmware.log")));
        qemu.args(["-device", "isa-debugcon,iobase=0x402,chardev=firmware"]);
    }
    // Newer OVMF does no network boot without a source of random numbers.
    qemu.args(["-device", "virtio-rng-pci"]);
    for (name, text) in &spec.fw_cfg {
        qemu.arg("-fw_cfg").arg(format!("name={name},string={text}"));
    }
    add_firmware(&mut qemu, spec)?;
    add_disk(&mut qemu, spec);
    if spec.network {
        add_nic(&mut qemu, spec)?;
    }
    Ok(qemu)
}

fn add_firmware(qemu: &mut Command, spec: &VmSpec) -> Result<()> {
    let Some((code, variables)) = assets::firmware(spec.firmware, &spec.board) else {
        // graphics=off puts SeaBIOS, and so iPXE, on the serial port.
        qemu.args(["-machine", "q35,graphics=off"]);
        return Ok(());
    };
    let own = spec.folder.join("efi-variables.fd");
    if !own.exists() {
        fs::copy(variables, &own)
            .with_context(|| format!("{} (packages ovmf, qemu-efi-aarch64)", variables.display()))?;
    }
    match spec.board {
        Board::Pc => qemu.args(["-machine", "q35"]),
        // System management mode keeps the variables from everybody but the firmware; S3 would be a way round it.
        Board::SecureBoot { .. } => qemu
            .args(["-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"])
            .args(["-global", "ICH9-LPC.disable_s3=1"]),
        Board::Arm64 => qemu.args(["-machine", "virt"]),
    };
    qemu.arg("-drive").arg(format!("if=pflash,unit=0,format=raw,readonly=on,file={}", code.display()));
    qemu.arg("-drive").arg(format!("if=pflash,unit=1,format=raw,file={}", own.display()));
    if spec.netboot == Netboot::Http {
        for protocol in ["IPv4PXESupport", "IPv6PXESupport"] {
            qemu.args(["-fw_cfg", &format!("name=opt/org.tianocore/{protocol},string=no")]);
        }
    }
    if let Some(list) = &spec.authorities {
        qemu.args(["-fw_cfg", &format!("name=etc/edk2/https/cacerts,file={}", list.display())]);
    }
    Ok(())
}

fn add_disk(qemu: &mut Command, spec: &VmSpec) {
    let index = if spec.boot == BootOrder::Disk { 1 } else { 2 };
    // unsafe leaves out the host's fsync only: a qcow2 whose QEMU is killed still loses what the guest had not flushed.
    qemu.arg("-drive").arg(format!(
        "if=none,id=d0,file={},format={},cache=unsafe,discard=unmap,detect-zeroes=unmap,throttling.bps-write={}",
        spec.disk.display(),
        format_of(&spec.disk),
        spec.disk_write_rate
    ));
    let device = if spec.nvme { "nvme" } else { "virtio-blk-pci" };
    qemu.arg("-device").arg(format!("{device},drive=d0,bootindex={index},serial={}", spec.disk_serial));
}

fn add_nic(qemu: &mut Command, spec: &VmSpec) -> Result<()> {
    let script = namespace::tap_script(&spec.folder)?;
    let index = if spec.boot == BootOrder::Disk { 2 } else { 1 };
    // UEFI without the option ROM: OVMF's own PXE runs, as on real boards. SeaBIOS has none: QEMU's iPXE ROM it is.
    let rom = if spec.firmware == Firmware::Uefi { ",romfile=" } else { "" };
    qemu.arg("-netdev").arg(format!("tap,id=n0,script={},downscript=no", script.display()));
    qemu.arg("-device").arg(format!("virtio-net-pci,netdev=n0,mac={},bootindex={index}{rom}", spec.mac));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_follows_from_the_name() {
        assert_eq!(uuid_of("a"), uuid_of("a"));
        assert_ne!(uuid_of("a"), uuid_of("b"));
        assert_ne!(mac_of("node-1"), mac_of("node-2"));
        assert!(mac_of("node-1").is_unicast());
        assert!(disk_serial_of("a-very-long-machine-name-indeed").len() <= 20);
    }

    #[test]
    fn the_boot_order_is_what_was_asked() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = VmSpec::new("x", Firmware::Bios, folder.path());
        fs::create_dir_all(&spec.folder).unwrap();
        let shown = |spec: &VmSpec| process::words(&command(spec).unwrap());
        assert!(shown(&spec).contains("drive=d0,bootindex=2"));
        spec.boot = BootOrder::Disk;
        assert!(shown(&spec).contains("drive=d0,bootindex=1"));
        spec.network = false;
        assert!(!shown(&spec).contains("virtio-net"));
    }
}
