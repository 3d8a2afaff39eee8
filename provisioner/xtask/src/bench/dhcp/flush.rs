//! What the disk itself takes to keep a lease: no answer that waits for it can be faster.

use anyhow::{Context, Result};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Two pages of a database, as one lease takes.
const LEASE: usize = 8 << 10;
/// Written again and again, so that no flush pays for a file that grows.
const PLACES: u64 = 512;

/// Milliseconds, sorted, of `count` writes of [`LEASE`] bytes with their flush, `rate` a second where the disk can do as many.
pub fn times(folder: &Path, rate: u32, count: u32) -> Result<Vec<f64>> {
    let named = || format!("a file to flush in {}", folder.display());
    let path = folder.join("flush");
    let file = File::create(&path).with_context(named)?;
    let places = usize::try_from(PLACES).context("a number of places")?;
    file.write_all_at(&vec![0; LEASE * places], 0).and_then(|()| file.sync_all()).with_context(named)?;
    let begun = Instant::now();
    let mut times = Vec::new();
    for n in 0..count {
        let due = Duration::from_secs_f64(f64::from(n) / f64::from(rate));
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let before = Instant::now();
        let contents = [u8::try_from(n % 251).unwrap_or_default(); LEASE];
        let place = u64::from(n) % PLACES * LEASE as u64;
        file.write_all_at(&contents, place).and_then(|()| file.sync_data()).with_context(named)?;
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(&path).with_context(named)?;
    times.sort_by(f64::total_cmp);
    Ok(times)
}
