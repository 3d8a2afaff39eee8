//! What on a disk says that it, or a part of it, belongs to a set or to other machines too: super blocks at their known
//! places, and SCSI reservations. Offsets and magic numbers as util-linux' libblkid has them.

use crate::disk::reservation;
use provisioner_wire::report::{Mark, MarkKind};
use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

/// Marks of the disk and of its partitions; one of a kind a place.
pub(super) fn of_disk(dev: &Path, disk: &str, partitions: impl Iterator<Item = String>) -> Vec<Mark> {
    let mut marks = Vec::new();
    for name in std::iter::once(disk.to_owned()).chain(partitions) {
        let Ok(mut file) = File::open(dev.join(&name)) else { continue };
        let mut kinds = of_file(&mut file).unwrap_or_default();
        if name == disk && name.starts_with("sd") && reservation::is_registered(&file) {
            kinds.push(MarkKind::Reservation);
        }
        marks.extend(kinds.into_iter().map(|kind| Mark { kind, at: name.clone() }));
    }
    marks
}

/// Reads only the places that count.
fn of_file(file: &mut File) -> io::Result<Vec<MarkKind>> {
    let size = file.seek(SeekFrom::End(0))?;
    let read = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        let filled = read_upto(file, &mut bytes, at);
        bytes.truncate(filled);
        bytes
    };
    Ok(find(size, read))
}

fn read_upto(file: &File, buffer: &mut [u8], at: u64) -> usize {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, at + filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    filled
}

/// PURE but for `read(offset, length)`, which gives what is there, maybe less.
fn find(size: u64, read: impl Fn(u64, usize) -> Vec<u8>) -> Vec<MarkKind> {
    // Everything but VMFS and the ends lies here.
    let start = read(0, START_BYTES);
    let end_at = size.saturating_sub(END_BYTES as u64) / 512 * 512;
    let end = read(end_at, END_BYTES);
    let far = |at: u64| read(at, 4);
    let in_end = |at: Option<u64>| {
        let from = at.and_then(|at| usize::try_from(at.checked_sub(end_at)?).ok());
        from.and_then(|from| end.get(from..)).unwrap_or_default()
    };
    let mut kinds = Vec::new();
    if is_raid(&start, size, in_end) {
        kinds.push(MarkKind::RaidMember);
    }
    if let Some(is_shared) = lvm(&start) {
        kinds.push(if is_shared { MarkKind::SharedLvm } else { MarkKind::LvmMember });
    }
    if has(&start, 0x1018, BCACHE) {
        kinds.push(MarkKind::BcacheMember);
    }
    if is_zfs(&start, &end) {
        kinds.push(MarkKind::ZfsMember);
    }
    let is_vmfs =
        far(1 << 20).starts_with(b"\x0d\xd0\x01\xc0") || far(2 << 20).starts_with(b"\x5e\xf1\xab\x2f");
    let is_ocfs2 = [1, 2, 4, 8].iter().any(|kib| has(&start, kib << 10, b"OCFSV2"));
    if is_vmfs || is_ocfs2 || has(&start, 64 << 10, b"\x01\x16\x19\x70") {
        kinds.push(MarkKind::ClusterFileSystem);
    }
    // sanlock's leases stand in a volume of their own: a lockspace, or a lock on a resource.
    if kinds.is_empty()
        && [b"\x10\x20\x21\x12", b"\x10\x20\x15\x06"].iter().any(|magic| has(&start, 0, *magic))
    {
        kinds.push(MarkKind::SharedLvm);
    }
    kinds
}

/// To the end of ZFS's second label.
const START_BYTES: usize = 512 << 10;
/// ZFS's third and fourth label; md's and the controllers' super blocks are nearer to the end. A disk may end inside
/// its last label, which begins at a multiple of 256 KiB.
const END_BYTES: usize = 768 << 10;
const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const MD: &[u8] = b"\xfc\x4e\x2b\xa9";

fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|bytes| bytes.starts_with(magic))
}

/// Linux md 1.1 and 1.2 at the start, 1.0 and 0.90 at the end; Intel's and DDF at the end.
fn is_raid<'b>(start: &[u8], size: u64, in_end: impl Fn(Option<u64>) -> &'b [u8]) -> bool {
    let sectors = size / 512;
    let md_1_0 = sectors.checked_sub(16).map(|at| (at & !7) * 512);
    let md_0_90 = (size & !0xffff).checked_sub(0x1_0000);
    let old = in_end(md_0_90);
    has(start, 0, MD)
        || has(start, 4096, MD)
        || in_end(md_1_0).starts_with(MD)
        || old.starts_with(MD)
        // 0.90 is in the byte order of the machine that made it.
        || old.starts_with(b"\xa9\x2b\x4e\xfc")
        || in_end(sectors.checked_sub(2).map(|at| at * 512)).starts_with(b"Intel Raid ISM Cfg Sig. ")
        || in_end(sectors.checked_sub(1).map(|at| at * 512)).starts_with(b"\xde\x11\xde\x11")
        || in_end(sectors.checked_sub(257).map(|at| at * 512)).starts_with(b"\xde\x11\xde\x11")
}

