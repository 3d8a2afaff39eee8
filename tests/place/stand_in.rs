//! A disk image with partitions and file systems of the real tools, each partition behind a loop device, in a tree that
//! the agent takes for a machine's.

use provisioner_agent::{
    log::Log,
    place::{FileSystem, Mounts, place},
};
use provisioner_lab::process::run;
use provisioner_wire::{
    order::{Config, Place},
    report::Disk,
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fs {
    /// This kernel may not know it: files go in and out by mtools.
    Fat,
    Ext4,
    Xfs,
    Btrfs,
    /// Nothing is on it.
    None,
}

/// One partition to be made.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    number: u32,
    name: &'static str,
    label: &'static str,
    fs: Fs,
    mib: u64,
}

/// Number, name in the table, label of the file system, the file system, MiB.
pub fn part(number: u32, name: &'static str, label: &'static str, fs: Fs, mib: u64) -> Part {
    Part { number, name, label, fs, mib }
}

#[derive(Debug)]
pub struct Found {
    pub contents: String,
    pub mode: u32,
    pub owner: (u32, u32),
}

pub struct StandIn {
    root: tempfile::TempDir,
    parts: Vec<Part>,
    loops: Vec<(u32, String)>,
}

impl StandIn {
    pub fn new(parts: &[Part]) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        let disk = root.path().join("dev/vda");
        // Room for a new partition behind the last one.
        let mib = parts.iter().map(|p| p.mib).sum::<u64>() + 64;
        File::create(&disk).unwrap().set_len(mib << 20).unwrap();
        let mut made = Self { root, parts: parts.to_vec(), loops: Vec::new() };
        let shown = disk.display().to_string();
        for part in parts {
            let (number, name) = (part.number, part.name);
            run(
                "sgdisk",
                ["-n", &format!("{number}:0:+{}M", part.mib), "-c", &format!("{number}:{name}"), &shown],
            )
            .unwrap();
        }
        for part in parts {
            made.add(part);
        }
        made
    }

    fn disk(&self) -> PathBuf {
        self.root.path().join("dev/vda")
    }

    /// First byte and length, as sgdisk shows them.
    fn place_of(&self, number: u32) -> (u64, u64) {
        let shown =
            run("sgdisk", ["-i".into(), number.to_string(), self.disk().display().to_string()]).unwrap();
        let field = |name: &str| {
            let line = shown.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{shown}"));
            line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap()
        };
        let first = field("First sector:");
        (first * 512, (field("Last sector:") - first + 1) * 512)
    }

    fn add(&mut self, part: &Part) {
        let (start, length) = self.place_of(part.number);
        let device = self.attach(part.number, start, length);
        let label = part.label;
        let (tool, arguments): (_, &[&str]) = match part.fs {
            Fs::Fat => ("mkfs.vfat", &["-n", label]),
            Fs::Ext4 => ("mkfs.ext4", &["-q", "-F", "-L", label]),
            Fs::Xfs => ("mkfs.xfs", &["-q", "-f", "-L", label]),
            Fs::Btrfs => ("mkfs.btrfs", &["-q", "-f", "-L", label]),
            Fs::None => return,
        };
        run(tool, arguments.iter().copied().chain([device.as_str()])).unwrap();
    }

    /// Behind a loop device, and in the tree as the kernel would show it.
    fn attach(&mut self, number: u32, start: u64, length: u64) -> String {
        let (offset, limit) = (start.to_string(), length.to_string());
        let disk = self.disk().display().to_string();
        let shown =
            run("losetup", ["--find", "--show", "-o", &offset, "--sizelimit", &limit, &disk]).unwrap();
        let device = shown.trim().to_owned();
        self.loops.push((number, device.clone()));
        let folder = self.root.path().join(format!("sys/block/vda/vda{number}"));
        fs::create_dir_all(&folder).unwrap();
        for (file, value) in
            [("partition", u64::from(number)), ("start", start / 512), ("size", length / 512)]
        {
            fs::write(folder.join(file), value.to_string()).unwrap();
        }
        symlink(&device, self.root.path().join(format!("dev/vda{number}"))).unwrap();
        device
    }

    fn device(&self, number: u32) -> &str {
        &self.loops.iter().find(|(n, _)| *n == number).unwrap().1
    }

    pub fn fs(&self, number: u32) -> Fs {
        self.parts.iter().find(|p| p.number == number).unwrap().fs
    }

    /// As the agent does it.
    pub fn place(&self, wanted: &Place, config: &Config) -> Result<(), String> {
        let size_bytes = fs::metadata(self.disk()).unwrap().len();
        let disk = Disk { name: "vda".into(), size_bytes, logical_sector_bytes: 512, ..Disk::default() };
        let mounts = Loops { at: self.root.path().join("mounted") };
        let log = Log::default();
        place(self.root.path(), &disk, wanted, config, &mounts, &log).map_err(|e| e.to_string())?;
        for (_, device) in &self.loops {
            run("blockdev", ["--flushbufs", device]).unwrap();
        }
        Ok(())
    }

    /// What the file system on the disk has at `path`, by tools that are not the agent's.
    pub fn read(&self, number: u32, path: &str) -> Found {
        if self.fs(number) == Fs::Fat {
            let contents = run("mtype", ["-i", self.device(number), &format!("::{path}")]).unwrap();
            return Found { contents, mode: 0, owner: (0, 0) };
        }
        let at = self.root.path().join("looked-at");
        fs::create_dir_all(&at).unwrap();
        let shown = at.display().to_string();
        run("mount", ["-o", "ro", self.device(number), &shown]).unwrap();
        let file = at.join(path.trim_start_matches('/'));
        let found = fs::read_to_string(&file).and_then(|contents| {
            let about = fs::metadata(&file)?;
            Ok(Found { contents, mode: about.mode(), owner: (about.uid(), about.gid()) })
        });
        run("umount", [&shown]).unwrap();
        found.unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A file in the root of a partition that was not there before, by mtools and from the table that sgdisk reads.
    pub fn read_new(&self, number: u32, label: &str, file: &str) -> String {
        let (start, _) = self.place_of(number);
        let image = format!("{}@@{start}", self.disk().display());
        let shown = run("mlabel", ["-s", "-i", &image, "::"]).unwrap();
        assert!(shown.to_lowercase().contains(&label.to_lowercase()), "{shown}");
        run("mtype", ["-i", &image, &format!("::{file}")]).unwrap()
    }

    /// Label and type, as udev would tell them to the installed system.
    pub fn blkid(&self, number: u32) -> String {
        let (start, length) = self.place_of(number);
        let disk = self.disk().display().to_string();
        let offset = start.to_string();
        let value = |tag: &str| {
            let size = length.to_string();
            let shown = ["-p", "-O", &offset, "-S", &size, "-s", tag, "-o", "value", &disk];
            run("blkid", shown).unwrap().trim().to_owned()
        };
        format!("{} {}", value("LABEL"), value("TYPE"))
    }

    pub fn check_table(&self) {
        let shown = run("sgdisk", ["-v", &self.disk().display().to_string()]).unwrap();
        assert!(shown.contains("No problems found"), "{shown}");
    }

    /// Every file system is as whole as its own checker wants it.
    pub fn check_file_systems(&self) {
        self.check_table();
        for part in &self.parts {
            let device = self.device(part.number);
            match part.fs {
                Fs::Fat => drop(run("fsck.fat", ["-n", device]).unwrap()),
                Fs::Ext4 => drop(run("e2fsck", ["-f", "-n", device]).unwrap()),
                Fs::Xfs => drop(run("xfs_repair", ["-n", device]).unwrap()),
                Fs::Btrfs => drop(run("btrfs", ["check", "--readonly", device]).unwrap()),
                Fs::None => {}
            }
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        for (_, device) in &self.loops {
            let _ = run("losetup", ["-d", device]);
        }
    }
}

/// The kernel's own mounts; FAT by a folder that mtools fills and empties.
struct Loops {
    at: PathBuf,
}

impl Loops {
    fn fat(&self) -> PathBuf {
        self.at.with_extension("fat")
    }
}

impl Mounts for Loops {
    fn mount(&self, device: &Path, file_system: FileSystem) -> io::Result<PathBuf> {
        let shown = device.display().to_string();
        if file_system == FileSystem::Vfat {
            let folder = self.fat();
            fs::create_dir_all(folder.join("files"))?;
            fs::write(folder.join("device"), shown)?;
            return Ok(folder.join("files"));
        }
        fs::create_dir_all(&self.at)?;
        let at = self.at.display().to_string();
        run("mount", ["-t", file_system.kernel_name(), &shown, &at]).map_err(io::Error::other)?;
        Ok(self.at.clone())
    }

    fn unmount(&self, at: &Path) -> io::Result<()> {
        if at == self.at {
            return run("umount", [at]).map(|_| ()).map_err(io::Error::other);
        }
        let device = fs::read_to_string(self.fat().join("device"))?;
        let files = fs::read_dir(at)?.map(|entry| Ok(entry?.path().display().to_string()));
        let files = files.collect::<io::Result<Vec<_>>>()?;
        let arguments = ["-o", "-s", "-i", &device].map(str::to_owned).into_iter().chain(files);
        run("mcopy", arguments.chain(["::".to_owned()])).map_err(io::Error::other)?;
        fs::remove_dir_all(self.fat())
    }
}
