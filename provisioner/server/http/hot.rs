//! Files by hash in bounded memory: what many machines fetch at about one time is read from the disk once. The bound is of
//! all bytes given out, those on their way to slow clients too.

use bytes::Bytes;
use provisioner_wire::chunks::Sha;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for.
const UNIT: usize = 1024;

/// Least recently used first out.
#[derive(Debug)]
pub struct Hot {
    budget: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_hash: HashMap<Sha, (Bytes, u64)>,
    by_use: BTreeMap<u64, Sha>,
    uses: u64,
    /// Fetches that found it in memory, and those that did not.
    hits: u64,
    misses: u64,
}

/// Gives its share of the budget back when nobody needs the bytes any more.
struct Held {
    bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Hot {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        let permits = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        Self { budget: Arc::new(Semaphore::new(permits)), kept: Mutex::default() }
    }

    pub fn get(&self, sha256: &Sha) -> Option<Bytes> {
        let mut kept = self.kept();
        let found = kept.touch(sha256);
        if found.is_some() {
            kept.hits += 1;
        } else {
            kept.misses += 1;
        }
        found
    }

    /// A share of the budget for `bytes`, for which others are forgotten; none while all of it is on its way.
    pub fn room(&self, bytes: usize) -> Option<Room> {
        let units = u32::try_from(bytes.div_ceil(UNIT).max(1)).ok()?;
        loop {
            if let Ok(share) = Arc::clone(&self.budget).try_acquire_many_owned(units) {
                return Some(Room(share));
            }
            self.kept().forget_oldest()?;
        }
    }

    /// [`Hot::room`], waited for.
    pub async fn room_within(&self, bytes: usize, within: Duration) -> Option<Room> {
        if let Some(room) = self.room(bytes) {
            return Some(room);
        }
        let units = u32::try_from(bytes.div_ceil(UNIT).max(1)).ok()?;
        let share = Arc::clone(&self.budget).acquire_many_owned(units);
        tokio::time::timeout(within, share).await.ok()?.ok().map(Room)
    }

    /// Keeps `bytes`, and gives them back to be sent.
    pub fn put(&self, sha256: Sha, bytes: Vec<u8>, room: Room) -> Bytes {
        let bytes = Bytes::from_owner(Held { bytes, _share: room.0 });
        self.kept().put(sha256, bytes.clone());
        bytes
    }

    /// Found in memory, and not.
    pub fn counts(&self) -> (u64, u64) {
        let kept = self.kept();
        (kept.hits, kept.misses)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share of the budget.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

impl Kept {
    fn touch(&mut self, sha256: &Sha) -> Option<Bytes> {
        self.uses += 1;
        let (bytes, last) = self.by_hash.get_mut(sha256)?;
        self.by_use.remove(last);
        *last = self.uses;
        self.by_use.insert(*last, *sha256);
        Some(bytes.clone())
    }

    fn put(&mut self, sha256: Sha, bytes: Bytes) {
        self.uses += 1;
        if let Some((_, last)) = self.by_hash.insert(sha256, (bytes, self.uses)) {
            self.by_use.remove(&last);
        }
        self.by_use.insert(self.uses, sha256);
    }

    fn forget_oldest(&mut self) -> Option<()> {
        let (_, oldest) = self.by_use.pop_first()?;
        self.by_hash.remove(&oldest);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(hot: &Hot, n: u8, bytes: usize) -> Option<Bytes> {
        Some(hot.put(Sha([n; 32]), vec![n; bytes], hot.room(bytes)?))
    }

    #[test]
    fn the_least_used_goes_first() {
        let hot = Hot::new(3 * UNIT);
        for n in 1..=3 {
            put(&hot, n, UNIT).unwrap();
        }
        assert_eq!(hot.get(&Sha([1; 32])).unwrap()[0], 1);
        put(&hot, 4, UNIT).unwrap();
        assert!(hot.get(&Sha([2; 32])).is_none(), "used longest ago");
        assert!([1, 3, 4].iter().all(|n| hot.get(&Sha([*n; 32])).is_some()));
        assert_eq!(hot.counts(), (4, 1));
        put(&hot, 5, 3 * UNIT).unwrap();
        assert!(hot.get(&Sha([4; 32])).is_none() && hot.get(&Sha([5; 32])).is_some());
    }

    #[test]
    fn bytes_on_their_way_count() {
        let hot = Hot::new(2 * UNIT);
        let sending = [put(&hot, 1, UNIT), put(&hot, 2, UNIT - 1)];
        assert!(put(&hot, 3, UNIT).is_none(), "two are held by clients");
        drop(sending);
        assert!(put(&hot, 3, 2 * UNIT).is_some());
        assert!(put(&hot, 4, 3 * UNIT).is_none(), "more than there ever is");
        // The same again takes no second share for long.
        for _ in 0..10 {
            put(&hot, 5, 2 * UNIT).unwrap();
        }
    }
}
