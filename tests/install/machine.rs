//! A machine without hardware: the tree that the agent reads, and a file as its disk.

use provisioner_agent::{
    cmdline::Cmdline,
    log::Log,
    patience::Patience,
    place::{FileSystem, Mounts},
    run::{Ended, RunError, Settings, run},
};
use provisioner_wire::{BootId, channel::PrivateKey, report::DiskIdentity};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

pub const DISK_BYTES: usize = 16 << 20;
pub const SERIAL: &str = "lab-disk-1";

pub struct Machine {
    pub root: tempfile::TempDir,
    pub log: Arc<Log>,
    pub failures: Arc<Mutex<Vec<String>>>,
}

impl Machine {
    /// With one disk, `vda`, on which an old system would boot.
    pub fn new() -> Self {
        let machine =
            Self { root: tempfile::tempdir().unwrap(), log: Arc::default(), failures: Arc::default() };
        for (path, text) in [
            ("sys/block/vda/size", (DISK_BYTES / 512).to_string()),
            ("sys/block/vda/serial", SERIAL.into()),
            ("sys/block/vda/device/vendor", "0x1af4".into()),
            ("sys/block/vda/queue/logical_block_size", "512".into()),
            ("sys/block/vda/vda1/partition", "1".into()),
            ("sys/block/vda/vda1/start", "2048".into()),
            ("sys/block/vda/vda1/size", "2048".into()),
            ("sys/class/net/eth0/address", "52:54:00:12:34:56".into()),
            ("sys/class/net/eth0/carrier", "1".into()),
            ("sys/class/net/eth0/device/vendor", "x".into()),
            ("sys/class/dmi/id/product_uuid", "00112233-4455-6677-8899-AABBCCDDEEFF".into()),
            ("proc/meminfo", "MemTotal:        2048 kB\n".into()),
            ("proc/cpuinfo", "processor\t: 0\nmodel name\t: Test\n".into()),
        ] {
            machine.put(path, text.as_bytes());
        }
        machine.put("dev/vda", &disk_image(DISK_BYTES, 5));
        machine
    }

    pub fn put(&self, path: &str, contents: &[u8]) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().write_all(contents).unwrap();
    }

    pub fn disk(&self) -> Vec<u8> {
        fs::read(self.root.path().join("dev/vda")).unwrap()
    }

    pub fn identity() -> DiskIdentity {
        DiskIdentity { wwn: None, serial: Some(SERIAL.into()), size_bytes: DISK_BYTES as u64 }
    }

    pub fn mounted(&self) -> PathBuf {
        self.root.path().join("mounted")
    }

    pub fn run(&self, server: &str, server_key: &PrivateKey, boot_id: &BootId) -> Result<Ended, RunError> {
        self.run_with(server, server_key, boot_id, impatient())
    }

    pub fn run_with(
        &self,
        server: &str,
        server_key: &PrivateKey,
        boot_id: &BootId,
        patience: Patience,
    ) -> Result<Ended, RunError> {
        let line = format!(
            "provisioner.server={server} provisioner.boot={} provisioner.key={} BOOTIF=01-52-54-00-12-34-56",
            boot_id.reveal(),
            server_key.public()
        );
        let failures = Arc::clone(&self.failures);
        let settings = Settings {
            cmdline: Cmdline::parse(&line).unwrap(),
            root: self.root.path().to_owned(),
            patience,
            report_every: Duration::from_millis(50),
            mounts: Arc::new(Folder(self.mounted())),
            on_failure: Box::new(move |reason| failures.lock().unwrap().push(reason.to_owned())),
        };
        run(&settings, &self.log)
    }
}

/// So that a test of giving up takes a second, not an hour.
pub fn impatient() -> Patience {
    Patience {
        connect: Duration::from_secs(1),
        stall: Duration::from_millis(300),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
        give_up_after: Duration::from_millis(1500),
        whole_image: Duration::from_secs(60),
        wrong_answers: 4,
        settle: Duration::from_millis(1),
    }
}

/// A folder in place of a mounted file system.
struct Folder(PathBuf);

impl Mounts for Folder {
    fn mount(&self, _device: &Path, _file_system: FileSystem) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.0)?;
        Ok(self.0.clone())
    }

    fn unmount(&self, _at: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// A disk with GPT, boot signature, one ext4-looking partition, data that differs by `seed`, and holes.
pub fn disk_image(bytes: usize, seed: u32) -> Vec<u8> {
    let mut device = io::Cursor::new(vec![0; bytes]);
    let lbas = u32::try_from(bytes / 512 - 1).unwrap();
    gpt::mbr::ProtectiveMBR::with_lb_size(lbas).overwrite_lba0(&mut device).unwrap();
    let mut disk = gpt::GptConfig::new().writable(true).create_from_device(device, None).unwrap();
    disk.add_partition("root", 1 << 20, gpt::partition_types::LINUX_FS, 0, Some(2048)).unwrap();
    let mut image = disk.write().unwrap().into_inner();
    let mut state = seed | 1;
    for byte in &mut image[(1 << 20) + 2048..bytes / 2] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    image[(1 << 20) + 0x438..(1 << 20) + 0x43a].copy_from_slice(&[0x53, 0xef]);
    image[(1 << 20) + 0x478..(1 << 20) + 0x488].fill(0);
    image[(1 << 20) + 0x478..(1 << 20) + 0x47c].copy_from_slice(b"root");
    image
}

/// What a firmware could find: a boot signature, or a table at either end.
pub fn could_boot(disk: &[u8]) -> bool {
    let marks = |at: usize| disk[at..].starts_with(b"EFI PART");
    disk[510..512] == [0x55, 0xaa] || marks(512) || marks(4096) || marks(disk.len() - 512)
}
