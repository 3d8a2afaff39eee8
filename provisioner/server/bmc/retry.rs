//! PURE. Whether and when a request is sent again.

use std::time::Duration;

/// How patient: the waits are `base`, twice that, and so on up to `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub base: Duration,
    pub cap: Duration,
    /// Requests in all.
    pub attempts: u32,
}

impl Patience {
    /// iDRACs are away for up to 20 s at a time: twelve attempts make about 27 s.
    pub const USUAL: Self =
        Self { base: Duration::from_millis(250), cap: Duration::from_secs(3), attempts: 12 };
}

/// The longest a `Retry-After` is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What happened to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It never left: no connection.
    NotSent,
    /// It left; the answer was lost, cut or unreadable. It may have been carried out.
    Lost,
    /// An answer with this status, and the wait it asked for.
    Status(u16, Option<Duration>),
}

impl Fault {
    /// Whether the BMC surely did nothing. A 500 is no promise: iDRACs answer it after having done the work.
    pub fn surely_not_done(self) -> bool {
        match self {
            Self::NotSent => true,
            Self::Lost => false,
            Self::Status(status, _) => (400..500).contains(&status) || status == 503,
        }
    }

    fn passes(self) -> bool {
        match self {
            Self::NotSent | Self::Lost => true,
            Self::Status(status, _) => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
        }
    }
}

/// The wait before the next attempt, or `None` to give up. `attempt` counts from 1; `jitter` is any random byte (a
/// rack that lost power must not ask in step).
pub fn again(patience: Patience, attempt: u32, fault: Fault, jitter: u8) -> Option<Duration> {
    if attempt >= patience.attempts || !fault.passes() {
        return None;
    }
    let doubled =
        patience.base.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    let wait = doubled.min(patience.cap);
    let jittered = wait + wait.mul_f32(f32::from(jitter) / 1024.0);
    match fault {
        Fault::Status(_, Some(asked)) => Some(asked.min(LONGEST_RETRY_AFTER).max(jittered)),
        _ => Some(jittered),
    }
}

/// Reads a `Retry-After` of seconds. A date needs the BMC's clock, which is often wrong: it counts as the usual wait.
pub fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let p = Patience { base: Duration::from_secs(1), cap: Duration::from_secs(3), attempts: 4 };
        let s = |n| Some(Duration::from_secs(n));
        for (attempt, fault, wait) in [
            (1, Fault::Lost, s(1)),
            (2, Fault::NotSent, s(2)),
            (3, Fault::Status(503, None), s(3)),
            (4, Fault::Lost, None),
            (1, Fault::Status(503, s(7)), s(7)),
            (1, Fault::Status(503, s(7200)), s(60)),
            (1, Fault::Status(503, s(0)), s(1)),
            (1, Fault::Status(404, None), None),
            (1, Fault::Status(401, None), None),
            (1, Fault::Status(400, s(3)), None),
        ] {
            assert_eq!(again(p, attempt, fault, 0), wait, "{attempt} {fault:?}");
        }
    }

    proptest! {
        #[test]
        fn it_ends_and_never_waits_long(status: u16, asked: Option<u32>, jitter: u8) {
            let fault = Fault::Status(status, asked.map(|s| Duration::from_secs(s.into())));
            let mut attempt = 1;
            while let Some(wait) = again(Patience::USUAL, attempt, fault, jitter) {
                prop_assert!(wait <= LONGEST_RETRY_AFTER);
                attempt += 1;
            }
            prop_assert!(attempt <= Patience::USUAL.attempts);
        }
    }
}
