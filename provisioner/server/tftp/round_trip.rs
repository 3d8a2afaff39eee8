//! PURE. How long an answer may take, from how long answers took: RFC 6298's estimate, for one transfer.

use std::time::Duration;

/// Before anything was measured. A lost first packet costs this, and a slow client only hears it twice.
const FIRST: Duration = Duration::from_millis(500);
/// Firmware that polls its card every 10 ms answers unevenly.
const LEAST: Duration = Duration::from_millis(20);
pub const MOST: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, Default)]
pub struct RoundTrip {
    /// Smoothed trip and its mean deviation.
    measured: Option<(Duration, Duration)>,
    /// What the client asked for (RFC 2349), until there is something measured.
    asked: Option<Duration>,
}

impl RoundTrip {
    pub fn ask(&mut self, timeout: Duration) {
        self.asked = Some(timeout);
    }

    /// One packet was answered after `trip`. Not for packets that were sent twice (Karn): which was answered?
    pub fn measure(&mut self, trip: Duration) {
        self.measured = Some(match self.measured {
            None => (trip, trip / 2),
            Some((smoothed, deviation)) => {
                ((smoothed * 7 + trip) / 8, (deviation * 3 + smoothed.abs_diff(trip)) / 4)
            }
        });
    }

    /// The retransmission time after `silences` of them in a row.
    pub fn wait(&self, silences: u32) -> Duration {
        let once = match (self.measured, self.asked) {
            (Some((smoothed, deviation)), _) => (smoothed + deviation * 4).max(LEAST),
            (None, Some(asked)) => asked,
            (None, None) => FIRST,
        };
        once.saturating_mul(2u32.saturating_pow(silences)).min(MOST)
    }

    /// The shortest time in which an answer to what was just sent can be here.
    pub fn least(&self) -> Duration {
        self.measured.map_or(FIRST, |(smoothed, _)| smoothed / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_wait_follows_the_measured_trips() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.wait(0), FIRST);
        round_trip.measure(ms(100));
        assert_eq!(round_trip.wait(0), ms(300), "RFC 6298 §2.2: R + 4 · R/2");
        for _ in 0..50 {
            round_trip.measure(ms(100));
        }
        assert!((ms(100)..ms(110)).contains(&round_trip.wait(0)), "{:?}", round_trip.wait(0));
        round_trip.measure(ms(200));
        assert!(round_trip.wait(0) > ms(200), "one late answer widens it at once");
    }

    #[test]
    fn it_doubles_with_each_silence_between_a_floor_and_a_ceiling() {
        let mut round_trip = RoundTrip::default();
        round_trip.measure(Duration::from_micros(50));
        assert_eq!([0, 1, 2, 3].map(|n| round_trip.wait(n)), [20, 40, 80, 160].map(ms));
        assert_eq!(round_trip.wait(u32::MAX), MOST);
    }

    #[test]
    fn rfc2349_the_asked_timeout_counts_until_something_is_measured() {
        let mut round_trip = RoundTrip::default();
        round_trip.ask(ms(3000));
        assert_eq!(round_trip.wait(0), ms(3000));
        round_trip.measure(ms(10));
        assert_eq!(round_trip.wait(0), ms(30));
    }
}
