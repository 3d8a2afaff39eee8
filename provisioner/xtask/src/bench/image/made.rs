//! The image: Debian's, and generated data behind it, 4 GiB with about 1.2 GiB of data; raw, packed by gzip and zstd, and in
//! chunks as the server cuts them. Made once; the same bytes at every making.

use crate::{assets, console::say, project::Project};
use anyhow::{Context, Result, bail};
use provisioner_lab::process;
use provisioner_wire::chunks::{CHUNK_BYTES, Chunk, Manifest, Sha};
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

pub const RAW_BYTES: u64 = 4 << 30;
const DATA_BYTES: u64 = 1_200 << 20;
/// Generated data come in runs of this, with holes between them.
const RUN_BYTES: u64 = 24 << 20;
const PIECE: usize = 1 << 20;
/// As the server packs.
const LEVEL: i32 = 3;

#[derive(Debug)]
pub struct Image {
    /// With `image.raw`, `image.raw.gz`, `image.raw.zst`, `manifests/` and `chunks/`.
    pub folder: PathBuf,
    pub root: Sha,
    /// Bytes of chunks that are not holes.
    pub data_bytes: u64,
}

impl Image {
    pub fn make(project: &Project) -> Result<Self> {
        let folder = project.target.join("bench-image/image");
        let done = folder.join("root");
        if !done.exists() {
            let debian = project.assets().image(assets::Image::Debian.name());
            if !debian.exists() {
                bail!("{}: run `cargo xtask boot-assets` first", debian.display());
            }
            let _ = fs::remove_dir_all(&folder);
            for folder in [folder.join("chunks"), folder.join("manifests")] {
                fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            }
            say("making the image");
            let raw = folder.join("image.raw");
            fill(&raw, &debian)?;
            pack(&folder, &raw)?;
            let root = cut(&folder, &raw)?;
            fs::write(&done, root.to_string()).context("the root")?;
        }
        let text = fs::read_to_string(&done).context("the root")?;
        let root = Sha::from_hex(text.trim()).context("the root")?;
        let bytes = fs::read(folder.join(format!("manifests/{root}"))).context("the manifest")?;
        let manifest = Manifest::parse(&bytes).context("the manifest")?;
        let data_bytes = manifest.chunks.iter().flatten().count() as u64 * u64::from(CHUNK_BYTES);
        let image = Self { folder, root, data_bytes };
        image.keep_data(&manifest)?;
        Ok(image)
    }

    /// The data alone, in memory.
    pub fn data_file(&self) -> PathBuf {
        Path::new("/dev/shm").join("provisioner-bench-data.raw")
    }

    fn keep_data(&self, manifest: &Manifest) -> Result<()> {
        let raw = File::open(self.folder.join("image.raw")).context("image.raw")?;
        let data = File::create(self.data_file()).context("the data in memory")?;
        let (mut piece, mut to) = (vec![0; PIECE], 0);
        for (number, chunk) in manifest.chunks.iter().enumerate() {
            if chunk.is_some() {
                raw.read_exact_at(&mut piece, manifest.place(number).0).context("image.raw")?;
                data.write_all_at(&piece, to).context("the data in memory")?;
                to += PIECE as u64;
            }
        }
        Ok(())
    }

    /// The target holds the image, between the ends, byte by byte.
    pub fn is_on(&self, target: &Path) -> Result<()> {
        let raw = self.folder.join("image.raw");
        let bytes = (RAW_BYTES - (2 << 20)).to_string();
        let skip = (1_u64 << 20).to_string();
        process::run(
            "cmp",
            [
                "-n".as_ref(),
                bytes.as_ref(),
                "-i".as_ref(),
                skip.as_ref(),
                raw.as_os_str(),
                target.as_os_str(),
            ],
        )?;
        Ok(())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.data_file());
    }
}

/// Debian's disk, then generated runs until there is enough data.
fn fill(raw: &Path, debian: &Path) -> Result<()> {
    process::run(
        "zstd",
        ["-dqf".as_ref(), "--sparse".as_ref(), debian.as_os_str(), "-o".as_ref(), raw.as_os_str()],
    )?;
    let file = File::options().read(true).write(true).open(raw).with_context(|| raw.display().to_string())?;
    let begin = file.metadata().context("image.raw")?.len().next_multiple_of(RUN_BYTES);
    file.set_len(RAW_BYTES).context("image.raw")?;
    let mut data = data_bytes(&file, begin)?;
    let holes = (RAW_BYTES - begin).saturating_sub(DATA_BYTES.saturating_sub(data));
    let runs = DATA_BYTES.saturating_sub(data).div_ceil(RUN_BYTES).max(1);
    let hole = holes / runs / PIECE as u64 * PIECE as u64;
    let (mut at, mut state) = (begin, 1_u64);
    while data < DATA_BYTES && at + RUN_BYTES <= RAW_BYTES - (2 << 20) {
        for piece in 0..RUN_BYTES / PIECE as u64 {
            file.write_all_at(&generated(&mut state), at + piece * PIECE as u64).context("image.raw")?;
        }
        data += RUN_BYTES;
        at += RUN_BYTES + hole.min(RUN_BYTES * 2);
    }
    Ok(())
}

fn data_bytes(file: &File, end: u64) -> Result<u64> {
    let (mut piece, mut data) = (vec![0; PIECE], 0);
    for at in (0..end).step_by(PIECE) {
        let count = file.read_at(&mut piece, at).context("image.raw")?;
        if piece.iter().take(count).any(|byte| *byte != 0) {
            data += PIECE as u64;
        }
    }
    Ok(data)
}

/// Like programs and libraries: about two to one for a packer. Words of a small set, between random ones.
fn generated(state: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PIECE);
    while bytes.len() < PIECE {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let word = if *state & 1 == 0 { *state } else { 0x4800_0000_8b48_0000 | (*state >> 8) & 0x3f3f };
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn pack(folder: &Path, raw: &Path) -> Result<()> {
    for line in ["gzip -6 -c", "zstd -q -T0 -6 -c"] {
        let to = folder.join(if line.starts_with("gzip") { "image.raw.gz" } else { "image.raw.zst" });
        process::run("bash", ["-c", &format!("{line} {} > {}", raw.display(), to.display())])?;
    }
    Ok(())
}

fn cut(folder: &Path, raw: &Path) -> Result<Sha> {
    let mut file = File::open(raw).context("image.raw")?;
    let mut chunks = Vec::new();
    let mut piece = vec![0; PIECE];
    for _ in 0..RAW_BYTES / PIECE as u64 {
        file.read_exact(&mut piece).context("image.raw")?;
        if piece.iter().all(|byte| *byte == 0) {
            chunks.push(None);
            continue;
        }
        let bytes = zstd::bulk::compress(&piece, LEVEL).context("zstd")?;
        let (packed, packed_bytes) = (Sha::of(&bytes), u32::try_from(bytes.len()).context("a chunk's size")?);
        fs::write(folder.join(format!("chunks/{packed}")), bytes).context("a chunk")?;
        chunks.push(Some(Chunk { packed, packed_bytes, raw: Sha::of(&piece) }));
    }
    let manifest = Manifest { raw_bytes: RAW_BYTES, chunk_bytes: CHUNK_BYTES, chunks };
    let root = manifest.root();
    fs::write(folder.join(format!("manifests/{root}")), manifest.to_bytes()).context("the manifest")?;
    Ok(root)
}
