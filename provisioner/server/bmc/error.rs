//! What can go wrong with a BMC, in classes that the engine can act on and words that an operator can.

use super::{Pin, governor::Wait};
use std::{fmt, time::Duration};

/// A failed call to a BMC. Never contains a password, a token or a whole document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("BMC {host}: {doing}: {cause}")]
pub struct BmcError {
    /// Host and port, as declared.
    pub host: String,
    /// What was being done, like "setting the boot override".
    pub doing: &'static str,
    pub cause: Cause,
}

impl BmcError {
    /// Whether the same call may succeed later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        self.cause.is_transient()
    }
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// No connection: wrong address, down, filtered, or no TLS there.
    Unreachable(String),
    /// Another key than the pinned one. A person must decide.
    TlsPinChanged { expected: Pin, seen: Pin },
    /// Not asked: our own governor holds the request back, for the BMC's sake.
    Held(Wait),
    /// The credentials are wrong.
    Unauthorized,
    /// The BMC, or our own breaker for its sake, refuses logins for a while.
    LockedOut { retry_after: Option<Duration> },
    /// The account must be given a new password first; nothing else is allowed to it.
    PasswordChangeRequired,
    /// The BMC answered no. Status 0: it was not asked, because what it offers rules it out.
    Refused { status: u16, message: String },
    /// The span ran out; the text is the last trouble seen.
    Timeout { after: Duration, last: Option<String> },
    /// Not the answer Redfish prescribes.
    Protocol(String),
    /// A change was sent, its answer lost, and the BMC gives no sign whether it was done.
    Uncertain(String),
    /// The declaration is unusable: bad URL, no such system.
    Misdeclared(String),
}

impl Cause {
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Timeout { .. }
            | Self::Uncertain(_)
            | Self::LockedOut { .. }
            | Self::Held(_) => true,
            Self::Refused { status, .. } => matches!(status, 408 | 409 | 429 | 500 | 502 | 503 | 504),
            Self::Protocol(_) => true,
            Self::TlsPinChanged { .. }
            | Self::Unauthorized
            | Self::PasswordChangeRequired
            | Self::Misdeclared(_) => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => {
                write!(f, "unreachable ({why}); check its address, its power and the management network")
            }
            Self::TlsPinChanged { expected, seen } => write!(
                f,
                "its TLS key changed (pinned {expected}, seen {seen}); if its certificate was renewed on purpose, \
                 re-pin the machine's BMC, otherwise someone may be in between"
            ),
            Self::Held(wait) => write!(f, "not asked: {}", wait.why),
            Self::Unauthorized => {
                f.write_str("user name or password is wrong; correct the machine's BMC credentials")
            }
            Self::LockedOut { retry_after: Some(span) } => {
                write!(f, "logins are locked out; next try in {} s", span.as_secs())
            }
            Self::LockedOut { retry_after: None } => {
                f.write_str("logins are locked out; unlock the account on the BMC")
            }
            Self::PasswordChangeRequired => f.write_str(
                "it wants a new password for this account before anything else; set one on the BMC",
            ),
            Self::Refused { status: 0, message } => write!(f, "not possible: {message}"),
            Self::Refused { status, message } => write!(f, "refused (HTTP {status}): {message}"),
            Self::Timeout { after, last } => {
                write!(f, "not done within {} s", after.as_secs_f32())?;
                last.as_ref().map_or(Ok(()), |last| write!(f, " (last: {last})"))
            }
            Self::Protocol(what) => write!(f, "answers what Redfish does not allow: {what}"),
            Self::Uncertain(what) => write!(f, "{what}; look at the machine before it is asked again"),
            Self::Misdeclared(what) => f.write_str(what),
        }
    }
}
