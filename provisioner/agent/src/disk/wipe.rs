//! Makes a disk empty: its metadata, or all of it, by what [`super::wipe_choice`] says; and holds the disk to it by reading
//! the same random places before and after.

use super::{
    buffer::Aligned,
    device::{Device, make_zero, reread_patiently, write_zeros},
    wipe_choice::{NoPurge, choose},
};
use crate::image::hash::Fingerprint;
use provisioner_unpack::zeros::is_zero;
use provisioner_wire::wipe::{Means, PassedOver, Sampled, WipeMethod};
use std::io;

/// Tables, super blocks and RAID members' marks lie within this much of an end, of the disk or of a partition.
const MARGIN_BYTES: u64 = 4 << 20;
/// One step of a discard, so that progress is heard.
const STEP_BYTES: u64 = 1 << 30;
/// Random places that are read; both ends come to them.
const SAMPLES: u64 = 254;
const SAMPLE_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("the disk still has data at byte {at} after it was wiped")]
    NotEmpty { at: u64 },
    #[error("{0}")]
    NoPurge(#[from] NoPurge),
    #[error("nothing that was tried has wiped it{}", .0.iter().map(|p| format!("; {}: {}", p.means, p.why)).collect::<String>())]
    Failed(Vec<PassedOver>),
}

/// What was done, for the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub means: Means,
    pub passed_over: Vec<PassedOver>,
    pub sampled: Sampled,
}

