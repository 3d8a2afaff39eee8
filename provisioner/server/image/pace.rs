//! PURE. How fast something goes, and how long it will take, from what was seen of it at which time.

use crate::machine::Time;
use std::{collections::VecDeque, time::Duration};

/// What is older says nothing of how fast it is now.
const WINDOW: Duration = Duration::from_secs(15);
/// In less than that, nothing can be told.
const LEAST: Duration = Duration::from_secs(1);

/// Bytes that were done, with the times when they were seen to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace(VecDeque<(Time, u64)>);

impl Pace {
    /// Less than before is a new beginning; so is a clock that was set back.
    pub fn note(&mut self, now: Time, done: u64) {
        if self.0.back().is_some_and(|(at, before)| now < *at || done < *before) {
            self.0.clear();
        }
        self.0.push_back((now, done));
        // The newest one that is older than the window is its edge.
        while self.0.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// Bytes in a second, over the window that ends with what was noted last. `None` as long as nothing can be told.
    pub fn rate(&self) -> Option<u64> {
        let ((from, before), (to, after)) = (self.0.front()?, self.0.back()?);
        let span = to.since(*from);
        let bytes = u128::from(after.saturating_sub(*before));
        let rate = (bytes * 1000).checked_div(span.as_millis()).filter(|_| span >= LEAST)?;
        u64::try_from(rate).ok()
    }

    /// Until `of` bytes are done, at this rate. `None` where it does not move.
    pub fn left(&self, of: u64) -> Option<Duration> {
        let (_, done) = self.0.back()?;
        let rate = self.rate().filter(|rate| *rate > 0)?;
        Some(Duration::from_secs(of.saturating_sub(*done).div_ceil(rate)))
    }
}

/// `40 s`, `3 min`, `2 h`, as one would say it.
pub fn about(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..=89 => format!("{seconds} s"),
        seconds @ 90..=5399 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h", (seconds + 1800) / 3600),
    }
}

/// `12 MB`: powers of a thousand, as disks and networks are sold.
pub fn size(bytes: u64) -> String {
    let units = [("TB", 1_000_000_000_000_u64), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    let found = units.into_iter().find(|(_, unit)| bytes >= *unit);
    let Some((word, unit)) = found else { return format!("{bytes} B") };
    let tenths = bytes.saturating_mul(10).div_euclid(unit);
    if tenths < 100 {
        format!("{}.{} {word}", tenths / 10, tenths % 10)
    } else {
        format!("{} {word}", tenths / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(seen: &[(i64, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (seconds, done) in seen {
            pace.note(Time(seconds * 1000), *done);
        }
        pace
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        for (seen, expected) in [
            (&[][..], None),
            (&[(0, 0)], None),
            (&[(0, 0), (0, 500)], None),
            (&[(0, 0), (10, 500)], Some(50)),
            // What was there before it began was not fetched.
            (&[(0, 10_000), (10, 10_500)], Some(50)),
            // Fast once, slow now; and nothing at all.
            (&[(0, 0), (1, 1_000_000), (11, 1_000_010), (21, 1_000_020), (31, 1_000_030)], Some(1)),
            (&[(0, 0), (1, 1000), (20, 1000), (40, 1000)], Some(0)),
            // Begun anew at another mirror; a clock that was set back.
            (&[(0, 0), (10, 1000), (11, 0)], None),
            (&[(0, 0), (10, 1000), (11, 0), (13, 40)], Some(20)),
            (&[(100, 0), (50, 10), (60, 30)], Some(2)),
            (&[(0, 0), (1, u64::MAX)], Some(u64::MAX)),
        ] {
            assert_eq!(pace(seen).rate(), expected, "{seen:?}");
        }
    }

    #[test]
    fn what_is_noted_often_is_not_kept_for_ever() {
        let mut pace = Pace::default();
        for n in 0..100_000 {
            pace.note(Time(n * 100), u64::try_from(n).unwrap() * 7);
        }
        assert_eq!(pace.rate(), Some(70));
        assert!(pace.0.len() < 200, "{}", pace.0.len());
    }

    #[test]
    fn what_is_left_is_said_as_one_would() {
        let left = |seen: &[(i64, u64)], of| pace(seen).left(of).map(about);
        assert_eq!(left(&[(0, 0), (10, 1000)], 10_000).as_deref(), Some("2 min"));
        assert_eq!(left(&[(0, 0), (10, 1000)], 3000).as_deref(), Some("20 s"));
        assert_eq!(left(&[(0, 0), (10, 10)], 10_000).as_deref(), Some("3 h"));
        assert_eq!(left(&[(0, 10), (10, 10)], 10_000), None);
        assert_eq!(left(&[(0, 0), (10, 10)], 5).as_deref(), Some("0 s"));
        let sizes = [0, 999, 1000, 9_999, 12_345_678, 4_200_000_000, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "9.9 kB", "12 MB", "4.2 GB", "1844674 TB"]);
    }
}
