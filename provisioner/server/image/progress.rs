//! How far the taking in of an image is, for whoever asks.

use super::pace::{Pace, about, size};
use crate::machine::Time;
use serde::Serialize;
use std::{
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// So much of an error is in a sentence, that the rest is still seen.
const WHY_MAX: usize = 160;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing is done with it, and nothing has to be known of it yet.
    #[default]
    Declared,
    /// For its turn: others are fetched, or taken in.
    Waiting,
    Fetching,
    /// Hashes and signatures.
    Checking,
    /// Into chunks.
    TakingIn,
    Ready,
    Failed,
}

/// Where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Taken {
    pub phase: Phase,
    /// Bytes of this phase that are done.
    pub done: u64,
    /// Of how many, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// In the last seconds; absent where it cannot be told yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Of this phase, if it goes on like that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Epoch milliseconds; absent where trying again helps only when somebody has changed something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_ms: Option<i64>,
    /// Of the manifest, once it is taken in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

impl Taken {
    /// `fetching, 34 %, 12 MB/s, about 3 min`; `failed: why, next try at 2026-11-22T23:41:05Z`.
    pub fn sentence(&self) -> String {
        let mut said = match self.phase {
            Phase::Declared => "not begun",
            Phase::Waiting => "waiting for its turn",
            Phase::Fetching => "fetching",
            Phase::Checking => "checking",
            Phase::TakingIn => "taking in",
            Phase::Ready => "ready",
            Phase::Failed => "failed",
        }
        .to_owned();
        // A String takes whatever is written.
        let _ = match self.phase {
            Phase::Fetching | Phase::TakingIn => self.moving(&mut said),
            Phase::Failed => self.failed(&mut said),
            _ => Ok(()),
        };
        said
    }

    fn moving(&self, said: &mut String) -> std::fmt::Result {
        match self.of.filter(|of| *of > 0) {
            // Never 100 % before it is whole.
            Some(of) => write!(said, ", {} %", (u128::from(self.done) * 100 / u128::from(of)).min(99))?,
            None if self.done > 0 => write!(said, ", {}", size(self.done))?,
            None => {}
        }
        match self.bytes_per_second {
            Some(0) => write!(said, ", nothing comes")?,
            Some(rate) => write!(said, ", {}/s", size(rate))?,
            None => {}
        }
        match self.seconds_left {
            Some(seconds) => write!(said, ", about {}", about(Duration::from_secs(seconds))),
            None => Ok(()),
        }
    }

    fn failed(&self, said: &mut String) -> std::fmt::Result {
        if let Some(error) = &self.error {
            let short: String = error.chars().take(WHY_MAX).collect();
            write!(said, ": {short}{}", if short.len() < error.len() { "…" } else { "" })?;
        }
        match self.next_try_ms.and_then(date) {
            Some(date) => write!(said, ", next try at {date}"),
            None => Ok(()),
        }
    }
}

fn date(ms: i64) -> Option<String> {
    let at = time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).ok()?;
    at.format(&time::format_description::well_known::Rfc3339).ok()
}