/// Wipes. `partitions` are (start, length) in bytes as the kernel knows them; `seed` draws the places that are read.
/// `progress` hears bytes done.
pub fn wipe(
    device: &mut dyn Device,
    asked: WipeMethod,
    partitions: &[(u64, u64)],
    seed: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Done, WipeError> {
    let size = device.size();
    let io = |what| move |error| WipeError::Io { what, error };
    // Before the first byte: a purge that cannot be is no wipe at all.
    let choice = choose(asked, &device.abilities())?;
    let places = match asked {
        WipeMethod::Metadata => vec![0, last_place(size)],
        _ => sample_places(size, seed),
    };
    let before = Samples::read(device, &places).map_err(io("looking at what is there"))?;
    // The metadata first whatever the method: a wipe that is cut off leaves nothing that boots.
    wipe_metadata(device, partitions).map_err(io("clearing the metadata"))?;
    device.flush().map_err(io("flushing the cleared metadata"))?;
    let mut passed_over = choice.passed_over;
    let last = choice.tries.len().saturating_sub(1);
    for (number, means) in choice.tries.into_iter().enumerate() {
        match attempt(device, means, &before, progress) {
            Ok(sampled) => {
                reread_patiently(device).map_err(io("making the kernel read the partition table"))?;
                progress(size);
                return Ok(Done { means, passed_over, sampled });
            }
            // The only thing there was to try tells for itself.
            Err(error) if number == last && passed_over.is_empty() => return Err(error),
            Err(error) => passed_over.push(PassedOver { means, why: error.to_string() }),
        }
    }
    Err(WipeError::Failed(passed_over))
}

/// One means, flushed and checked.
fn attempt(
    device: &mut dyn Device,
    means: Means,
    before: &Samples,
    progress: &mut dyn FnMut(u64),
) -> Result<Sampled, WipeError> {
    let io = |what| move |error| WipeError::Io { what, error };
    let size = device.size();
    match means {
        Means::Metadata => {}
        Means::Discard => discard(device, progress).map_err(io("discarding"))?,
        Means::Overwrite => write_zeros(device, 0, size, &mut *progress).map_err(io("overwriting"))?,
        drive => device.erase(drive).map_err(io("having the drive erase itself"))?,
    }
    device.flush().map_err(io("flushing"))?;
    device.drop_cache().map_err(io("dropping what is cached"))?;
    let places: Vec<u64> = before.0.iter().map(|sample| sample.at).collect();
    let after = Samples::read(device, &places).map_err(io("checking"))?;
    before.judge(&after, means).map_err(|at| WipeError::NotEmpty { at })
}

fn wipe_metadata(device: &mut dyn Device, partitions: &[(u64, u64)]) -> io::Result<()> {
    let size = device.size();
    let sector = u64::from(device.sector());
    // Innermost first: while the table still stands, a wipe that was cut off finds the partitions again.
    for (start, length) in partitions.iter().copied().chain([(0, size)]) {
        let end = start.saturating_add(length).min(size);
        let start = start.min(end);
        let margin = MARGIN_BYTES.min(end - start) / sector * sector;
        make_zero(device, start, margin)?;
        make_zero(device, end - margin, margin)?;
    }
    Ok(())
}

/// Discards what the kernel then vouches for as zero; [`io::ErrorKind::Unsupported`] where it vouches for nothing.
fn discard(device: &mut dyn Device, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let size = device.size();
    let mut at = 0;
    while at < size {
        let length = STEP_BYTES.min(size - at);
        device.zero(at, length)?;
        at += length;
        progress(at);
    }
    Ok(())
}

fn last_place(size: u64) -> u64 {
    size.saturating_sub(SAMPLE_BYTES as u64)
}

/// Both ends, and random places between them, on whole sectors.
fn sample_places(size: u64, seed: u64) -> Vec<u64> {
    let room = last_place(size) / 4096 + 1;
    let mut state = seed;
    // splitmix64: no secret, only not to be known before.
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut places = vec![0, last_place(size)];
    places.extend((0..SAMPLES).map(|_| random() % room * 4096));
    places
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Samples(Vec<Sample>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    at: u64,
    /// None for zeros.
    data: Option<u128>,
}

impl Samples {
    fn read(device: &mut dyn Device, places: &[u64]) -> io::Result<Self> {
        let mut buffer = Aligned::new(SAMPLE_BYTES);
        let mut read = |at: &u64| {
            device.read_at(buffer.room(), *at)?;
            let bytes = buffer.room();
            Ok(Sample { at: *at, data: (!is_zero(bytes)).then(|| Fingerprint::of(bytes)) })
        };
        Ok(Self(places.iter().map(&mut read).collect::<io::Result<_>>()?))
    }

    /// The place that shows that nothing was wiped there: what was written by us must read as zero; what the drive has
    /// erased may read as anything but what was there (keys thrown away, a pattern of its own).
    fn judge(&self, after: &Self, means: Means) -> Result<Sampled, u64> {
        let by_drive = !matches!(means, Means::Metadata | Means::Discard | Means::Overwrite);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut told =
            Sampled { places: count(self.0.len()), bytes_each: count(SAMPLE_BYTES), ..Sampled::default() };
        for (before, after) in self.0.iter().zip(&after.0) {
            let had_data = u32::from(before.data.is_some());
            told.with_data_before += had_data;
            match after.data {
                None => told.zero_now += had_data,
                Some(now) if by_drive && before.data != Some(now) => told.changed_now += had_data,
                Some(_) => return Err(after.at),
            }
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fake::{Fake, Fault};

    const SIZE: usize = 16 << 20;

    fn full() -> Fake {
        // Not all the same: what was erased must be seen to be something else.
        let bytes: Vec<u8> = (0..SIZE).map(|n| (n >> 12) as u8 | 1).collect();
        Fake::of(bytes)
    }

    fn run(disk: &mut Fake, asked: WipeMethod) -> Result<Done, WipeError> {
        wipe(disk, asked, &[], 7, &mut |_| ())
    }

    #[test]
    fn metadata_goes_from_both_ends_and_from_the_partitions() {
        let mut disk = Fake::of(vec![0xa5; 64 << 20]);
        wipe(&mut disk, WipeMethod::Metadata, &[(16 << 20, 16 << 20)], 7, &mut |_| ()).unwrap();
        let zero = |from: usize, to: usize| is_zero(&disk.bytes[from << 20..to << 20]);
        assert!(zero(0, 4) && zero(60, 64) && zero(16, 20) && zero(28, 32));
        assert!(!zero(8, 9) && !zero(22, 23));
    }

    #[test]
    fn discard_overwrite_and_clear_leave_nothing_and_say_what_they_did() {
        use Means::{Discard, Overwrite};
        for (asked, faults, done) in [
            (WipeMethod::Discard, vec![], Discard),
            (WipeMethod::Discard, vec![Fault::NoDiscard], Overwrite),
            (WipeMethod::Discard, vec![Fault::DiscardLies], Overwrite),
            (WipeMethod::Overwrite, vec![Fault::NoDiscard], Overwrite),
            (WipeMethod::Overwrite, vec![Fault::DiscardLies], Overwrite),
            (WipeMethod::Clear, vec![], Discard),
            (WipeMethod::Clear, vec![Fault::NoDiscard], Overwrite),
        ] {
            let mut disk = full().with(&faults);
            let told = run(&mut disk, asked).unwrap();
            assert!(is_zero(&disk.bytes), "{asked:?} {faults:?}");
            assert_eq!(told.means, done, "{asked:?} {faults:?}");
            let fell_back = asked != WipeMethod::Overwrite && done == Overwrite;
            assert_eq!(told.passed_over.len(), usize::from(fell_back), "{told:?}");
            assert_eq!(
                (told.sampled.places, told.sampled.with_data_before, told.sampled.zero_now),
                (256, 256, 256)
            );
        }
    }

    #[test]
    fn a_drive_erases_itself_and_is_held_to_it() {
        use Means::{NvmeFormatCrypto, NvmeFormatErase};
        let can = |means: &[Means], faults: &[Fault]| Fake { can: means.to_vec(), ..full() }.with(faults);
        let mut disk = can(&[NvmeFormatErase, NvmeFormatCrypto], &[]);
        let told = run(&mut disk, WipeMethod::Purge).unwrap();
        assert_eq!((told.means, told.sampled.zero_now), (NvmeFormatErase, 256));
        assert!(is_zero(&disk.bytes));
        let mut disk = can(&[NvmeFormatCrypto], &[]);
        let told = run(&mut disk, WipeMethod::Purge).unwrap();
        assert_eq!((told.means, told.sampled.zero_now, told.sampled.changed_now), (NvmeFormatCrypto, 0, 256));
        // A drive that says that it has erased itself and has not.
        let mut disk = can(&[NvmeFormatErase], &[Fault::EraseLies]);
        let error = run(&mut disk, WipeMethod::Purge).unwrap_err().to_string();
        assert!(error.contains("still has data at byte"), "{error}");
        let told = run(&mut can(&[NvmeFormatErase], &[Fault::EraseLies]), WipeMethod::Clear).unwrap();
        assert_eq!((told.means, told.passed_over[0].means), (Means::Discard, NvmeFormatErase));
        assert!(told.passed_over[0].why.contains("still has data"), "{told:?}");
        let told = run(&mut can(&[NvmeFormatErase], &[Fault::EraseFails]), WipeMethod::Clear).unwrap();
        assert!(told.passed_over[0].why.contains("having the drive erase itself"), "{told:?}");
    }

    #[test]
    fn a_purge_that_cannot_be_touches_nothing() {
        for can in [vec![], vec![Means::AtaErase]] {
            let mut disk = Fake { can, ..full() };
            let error = run(&mut disk, WipeMethod::Purge).unwrap_err().to_string();
            assert!(error.contains("a purge is asked for"), "{error}");
            assert!(disk.bytes == full().bytes && disk.operations == 0);
        }
    }

    #[test]
    fn a_disk_that_keeps_its_data_or_fails_is_an_error() {
        let mut keeps = full().with(&[Fault::DropWrites, Fault::NoDiscard]);
        let error = run(&mut keeps, WipeMethod::Overwrite).unwrap_err();
        assert!(error.to_string().contains("still has data at byte 0"), "{error}");
        let mut keeps = full().with(&[Fault::DropWrites, Fault::DiscardLies]);
        let error = run(&mut keeps, WipeMethod::Clear).unwrap_err().to_string();
        assert!(
            error.contains("discard: the disk still") && error.contains("overwrite: the disk still"),
            "{error}"
        );
        for n in 0..3 {
            assert!(run(&mut full().with(&[Fault::FailAt(n)]), WipeMethod::Discard).is_err(), "{n}");
        }
        for n in 0..5 {
            assert!(run(&mut full().with(&[Fault::GoneAt(n)]), WipeMethod::Discard).is_err(), "{n}");
        }
        // One failure of a discard is what overwriting is for.
        let told = run(&mut full().with(&[Fault::FailAt(3)]), WipeMethod::Discard).unwrap();
        assert_eq!(told.means, Means::Overwrite);
    }
}
