//! The highest rate that a server answers with less than one lost exchange in a hundred.

use anyhow::Result;

/// Of a hundred exchanges less than this many may be lost.
const LOST_MAX: f64 = 0.01;
/// A generator that begins less than this share of what it should measures itself.
const KEPT_MIN: f64 = 0.95;
const RATE_MIN: u32 = 20;
const RATE_MAX: u32 = 80_000;
/// The search ends where good and bad are this near.
const NEAR: f64 = 1.06;

/// What one rate came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    pub asked: u32,
    /// Completed exchanges a second.
    pub rate: f64,
    /// 0 to 1.
    pub lost: f64,
    /// Microseconds of processor time of the server for one exchange.
    pub cpu: f64,
}

impl Trial {
    fn is_good(&self) -> bool {
        self.lost < LOST_MAX && self.rate >= KEPT_MIN * f64::from(self.asked)
    }
}

/// Up from `start` by halves until it is too much, then between the two; the best good trial. `None`: not even the lowest.
pub fn highest(start: u32, mut attempt: impl FnMut(u32) -> Result<Trial>) -> Result<Option<Trial>> {
    let (mut best, mut bad): (Option<Trial>, u32) = (None, RATE_MAX);
    let mut rate = start.clamp(RATE_MIN, RATE_MAX);
    loop {
        let trial = attempt(rate)?;
        if trial.is_good() {
            best = Some(trial);
        } else {
            bad = rate;
        }
        let good = best.map_or(0, |b| b.asked);
        rate = match (good, bad) {
            (0, bad) if bad <= RATE_MIN => return Ok(None),
            (0, bad) => (bad / 2).max(RATE_MIN),
            (good, bad) if f64::from(bad) / f64::from(good) < NEAR => return Ok(best),
            (good, RATE_MAX) => (good + good / 2).min(RATE_MAX - 1),
            (good, bad) => good.midpoint(bad),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_of(limit: u32) -> impl FnMut(u32) -> Result<Trial> {
        move |asked| {
            let lost = if asked > limit { 0.3 } else { 0.0 };
            Ok(Trial { asked, rate: f64::from(asked) * (1.0 - lost), lost, cpu: 1.0 })
        }
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for (limit, start) in [(15_000, 500), (187, 2000), (40_000, 39_000), (79_999, 100)] {
            let found = highest(start, server_of(limit)).unwrap().unwrap().asked;
            assert!(found <= limit && f64::from(found) * NEAR * 1.01 > f64::from(limit), "{limit}: {found}");
        }
        assert_eq!(highest(500, server_of(0)).unwrap(), None);
    }
}
