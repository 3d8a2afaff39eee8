//! How far the taking in of an image is, for whoever asks.

use serde::Serialize;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing is done with it, and nothing has to be known of it yet.
    #[default]
    Declared,
    /// Another image is taken in.
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
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of the manifest, once it is taken in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// Cheap to clone; all clones are of one image.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    taken: Mutex<Taken>,
    done: AtomicU64,
}

impl Progress {
    pub fn now(&self) -> Taken {
        let taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Taken { done: self.0.done.load(Ordering::Relaxed), ..taken }
    }

    fn set(&self, taken: Taken) {
        self.0.done.store(taken.done, Ordering::Relaxed);
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = taken;
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

    pub fn ready(&self, root: Option<String>) {
        self.set(Taken { phase: Phase::Ready, root, ..Taken::default() });
    }
}
