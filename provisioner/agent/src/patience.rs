//! How long to wait, how often to try again, when to give up.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Times for talking to a server that may be away for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub connect: Duration,
    /// Longest silence in the middle of an answer.
    pub stall: Duration,
    /// Pause before the first retry; each further one is twice as long, up to `longest_pause`.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// Without any progress for this long: give up.
    pub give_up_after: Duration,
    /// A whole image must have come within this time.
    pub whole_image: Duration,
    /// How many wrong answers in a row (not silence, not refusals to connect) are one too many.
    pub wrong_answers: u32,
    /// How long a list of disks must stand still before it is believed, and pause between looks.
    pub settle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
            give_up_after: Duration::from_secs(3600),
            whole_image: Duration::from_secs(12 * 3600),
            wrong_answers: 6,
            settle: Duration::from_millis(250),
        }
    }
}

impl Patience {
    /// Pause before retry number `attempt`, counted from 0.
    pub fn pause(&self, attempt: u32) -> Duration {
        self.first_pause.saturating_mul(1 << attempt.min(16)).min(self.longest_pause)
    }
}

/// Sleeps, but wakes soon after `stop` is set.
pub fn sleep_unless(stop: &AtomicBool, pause: Duration) {
    let step = Duration::from_millis(50);
    let mut left = pause;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        let now = left.min(step);
        std::thread::sleep(now);
        left = left.saturating_sub(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let patience = Patience::default();
        assert_eq!(patience.pause(0), Duration::from_millis(250));
        assert_eq!(patience.pause(2), Duration::from_millis(1000));
        assert_eq!(patience.pause(u32::MAX), patience.longest_pause);
    }
}
