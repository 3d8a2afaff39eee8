//! Makes a disk empty: its metadata, or all of it.

use super::{
    buffer::Aligned,
    device::{Device, make_zero, reread_patiently, write_zeros},
};
use provisioner_unpack::zeros::is_zero;
use provisioner_wire::order::WipeMethod;
use std::io;

/// Tables, super blocks and RAID members' marks lie within this much of an end, of the disk or of a partition.
const MARGIN_BYTES: u64 = 4 << 20;
/// One step of a discard, so that progress is heard.
const STEP_BYTES: u64 = 1 << 30;
const SAMPLES: u64 = 256;
const SAMPLE_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("the disk still has data at byte {at} after it was wiped")]
    NotEmpty { at: u64 },
}

/// Wipes. `partitions` are (start, length) in bytes as the kernel knows them. `progress` hears bytes done.
pub fn wipe(
    device: &mut dyn Device,
    method: WipeMethod,
    partitions: &[(u64, u64)],
    progress: &mut dyn FnMut(u64),
) -> Result<(), WipeError> {
    let size = device.size();
    let io = |what| move |error| WipeError::Io { what, error };
    // The metadata first whatever the method: a wipe that is cut off leaves nothing that boots.
    wipe_metadata(device, partitions).map_err(io("clearing the metadata"))?;
    device.flush().map_err(io("flushing the cleared metadata"))?;
    match method {
        WipeMethod::Metadata => {}
        WipeMethod::Discard => {
            if !discard(device, progress).map_err(io("discarding"))? {
                write_zeros(device, 0, size, &mut *progress).map_err(io("overwriting"))?;
            }
        }
        WipeMethod::Overwrite => write_zeros(device, 0, size, &mut *progress).map_err(io("overwriting"))?,
    }
    device.flush().map_err(io("flushing"))?;
    let samples = if method == WipeMethod::Metadata {
        vec![0, size - SAMPLE_BYTES as u64]
    } else {
        sample_places(size)
    };
    if let Some(at) = first_with_data(device, &samples).map_err(io("checking"))? {
        return Err(WipeError::NotEmpty { at });
    }
    reread_patiently(device).map_err(io("making the kernel read the partition table"))?;
    progress(size);
    Ok(())
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

/// True where the whole disk was discarded and every sample reads as zero.
fn discard(device: &mut dyn Device, progress: &mut dyn FnMut(u64)) -> io::Result<bool> {
    let size = device.size();
    let mut at = 0;
    while at < size {
        let length = STEP_BYTES.min(size - at);
        match device.zero(at, length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(false),
            Err(error) => return Err(error),
        }
        at += length;
        progress(at);
    }
    device.flush()?;
    Ok(first_with_data(device, &sample_places(size))?.is_none())
}

/// Evenly spread, both ends among them.
fn sample_places(size: u64) -> Vec<u64> {
    let last = size.saturating_sub(SAMPLE_BYTES as u64);
    (0..=SAMPLES).map(|n| (last / SAMPLES * n) / 4096 * 4096).chain([last]).collect()
}

fn first_with_data(device: &mut dyn Device, places: &[u64]) -> io::Result<Option<u64>> {
    let mut sample = Aligned::new(SAMPLE_BYTES);
    for at in places {
        device.read_at(sample.room(), *at)?;
        if !is_zero(sample.room()) {
            return Ok(Some(*at));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fake::{Fake, Fault};

    const SIZE: usize = 64 << 20;

    fn full() -> Fake {
        Fake::of(vec![0xa5; SIZE])
    }

    #[test]
    fn metadata_goes_from_both_ends_and_from_the_partitions() {
        let mut disk = full();
        wipe(&mut disk, WipeMethod::Metadata, &[(16 << 20, 16 << 20)], &mut |_| ()).unwrap();
        let zero = |from: usize, to: usize| is_zero(&disk.bytes[from << 20..to << 20]);
        assert!(zero(0, 4) && zero(60, 64) && zero(16, 20) && zero(28, 32));
        assert!(!zero(8, 9) && !zero(22, 23));
    }

    #[test]
    fn discard_and_overwrite_leave_nothing() {
        for method in [WipeMethod::Discard, WipeMethod::Overwrite] {
            for faults in [vec![], vec![Fault::NoDiscard], vec![Fault::DiscardLies]] {
                let mut disk = full().with(&faults);
                wipe(&mut disk, method, &[], &mut |_| ()).unwrap();
                assert!(is_zero(&disk.bytes), "{method:?} {faults:?}");
            }
        }
    }

    #[test]
    fn a_disk_that_keeps_its_data_or_fails_is_an_error() {
        let error = wipe(
            &mut full().with(&[Fault::DropWrites, Fault::NoDiscard]),
            WipeMethod::Overwrite,
            &[],
            &mut |_| (),
        );
        assert!(error.unwrap_err().to_string().contains("still has data at byte 0"));
        for n in 0..6 {
            assert!(
                wipe(&mut full().with(&[Fault::FailAt(n)]), WipeMethod::Discard, &[], &mut |_| ()).is_err()
            );
        }
    }
}
