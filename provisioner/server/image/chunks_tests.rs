//! Images taken apart and put together again; and everything that must leave no manifest.

use super::*;
use crate::image::chunk_files::{files, folders};

const MIB: usize = 1 << 20;

/// Data that does not repeat, a hole in the middle, an odd end.
fn disk(seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..2 * MIB).map(|_| noise()).collect();
    bytes.resize(5 * MIB, 0);
    bytes.extend((0..MIB + 777).map(|_| noise()));
    bytes
}

fn sha(bytes: &[u8]) -> String {
    Sha::of(bytes).to_string()
}

/// What is declared beside the format.
#[derive(Default)]
struct Says<'a> {
    sha256: Option<&'a str>,
    raw_sha256: Option<&'a str>,
    raw_bytes: Option<u64>,
}

struct Site {
    folder: tempfile::TempDir,
    store: ChunkStore,
}

impl Site {
    fn new() -> Self {
        Self::within(Bounds::default())
    }

    fn within(bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ChunkStore::open(folder.path(), bounds).unwrap();
        Self { folder, store }
    }

    fn take_in(&self, bytes: &[u8], format: ImageFormat) -> Result<Sha, TakeInError> {
        self.take_in_as(bytes, format, &Says::default())
    }

    fn take_in_as(&self, bytes: &[u8], format: ImageFormat, says: &Says<'_>) -> Result<Sha, TakeInError> {
        let path = self.folder.path().join("image");
        fs::write(&path, bytes).unwrap();
        let real = sha(bytes);
        let sha256 = says.sha256.unwrap_or(&real);
        let whole = Whole {
            path: &path,
            format,
            sha256,
            raw_sha256: says.raw_sha256,
            raw_bytes: says.raw_bytes,
            file_bytes: bytes.len() as u64,
        };
        self.store.take_in_whole(&whole, &AtomicU64::new(0))
    }

    /// As an agent would.
    fn put_together(&self, root: &Sha) -> Vec<u8> {
        let manifest = self.store.manifest(root).unwrap();
        let mut disk = vec![0; usize::try_from(manifest.raw_bytes).unwrap()];
        for (number, chunk) in manifest.chunks.iter().enumerate() {
            let Some(chunk) = chunk else { continue };
            let packed = fs::read(self.store.chunk_file(&chunk.packed)).unwrap();
            assert_eq!((Sha::of(&packed), packed.len()), (chunk.packed, chunk.packed_bytes as usize));
            let (at, length) = manifest.place(number);
            let raw = zstd::bulk::decompress(&packed, length).unwrap();
            assert_eq!((Sha::of(&raw), raw.len()), (chunk.raw, length));
            disk[usize::try_from(at).unwrap()..][..length].copy_from_slice(&raw);
        }
        disk
    }

    fn chunks(&self) -> usize {
        folders(&self.store.chunks).unwrap().iter().map(|f| files(f).unwrap().len()).sum()
    }
}

#[test]
fn an_image_comes_back_from_its_chunks_in_every_format() {
    let (site, disk) = (Site::new(), disk(1));
    let root = site.take_in(&disk, ImageFormat::Raw).unwrap();
    assert!(site.put_together(&root) == disk);
    assert_eq!(site.chunks(), 4, "holes have no chunks");
    let packed = zstd::encode_all(disk.as_slice(), 1).unwrap();
    assert_eq!(site.take_in(&packed, ImageFormat::Zst).unwrap(), root, "the same disk, the same root");
    assert_eq!(site.store.root_of(&sha(&packed), ImageFormat::Zst), Some(root));
    assert_eq!(site.store.root_of(&sha(&packed), ImageFormat::Raw), None);
    let right = sha(&disk);
    let says = Says { raw_sha256: Some(&right), raw_bytes: Some(6 * (MIB as u64) + 777), ..Says::default() };
    site.take_in_as(&disk, ImageFormat::Raw, &says).unwrap();
}

#[test]
fn what_two_images_share_is_there_once_and_goes_with_the_last_of_them() {
    let site = Site::new();
    let (first, mut second) = (disk(1), disk(1));
    second[0] ^= 1;
    let (one, two) =
        (site.take_in(&first, ImageFormat::Raw).unwrap(), site.take_in(&second, ImageFormat::Raw).unwrap());
    assert_eq!(site.chunks(), 5);
    let gone = site.store.collect(&site.store.alone().unwrap(), false, |root| *root == two).unwrap();
    assert_eq!((gone.manifests, gone.chunks), (1, 1));
    assert!(gone.bytes > 900_000);
    assert!(site.put_together(&two) == second);
    assert_eq!(site.store.root_of(&sha(&first), ImageFormat::Raw), None, "{one} is gone");
    site.store.collect(&site.store.alone().unwrap(), false, |_| false).unwrap();
    assert_eq!(site.chunks(), 0);
}