/// A label in one of the first four sectors; true where the metadata behind it says that its locks are shared.
fn lvm(start: &[u8]) -> Option<bool> {
    let is_label =
        |sector: &usize| has(start, sector * 512, b"LABELONE") && has(start, sector * 512 + 24, b"LVM2 ");
    (0..4).find(is_label)?;
    let says = |words: &[u8]| start.windows(words.len()).any(|window| window == words);
    Some([&b"lock_type = \"sanlock\""[..], b"lock_type = \"dlm\"", b"\"CLUSTERED\""].iter().any(|w| says(w)))
}

/// An uberblock in the ring of any of the labels, in either byte order.
fn is_zfs(start: &[u8], end: &[u8]) -> bool {
    let is_uberblock = |block: &[u8]| {
        block.starts_with(b"\x0c\xb1\xba\0\0\0\0\0") || block.starts_with(b"\0\0\0\0\0\xba\xb1\x0c")
    };
    let rings = [128 << 10..256 << 10, 384 << 10..512 << 10];
    rings.into_iter().any(|ring| start.get(ring).unwrap_or_default().chunks(1024).any(is_uberblock))
        || end.chunks(1024).any(is_uberblock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const SIZE: usize = 8 << 20;

    fn marks(places: &[(usize, &[u8])]) -> Vec<MarkKind> {
        let mut bytes = vec![0; SIZE];
        for (at, magic) in places {
            bytes[*at..*at + magic.len()].copy_from_slice(magic);
        }
        let read = |at: u64, length: usize| {
            let at = usize::try_from(at).unwrap().min(SIZE);
            bytes[at..(at + length).min(SIZE)].to_vec()
        };
        find(SIZE as u64, read)
    }

    #[test]
    fn each_mark_is_found_at_its_place() {
        use MarkKind::*;
        let label = |at: usize| vec![(at, &b"LABELONE"[..]), (at + 24, b"LVM2 001")];
        let shared = |words: &'static [u8]| [label(512), vec![(5000, words)]].concat();
        type Row<'r> = (Vec<(usize, &'r [u8])>, &'r [MarkKind]);
        let table: Vec<Row<'_>> = vec![
            (vec![], &[]),
            (vec![(0, MD)], &[RaidMember]),
            (vec![(4096, MD)], &[RaidMember]),
            (vec![(SIZE - 8192, MD)], &[RaidMember]),
            (vec![(SIZE - 65536, MD)], &[RaidMember]),
            (vec![(SIZE - 65536, b"\xa9\x2b\x4e\xfc")], &[RaidMember]),
            (vec![(SIZE - 1024, b"Intel Raid ISM Cfg Sig. ")], &[RaidMember]),
            (vec![(SIZE - 512, b"\xde\x11\xde\x11")], &[RaidMember]),
            (label(0), &[LvmMember]),
            (label(1536), &[LvmMember]),
            (label(2048), &[]),
            (shared(b"lock_type = \"sanlock\""), &[SharedLvm]),
            (shared(b"lock_type = \"dlm\""), &[SharedLvm]),
            (shared(b"lock_type = \"none\""), &[LvmMember]),
            (vec![(0x1018, BCACHE)], &[BcacheMember]),
            (vec![(131072 + 1024, b"\x0c\xb1\xba\0\0\0\0\0")], &[ZfsMember]),
            (vec![(SIZE - 131072, b"\0\0\0\0\0\xba\xb1\x0c")], &[ZfsMember]),
            (vec![(1 << 20, b"\x0d\xd0\x01\xc0")], &[ClusterFileSystem]),
            (vec![(2 << 20, b"\x5e\xf1\xab\x2f")], &[ClusterFileSystem]),
            (vec![(65536, b"\x01\x16\x19\x70")], &[ClusterFileSystem]),
            (vec![(4096, b"OCFSV2")], &[ClusterFileSystem]),
            (vec![(0, b"\x10\x20\x21\x12")], &[SharedLvm]),
        ];
        for (places, expected) in table {
            assert_eq!(marks(&places), expected, "{places:x?}");
        }
    }

    #[test]
    fn tiny_and_empty_disks_are_survived() {
        for size in [0, 1, 511, 512, 4096, 65536, 100_000] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(size).unwrap();
            assert_eq!(of_file(&mut file.reopen().unwrap()).unwrap(), [], "{size}");
        }
    }

    /// The real tools make the marks; where one is not installed, its row is skipped.
    #[test]
    fn what_real_tools_wrote_is_found() {
        let rows: [(&str, &[&str], Option<MarkKind>); 5] = [
            ("mkfs.ext4", &["-q", "-F"], None),
            ("mkfs.gfs2", &["-O", "-q", "-p", "lock_dlm", "-t", "a:b"], Some(MarkKind::ClusterFileSystem)),
            ("mkfs.ocfs2", &["-q", "-F", "-M", "local"], Some(MarkKind::ClusterFileSystem)),
            ("make-bcache", &["-B"], Some(MarkKind::BcacheMember)),
            ("mkswap", &["-q"], None),
        ];
        for (tool, arguments, kind) in rows {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(400 << 20).unwrap();
            match Command::new(tool).args(arguments).arg(file.path()).output() {
                Ok(output) if output.status.success() => {}
                _ => continue,
            }
            let found = of_file(&mut file.reopen().unwrap()).unwrap();
            assert_eq!(found, Vec::from_iter(kind), "{tool}");
        }
    }
}
