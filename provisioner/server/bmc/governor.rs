//! PURE. When a BMC may be asked: at most one change in flight (I10), not too often, not again and again with a
//! password it refuses (most lock the account after three to five), and not while it is plainly away.
//! The caller keeps one [`Governor`] a BMC, asks [`Governor::begin`] before and tells [`Governor::end`] after.

use super::Cause;
use crate::machine::Time;
use std::time::Duration;

/// The numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Between the starts of two changes.
    pub change_gap: Duration,
    /// Between the starts of two reads.
    pub read_gap: Duration,
    /// A change that was never ended is given up after this.
    pub longest_change: Duration,
    /// Refused logins in a row until the breaker opens.
    pub refusals: u32,
    /// One probe in this span while the breaker for logins is open.
    pub login_probe: Duration,
    /// Times unreachable in a row until the circuit opens.
    pub absences: u32,
    /// The first wait of an open circuit; it doubles up to `longest_absence`.
    pub absence: Duration,
    pub longest_absence: Duration,
}

impl Policy {
    pub const USUAL: Self = Self {
        change_gap: Duration::from_secs(5),
        read_gap: Duration::from_millis(500),
        longest_change: Duration::from_secs(600),
        refusals: 2,
        login_probe: Duration::from_secs(15 * 60),
        absences: 3,
        absence: Duration::from_secs(15),
        longest_absence: Duration::from_secs(300),
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Change,
}

/// Why a BMC may not be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    #[error("another change of this machine's BMC is under way")]
    InFlight,
    #[error("the BMC was asked a moment ago")]
    TooSoon,
    #[error("the BMC refused our password; one try every 15 minutes until the credentials are corrected")]
    LoginsRefused,
    #[error("the BMC does not answer; waiting before the next try")]
    Away,
}

/// May not be asked before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub until: Time,
    pub why: Hold,
}

/// What is remembered of one BMC. A value: cloned, compared, rebuilt empty after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Governor {
    change_since: Option<Time>,
    last_change: Option<Time>,
    last_read: Option<Time>,
    refused: u32,
    last_refused: Option<Time>,
    absent: u32,
    last_absent: Option<Time>,
}

impl Governor {
    /// Whether a request of this kind may start at `now`; if so it counts as started.
    pub fn begin(&mut self, policy: &Policy, kind: Kind, now: Time) -> Result<(), Wait> {
        if let Some(wait) = self.wait(policy, kind, now) {
            return Err(wait);
        }
        match kind {
            Kind::Read => self.last_read = Some(now),
            Kind::Change => {
                self.change_since = Some(now);
                self.last_change = Some(now);
            }
        }
        // A probe through an open breaker counts at once: two callers must not both be the probe.
        if self.refused >= policy.refusals {
            self.last_refused = Some(now);
        }
        if self.absent >= policy.absences {
            self.last_absent = Some(now);
        }
        Ok(())
    }

    /// The result of what was begun: `None` for success.
    pub fn end(&mut self, kind: Kind, now: Time, failure: Option<&Cause>) {
        if kind == Kind::Change {
            self.change_since = None;
        }
        match failure {
            Some(Cause::Unauthorized | Cause::LockedOut { .. }) => {
                self.refused = self.refused.saturating_add(1);
                self.last_refused = Some(now);
                self.absent = 0;
            }
            Some(Cause::Unreachable(_) | Cause::Timeout { .. }) => {
                self.absent = self.absent.saturating_add(1);
                self.last_absent = Some(now);
            }
            // It answered and let us in, whatever it then said.
            _ => (self.refused, self.absent) = (0, 0),
        }
    }

    /// New credentials or a new address were declared: what was learnt about the old ones is void.
    pub fn redeclared(&mut self) {
        (self.refused, self.absent) = (0, 0);
    }

    fn wait(&self, policy: &Policy, kind: Kind, now: Time) -> Option<Wait> {
        let holds = [
            (self.change_since.filter(|_| kind == Kind::Change), policy.longest_change, Hold::InFlight),
            (
                self.last_refused.filter(|_| self.refused >= policy.refusals),
                policy.login_probe,
                Hold::LoginsRefused,
            ),
            (self.last_absent.filter(|_| self.absent >= policy.absences), self.absence(policy), Hold::Away),
            (self.last_change.filter(|_| kind == Kind::Change), policy.change_gap, Hold::TooSoon),
            (self.last_read.filter(|_| kind == Kind::Read), policy.read_gap, Hold::TooSoon),
        ];
        let waits =
            holds.into_iter().filter_map(|(since, span, why)| Some(Wait { until: since? + span, why }));
        waits.filter(|wait| wait.until > now).max_by_key(|wait| wait.until)
    }

