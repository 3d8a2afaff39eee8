//! The one place of the server that reads the clock. Everything else is handed a [`Clock`] or a [`Time`].

use crate::machine::Time;
use std::{fmt, sync::Arc, time::UNIX_EPOCH};

/// Where time comes from: the system in production, a test's own hand elsewhere.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The system's clock. One before 1970 counts as 1970.
    #[allow(clippy::disallowed_methods)]
    pub fn system() -> Self {
        Self::new(|| {
            let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
        })
    }

    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