#[test]
fn nothing_that_was_not_whole_and_as_declared_has_a_manifest() {
    let (site, disk) = (Site::new(), disk(3));
    let packed = zstd::encode_all(disk.as_slice(), 1).unwrap();
    let (wrong, right) = ("0".repeat(64), sha(&disk));
    let says = Says::default();
    let cases = [
        ("changed while it was read", &disk[..], ImageFormat::Raw, Says { sha256: Some(&wrong), ..says }),
        ("stream is damaged", &packed[..packed.len() - 3], ImageFormat::Zst, Says::default()),
        ("stream is damaged", &packed, ImageFormat::Gz, Says::default()),
        ("declared is 000", &disk, ImageFormat::Raw, Says { raw_sha256: Some(&wrong), ..Says::default() }),
        (
            "more than the 1048576 bytes that its raw_size declares",
            &packed,
            ImageFormat::Zst,
            Says { raw_bytes: Some(MIB as u64), ..Says::default() },
        ),
        ("are 9000000", &packed, ImageFormat::Zst, Says { raw_bytes: Some(9_000_000), ..Says::default() }),
    ];
    for (expected, bytes, format, says) in cases {
        let error = site.take_in_as(bytes, format, &says).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(files(&site.store.manifests).unwrap(), Vec::<PathBuf>::new());
    assert!(site.chunks() > 0, "chunks of what failed lie about");
    // The next start clears them away.
    let again = ChunkStore::open(site.folder.path(), Bounds::default()).unwrap();
    assert_eq!(site.chunks(), 0);
    assert_eq!(again.root_of(&right, ImageFormat::Raw), None);
}

#[test]
fn a_manifest_whose_bytes_were_changed_is_none() {
    let (site, disk) = (Site::new(), disk(4));
    let root = site.take_in(&disk, ImageFormat::Raw).unwrap();
    let file = site.store.manifest_file(&root);
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(site.store.manifest(&root).is_err());
    drop(ChunkStore::open(site.folder.path(), Bounds::default()).unwrap());
    assert!(!file.exists() && site.store.root_of(&sha(&disk), ImageFormat::Raw).is_none());
}

#[test]
fn a_full_disk_is_an_error_and_no_hang() {
    let (site, disk) = (Site::new(), disk(5));
    fs::remove_dir_all(&site.store.chunks).unwrap();
    fs::write(&site.store.chunks, "no folder").unwrap();
    let error = site.take_in(&disk.repeat(8), ImageFormat::Raw).unwrap_err();
    assert!(matches!(error, TakeInError::Io { .. }), "{error}");
}

/// What `qemu-img create` makes of an empty disk of so many bytes: a header and an L1 table without entries.
fn empty_qcow2(bytes: u64) -> Vec<u8> {
    let clusters = bytes.div_ceil(1 << 16).div_ceil(1 << 13).max(1);
    let mut file = vec![0; 4 << 16];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &2_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &bytes.to_be_bytes());
    put(36, &u32::try_from(clusters).unwrap().to_be_bytes());
    put(40, &(3_u64 << 16).to_be_bytes());
    put(48, &(1_u64 << 16).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(1 << 16, &(2_u64 << 16).to_be_bytes());
    for cluster in 0..4 {
        put((2 << 16) + 2 * cluster, &1_u16.to_be_bytes());
    }
    file
}

#[test]
fn bombs_are_refused_and_sparse_images_are_not() {
    let mib = MIB as u64;
    let site = Site::within(Bounds { raw_max: 16 * mib, ordinary: 8 * mib });
    let zst = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let zeros = |count: u64| zst(&vec![0; usize::try_from(count * mib).unwrap()]);
    let declares = |count: u64| Says { raw_bytes: Some(count * mib), ..Says::default() };
    let take = |bytes: &[u8], says: &Says<'_>| site.take_in_as(bytes, ImageFormat::Zst, says);
    // Thousands of times its file, and honest.
    assert!(zeros(8).len() < 4096);
    take(&zeros(8), &Says::default()).unwrap();
    take(&zeros(16), &declares(16)).unwrap();
    // Larger than ordinary, but so is its file.
    let mut sparse = disk(3);
    sparse.resize(12 * MIB, 0);
    take(&zst(&sparse), &Says::default()).unwrap();
    for (bytes, says, expected) in [
        (zeros(9), Says::default(), "declare its raw_size"),
        (zeros(9), declares(8), "more than the 8388608 bytes that its raw_size declares"),
        (zeros(17), declares(17), "its raw_size is 17825792 bytes, more than images.raw_max (16777216)"),
        ([zst(&sparse), zeros(9)].concat(), Says::default(), "more than images.raw_max (16777216 bytes)"),
    ] {
        let error = take(&bytes, &says).unwrap_err();
        assert!(matches!(error, TakeInError::TooLarge(_)) && error.to_string().contains(expected), "{error}");
    }
    // What a header says needs no unpacking: four TiB are refused as fast.
    site.take_in(&empty_qcow2(8 * mib), ImageFormat::Qcow2).unwrap();
    for bytes in [17 * mib, 1 << 42] {
        let error = site.take_in(&empty_qcow2(bytes), ImageFormat::Qcow2).unwrap_err();
        assert!(matches!(error, TakeInError::TooLarge(_)), "{error}");
    }
}
