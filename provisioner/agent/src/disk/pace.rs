//! How many workers write at a time: more while more is faster, fewer when the network or a disk has trouble, and never
//! more than memory and processors have room for. PURE: the writer measures, this decides.

/// What one worker holds: a chunk packed, the same unpacked, its unpacker, its connection's buffers; in chunks.
const CHUNKS_OF_ONE: u64 = 4;
/// The part of the free memory that all workers may fill.
const MEMORY_PART: u64 = 8;
/// Beyond this a disk only queues.
const WORKERS_MAX: usize = 32;
/// A quarter more workers must bring this much, or they go again.
const FASTER: f64 = 1.05;
/// Measurements to wait before more are tried again, when the last brought nothing.
const PATIENCE: u32 = 20;
/// The same after trouble.
const PATIENCE_AFTER_TROUBLE: u32 = 20;

/// Most workers that `free_bytes` of memory and so many processors can feed with chunks of `chunk_bytes`; at least one.
pub fn most(processors: usize, free_bytes: u64, chunk_bytes: u32) -> usize {
    let each = CHUNKS_OF_ONE * u64::from(chunk_bytes).max(1 << 20);
    let by_memory = usize::try_from(free_bytes / MEMORY_PART / each).unwrap_or(WORKERS_MAX);
    (processors * 4).clamp(4, WORKERS_MAX).min(by_memory).max(1)
}

/// The number of workers, from one measurement to the next.
#[derive(Debug, Clone)]
pub struct Pace {
    active: usize,
    most: usize,
    /// What it was before it last grew, and how fast that was; none when it did not grow last.
    before: Option<(usize, f64)>,
    wait: u32,
}

impl Pace {
    /// Begins with two workers a processor: that was best on most machines.
    pub fn new(processors: usize, most: usize) -> Self {
        let active = (processors * 2).clamp(1, most.max(1));
        Self { active, most: most.max(1), before: None, wait: 1 }
    }

    pub fn active(&self) -> usize {
        self.active
    }

    /// After a while in which `rate` bytes a second were written and `troubles` fetches had to be tried again.
    pub fn measured(&mut self, rate: f64, troubles: usize) -> usize {
        if troubles > 0 {
            (self.active, self.before, self.wait) = ((self.active / 2).max(1), None, PATIENCE_AFTER_TROUBLE);
            return self.active;
        }
        if self.wait > 0 {
            self.wait -= 1;
            return self.active;
        }
        match self.before {
            Some((fewer, was)) if rate < was * FASTER => {
                (self.active, self.before, self.wait) = (fewer, None, PATIENCE);
            }
            _ if self.active < self.most => {
                self.before = Some((self.active, rate));
                self.active = (self.active + self.active.div_ceil(4)).min(self.most);
                self.wait = 1;
            }
            _ => {}
        }
        self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it stands after two hundred measurements of a world in which so many workers give so much.
    fn settled(mut pace: Pace, rate: impl Fn(usize) -> f64) -> usize {
        let mut seen = Vec::new();
        for _ in 0..200 {
            let now = rate(pace.active());
            seen.push(pace.measured(now, 0));
        }
        seen.sort_unstable();
        seen[100]
    }

    #[test]
    fn it_grows_while_that_helps_and_stops_where_it_does_not() {
        let upto = |knee: usize| move |n: usize| 100.0 * n.min(knee) as f64;
        assert!((13..=18).contains(&settled(Pace::new(2, 32), upto(14))));
        assert_eq!(settled(Pace::new(2, 32), upto(64)), 32);
        assert_eq!(settled(Pace::new(1, 32), upto(1)), 2, "a disk that queues");
        assert_eq!(settled(Pace::new(8, 3), upto(64)), 3, "never beyond what memory has room for");
        // A disk that gets slower with every worker.
        assert!(settled(Pace::new(2, 32), |n| 1000.0 / n as f64) <= 4);
    }

    #[test]
    fn trouble_halves_it_and_it_comes_back() {
        let mut pace = Pace::new(4, 32);
        assert_eq!(pace.active(), 8);
        assert_eq!(pace.measured(100.0, 3), 4);
        assert_eq!(pace.measured(100.0, 1), 2);
        for _ in 0..4 {
            pace.measured(0.0, 1);
        }
        assert_eq!(pace.active(), 1, "one always works");
        for n in 0..200 {
            pace.measured(100.0 + f64::from(n) * 20.0, 0);
        }
        assert!(pace.active() > 8, "{pace:?}");
    }

    #[test]
    fn memory_bounds_it() {
        assert_eq!(most(4, 100 << 30, 1 << 20), 16);
        assert_eq!(most(64, 100 << 30, 1 << 20), 32);
        assert_eq!(most(8, 700 << 20, 1 << 20), 21);
        assert_eq!(most(8, 100 << 20, 1 << 20), 3);
        assert_eq!(most(8, 0, 1 << 20), 1);
        assert_eq!(most(8, 1 << 30, 64 << 20), 1);
    }
}
