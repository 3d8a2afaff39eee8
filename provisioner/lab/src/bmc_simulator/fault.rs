//! What goes wrong, and at which call.

use std::time::Duration;

/// One fault at one call, counted from 1 since it was armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub nth: usize,
    pub kind: FaultKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// Answered with this status; nothing is done.
    Status(u16),
    /// The same, with `Retry-After` in seconds.
    RetryAfter(u16, u64),
    /// The connection closes; nothing is done.
    Reset,
    /// It is done, then the connection closes without an answer.
    Lost,
    /// It is done; half of the answer comes.
    Truncate,
    /// It is done; the answer is a web page.
    Html,
    /// It is done after this time.
    Delay(Duration),
    /// It is done, and answered with this status all the same.
    DoneButStatus(u16),
    /// All sessions are forgotten first.
    ForgetSessions,
}
