//! PURE. Who has how many bytes of a folder with a limit. Bytes are reserved before they are written, so that the files
//! together never pass the limit, however many are written at once.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Of a file whose size nobody vouches for, so much is reserved at a time.
pub const STEP: u64 = 16 << 20;

/// There is no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cache of fetched images has {used} of at most {limit} bytes{}, and {wanted} more do not fit: remove an image, \
     or raise fetch.cache_limit",
    if *reserved > 0 { format!(" ({reserved} of them reserved by what is being fetched)") } else { String::new() }
)]
pub struct Full {
    pub used: u64,
    pub limit: u64,
    pub wanted: u64,
    /// Of `used`, what others are fetching and may yet give back.
    pub reserved: u64,
}

impl Full {
    /// Waiting does not help: it would not fit a folder that nobody else is fetching to.
    pub fn is_lasting(&self) -> bool {
        self.used.saturating_sub(self.reserved).saturating_add(self.wanted) > self.limit
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    bytes: u64,
    /// It is being written: `bytes` are reserved, whatever the folder shows.
    in_flight: bool,
}

#[derive(Debug, Clone)]
pub struct Ledger {
    limit: u64,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Ledger {
    pub fn new(limit: u64) -> Self {
        Self { limit, entries: BTreeMap::new() }
    }

    pub fn used(&self) -> u64 {
        self.sum(|_, _| true)
    }

    fn sum(&self, of: impl Fn(&Path, &Entry) -> bool) -> u64 {
        let bytes = self.entries.iter().filter(|(path, entry)| of(path, entry)).map(|(_, entry)| entry.bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// The folder as it is now, which counts for all that is not being written.
    pub fn seen(&mut self, files: impl IntoIterator<Item = (PathBuf, u64)>) {
        self.entries.retain(|_, entry| entry.in_flight);
        for (path, bytes) in files {
            self.entries.entry(path).or_insert(Entry { bytes, in_flight: false });
        }
    }

    /// From now on the file is being written. False where it is already.
    pub fn begin(&mut self, path: &Path) -> bool {
        let entry = self.entries.entry(path.to_owned()).or_default();
        !std::mem::replace(&mut entry.in_flight, true)
    }

    /// Whether the file could have `need` bytes.
    pub fn fits(&self, path: &Path, need: u64) -> Result<(), Full> {
        let has = self.entries.get(path).map_or(0, |entry| entry.bytes);
        if need <= has || need <= self.most(path) {
            return Ok(());
        }
        let used = self.sum(|other, _| other != path).saturating_add(has);
        let reserved = self.sum(|other, entry| other != path && entry.in_flight);
        Err(Full { used, limit: self.limit, wanted: need - has, reserved })
    }

    /// As many bytes as the file can have, with all others as they are.
    fn most(&self, path: &Path) -> u64 {
        self.limit.saturating_sub(self.sum(|other, _| other != path))
    }

    /// Reserves for a file that is being written so that it may have `need` bytes, and ahead of that up to `want`. How
    /// many it may have.
    pub fn grow(&mut self, path: &Path, need: u64, want: u64) -> Result<u64, Full> {
        let has = self.entries.get(path).map_or(0, |entry| entry.bytes);
        if need <= has {
            return Ok(has);
        }
        self.fits(path, need)?;
        let bytes = want.clamp(need, self.most(path));
        self.entries.insert(path.to_owned(), Entry { bytes, in_flight: true });
        Ok(bytes)
    }

    /// Gives back what is reserved beyond `bytes`.
    pub fn shrink(&mut self, path: &Path, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.bytes = entry.bytes.min(bytes);
        }
    }

    /// The file is no longer written. It has `bytes` and is named `now`; `None`: it is gone.
    pub fn end(&mut self, path: &Path, now: Option<(&Path, u64)>) {
        self.entries.remove(path);
        if let Some((path, bytes)) = now {
            self.entries.insert(path.to_owned(), Entry { bytes, in_flight: false });
        }
    }

    pub fn is_in_flight(&self, path: &Path) -> bool {
        self.entries.get(path).is_some_and(|entry| entry.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn room_is_reserved_before_it_is_used_and_given_back() {
        let (a, b, c) = (Path::new("a"), Path::new("b"), Path::new("c"));
        let mut ledger = Ledger::new(100);
        ledger.seen([(c.to_owned(), 20)]);
        assert!(ledger.begin(a) && ledger.begin(b) && !ledger.begin(b));
        assert_eq!(ledger.grow(a, 5, 50), Ok(50));
        assert_eq!(ledger.grow(a, 40, 90), Ok(50), "what it has is enough");
        assert_eq!(ledger.grow(b, 10, 50), Ok(30), "as much ahead as there is");
        let full = ledger.grow(b, 31, 31).unwrap_err();
        assert_eq!(full, Full { used: 100, limit: 100, wanted: 1, reserved: 50 });
        assert!(!full.is_lasting() && full.to_string().contains("50 of them reserved"));
        // The folder shows less of what is being written: that is still reserved.
        ledger.seen([(c.to_owned(), 20), (a.to_owned(), 1)]);
        assert_eq!(ledger.used(), 100);
        ledger.end(a, Some((Path::new("whole"), 30)));
        assert_eq!(ledger.used(), 80);
        ledger.shrink(b, 0);
        assert_eq!((ledger.used(), ledger.is_in_flight(b), ledger.is_in_flight(a)), (50, true, false));
        ledger.end(b, None);
        let full = ledger.grow(b, 51, 51).unwrap_err();
        assert!(full.is_lasting() && !full.to_string().contains("reserved"), "{full}");
        assert!(Ledger::new(10).grow(a, 11, 11).unwrap_err().is_lasting());
    }

    #[derive(Debug, Clone)]
    enum Does {
        Begin(u8),
        Grow(u8, u64, u64),
        /// So many of what is reserved are written.
        Write(u8, u64),
        Shrink(u8),
        End(u8, bool),
        Seen,
    }

    fn does() -> impl Strategy<Value = Does> {
        let who = 0..4u8;
        prop_oneof![
            who.clone().prop_map(Does::Begin),
            (who.clone(), 0..90u64, 0..90u64).prop_map(|(who, need, ahead)| Does::Grow(who, need, ahead)),
            (who.clone(), 0..90u64).prop_map(|(who, bytes)| Does::Write(who, bytes)),
            who.clone().prop_map(Does::Shrink),
            (who, any::<bool>()).prop_map(|(who, kept)| Does::End(who, kept)),
            Just(Does::Seen),
        ]
    }

    proptest! {
        #[test]
        fn the_folder_never_passes_the_limit(steps in proptest::collection::vec(does(), 0..200)) {
            const LIMIT: u64 = 120;
            let mut ledger = Ledger::new(LIMIT);
            // What is on the disk, and what each writer was granted.
            let (mut disk, mut granted) = (BTreeMap::<PathBuf, u64>::new(), BTreeMap::<PathBuf, u64>::new());
            for step in steps {
                let path = |who: u8| PathBuf::from(who.to_string());
                match step {
                    Does::Begin(who) if ledger.begin(&path(who)) => {
                        granted.insert(path(who), disk.get(&path(who)).copied().unwrap_or(0));
                    }
                    Does::Grow(who, need, ahead) if granted.contains_key(&path(who)) => {
                        if let Ok(now) = ledger.grow(&path(who), need, need + ahead) {
                            prop_assert!(now >= need);
                            granted.insert(path(who), now);
                        }
                    }
                    Does::Write(who, bytes) => {
                        if let Some(most) = granted.get(&path(who)) {
                            disk.insert(path(who), bytes.min(*most));
                        }
                    }
                    Does::Shrink(who) if granted.contains_key(&path(who)) => {
                        let has = disk.get(&path(who)).copied().unwrap_or(0);
                        ledger.shrink(&path(who), has);
                        granted.insert(path(who), has);
                    }
                    Does::End(who, kept) if granted.remove(&path(who)).is_some() => {
                        let bytes = disk.remove(&path(who)).unwrap_or(0);
                        let whole = PathBuf::from(format!("{who}.whole"));
                        if kept {
                            disk.insert(whole.clone(), bytes);
                        }
                        ledger.end(&path(who), kept.then_some((whole.as_path(), bytes)));
                    }
                    Does::Seen => ledger.seen(disk.clone()),
                    _ => {}
                }
                prop_assert!(disk.values().sum::<u64>() <= LIMIT);
                prop_assert!(ledger.used() >= disk.values().sum::<u64>());
            }
        }
    }
}