/// Cheap to clone; all clones are of one image.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    taken: Mutex<(Taken, Pace)>,
    done: AtomicU64,
    /// Held by whoever makes it ready: the others wait, so that this tells of one work.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Progress {
    pub fn now(&self) -> Taken {
        let (taken, pace) = &*self.taken();
        let moves = matches!(taken.phase, Phase::Fetching | Phase::TakingIn);
        let left = taken.of.filter(|_| moves).and_then(|of| pace.left(of));
        Taken {
            done: self.0.done.load(Ordering::Relaxed),
            bytes_per_second: pace.rate().filter(|_| moves),
            seconds_left: left.map(|left| left.as_secs()),
            ..taken.clone()
        }
    }

    /// Looks how far it is: the rate is made of these looks.
    pub fn look(&self, now: Time) {
        let mut taken = self.taken();
        if matches!(taken.0.phase, Phase::Fetching | Phase::TakingIn) {
            let done = self.0.done.load(Ordering::Relaxed);
            taken.1.note(now, done);
        }
    }

    pub(super) fn turn(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.0.turn)
    }

    fn taken(&self) -> MutexGuard<'_, (Taken, Pace)> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, next: Taken) {
        let mut taken = self.taken();
        self.0.done.store(next.done, Ordering::Relaxed);
        // A cut that is gone on with does not change how fast it was.
        let pace = if taken.0.phase == next.phase { std::mem::take(&mut taken.1) } else { Pace::default() };
        *taken = (next, pace);
    }

    pub fn enter(&self, phase: Phase, of: Option<u64>) {
        self.set(Taken { phase, of, ..Taken::default() });
    }

    pub fn fetching(&self, done: u64, of: Option<u64>) {
        self.set(Taken { phase: Phase::Fetching, done, of, ..Taken::default() });
    }

    /// Bytes of this phase.
    pub fn done(&self) -> &AtomicU64 {
        &self.0.done
    }

    pub fn failed(&self, error: String) {
        self.set(Taken { phase: Phase::Failed, error: Some(error), ..Taken::default() });
    }

    /// When somebody tries again what has failed.
    pub fn tried_again_at(&self, next: Option<Time>) {
        let mut taken = self.taken();
        if taken.0.phase == Phase::Failed {
            taken.0.next_try_ms = next.map(|at| at.0);
        }
    }

    pub fn ready(&self, root: Option<String>) {
        self.set(Taken { phase: Phase::Ready, root, ..Taken::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_far_it_is_how_fast_it_goes_and_when_it_is_tried_again() {
        let progress = Progress::default();
        assert_eq!(progress.now().sentence(), "not begun");
        progress.enter(Phase::Waiting, None);
        assert_eq!(progress.now().sentence(), "waiting for its turn");
        // Resumed: what was there before says nothing of the rate.
        progress.fetching(1_000_000_000, Some(4_000_000_000));
        progress.look(Time(0));
        assert_eq!(progress.now().sentence(), "fetching, 25 %");
        progress.done().store(1_360_000_000, Ordering::Relaxed);
        progress.look(Time(10_000));
        assert_eq!(progress.now().sentence(), "fetching, 34 %, 36 MB/s, about 74 s");
        // A cut, gone on with at once.
        progress.fetching(1_360_000_000, Some(4_000_000_000));
        assert_eq!(progress.now().sentence(), "fetching, 34 %, 36 MB/s, about 74 s");
        progress.look(Time(60_000));
        progress.look(Time(70_000));
        progress.look(Time(80_000));
        assert_eq!(progress.now().sentence(), "fetching, 34 %, nothing comes");
        // Nobody says how large it is.
        progress.fetching(0, None);
        progress.look(Time(90_000));
        progress.done().store(24_000_000, Ordering::Relaxed);
        progress.look(Time(92_000));
        assert_eq!(progress.now().sentence(), "fetching, 24 MB, 12 MB/s");
        progress.enter(Phase::TakingIn, Some(10));
        progress.look(Time(93_000));
        assert_eq!(progress.now().sentence(), "taking in, 0 %");
        progress.done().store(10, Ordering::Relaxed);
        assert_eq!(progress.now().sentence(), "taking in, 99 %");
        progress.ready(None);
        assert_eq!(progress.now().sentence(), "ready");
    }

    #[test]
    fn what_has_failed_says_why_and_when_it_is_tried_again() {
        let progress = Progress::default();
        progress.tried_again_at(Some(Time(5)));
        assert_eq!(progress.now().sentence(), "not begun");
        progress.failed("no mirror has it".to_owned());
        assert_eq!(progress.now().sentence(), "failed: no mirror has it");
        progress.tried_again_at(Some(Time(1_795_000_000_000)));
        let said = "failed: no mirror has it, next try at 2026-11-18T11:06:40Z";
        assert_eq!(progress.now().sentence(), said);
        progress.enter(Phase::Checking, None);
        assert_eq!(progress.now().sentence(), "checking");
        progress.failed("é".repeat(500));
        assert_eq!(progress.now().sentence(), format!("failed: {}…", "é".repeat(160)));
        assert_eq!(progress.now().error.map(|error| error.chars().count()), Some(500));
    }
}
