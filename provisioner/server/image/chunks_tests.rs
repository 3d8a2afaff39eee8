//! Images taken apart and put together again; and everything that must leave no manifest.

use super::*;

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
        let folder = tempfile::tempdir().unwrap();
        let store = ChunkStore::open(folder.path()).unwrap();
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
        let whole =
            Whole { path: &path, format, sha256, raw_sha256: says.raw_sha256, raw_bytes: says.raw_bytes };
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
            "than 1048576 bytes",
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
    let again = ChunkStore::open(site.folder.path()).unwrap();
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
    drop(ChunkStore::open(site.folder.path()).unwrap());
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