    fn absence(&self, policy: &Policy) -> Duration {
        let doublings = self.absent.saturating_sub(policy.absences).min(16);
        policy.absence.saturating_mul(1 << doublings).min(policy.longest_absence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const P: Policy = Policy::USUAL;

    fn at(seconds: i64) -> Time {
        Time(seconds * 1000)
    }

    #[test]
    fn one_change_at_a_time_and_a_lost_one_is_given_up() {
        let mut g = Governor::default();
        assert!(g.begin(&P, Kind::Change, at(0)).is_ok());
        assert_eq!(g.begin(&P, Kind::Change, at(300)), Err(Wait { until: at(600), why: Hold::InFlight }));
        assert!(g.begin(&P, Kind::Read, at(300)).is_ok(), "reading goes on");
        assert!(g.clone().begin(&P, Kind::Change, at(600)).is_ok());
        g.end(Kind::Change, at(301), None);
        assert!(g.begin(&P, Kind::Change, at(302)).is_ok());
        g.end(Kind::Change, at(303), None);
        assert_eq!(g.begin(&P, Kind::Change, at(304)), Err(Wait { until: at(307), why: Hold::TooSoon }));
    }

    #[test]
    fn two_refused_logins_open_the_breaker_and_one_probe_passes_in_15_minutes() {
        let mut g = Governor::default();
        for t in [0, 10] {
            assert!(g.begin(&P, Kind::Read, at(t)).is_ok());
            g.end(Kind::Read, at(t), Some(&Cause::Unauthorized));
        }
        let closed = Wait { until: at(910), why: Hold::LoginsRefused };
        assert_eq!(g.begin(&P, Kind::Read, at(20)), Err(closed));
        assert_eq!(g.begin(&P, Kind::Change, at(909)), Err(closed));
        assert!(g.begin(&P, Kind::Read, at(910)).is_ok());
        assert_eq!(
            g.begin(&P, Kind::Change, at(911)),
            Err(Wait { until: at(1810), why: Hold::LoginsRefused })
        );
        g.end(Kind::Read, at(911), None);
        assert!(g.begin(&P, Kind::Change, at(912)).is_ok());
    }

    #[test]
    fn the_circuit_opens_after_three_absences_and_waits_longer_and_longer() {
        let mut g = Governor::default();
        let away = Cause::Unreachable("refused".into());
        let mut now = 0;
        let mut waits = vec![];
        for _ in 0..9 {
            while let Err(wait) = g.begin(&P, Kind::Read, at(now)) {
                waits.push(wait.until.since(at(now)).as_secs());
                now = wait.until.0 / 1000 + 1;
            }
            g.end(Kind::Read, at(now), Some(&away));
            now += 1;
        }
        assert_eq!(waits, [14, 29, 59, 119, 239, 299]);
        g.redeclared();
        assert!(g.begin(&P, Kind::Read, at(now)).is_ok());
    }

    proptest! {
        #[test]
        fn never_two_changes_at_once(steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0_i64..400), 1..200)) {
            let (mut g, mut now, mut in_flight) = (Governor::default(), 0, None::<i64>);
            for (change, ends, pause) in steps {
                now += pause;
                let kind = if change { Kind::Change } else { Kind::Read };
                if g.begin(&P, kind, at(now)).is_ok() {
                    if change {
                        prop_assert!(in_flight.is_none_or(|since| now - since >= 600));
                        in_flight = Some(now);
                    }
                    if ends {
                        g.end(kind, at(now), None);
                        in_flight = in_flight.filter(|_| !change);
                    }
                }
            }
        }

        #[test]
        fn a_wrong_password_is_tried_twice_and_then_every_15_minutes(
            steps in prop::collection::vec((any::<bool>(), 0_i64..2000), 1..200),
        ) {
            let (mut g, mut now, mut tries) = (Governor::default(), 0, vec![]);
            for (change, pause) in steps {
                now += pause;
                let kind = if change { Kind::Change } else { Kind::Read };
                if g.begin(&P, kind, at(now)).is_ok() {
                    g.end(kind, at(now), Some(&Cause::Unauthorized));
                    tries.push(now);
                }
            }
            prop_assert!(tries.windows(2).skip(1).all(|pair| pair[1] - pair[0] >= 900), "{tries:?}");
        }
    }
}
