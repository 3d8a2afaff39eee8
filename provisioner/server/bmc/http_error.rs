//! What became of a request to a BMC: what a retry needs to know, what nv-redfish needs to know, and the cause it is
//! for an operator when nothing more is tried.

use super::{
    Cause, Pin,
    document::{has_message, message_of},
    retry::Fault,
};
use nv_redfish::{
    bmc_http::{CacheableError, ModificationDecodeError, RejectedUriReferenceError, RequestError},
    core::{BmcError as NvBmcError, BmcErrorClass, DecodeError},
};
use std::{fmt, time::Duration};

/// What became of a request.
#[derive(Debug)]
pub enum HttpError {
    NotSent(String),
    PinChanged {
        expected: Pin,
        seen: Pin,
    },
    Lost(String),
    Status {
        status: u16,
        body: String,
        retry_after: Option<Duration>,
    },
    /// A success whose body is not what Redfish prescribes.
    Garbled(String),
    Undecodable(DecodeError),
    /// Not possible, or not by us; never sent.
    Rejected(String),
}

impl HttpError {
    /// Whether sending again is pointless whatever the time.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::PinChanged { .. } | Self::Rejected(_))
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub fn fault(&self) -> Fault {
        match self {
            Self::NotSent(_) | Self::PinChanged { .. } | Self::Rejected(_) => Fault::NotSent,
            Self::Lost(_) | Self::Garbled(_) | Self::Undecodable(_) => Fault::Lost,
            Self::Status { status, retry_after, .. } => Fault::Status(*status, *retry_after),
        }
    }

    /// The class of this error when nothing more is tried.
    pub fn into_cause(self) -> Cause {
        match self {
            Self::NotSent(why) => Cause::Unreachable(why),
            Self::PinChanged { expected, seen } => Cause::TlsPinChanged { expected, seen },
            Self::Lost(why) | Self::Garbled(why) => Cause::Protocol(why),
            Self::Undecodable(error) => Cause::Protocol(error.to_string()),
            Self::Rejected(why) => Cause::Refused { status: 0, message: why },
            Self::Status { body, .. } if has_message(&body, "PasswordChangeRequired") => {
                Cause::PasswordChangeRequired
            }
            Self::Status { body, retry_after, .. }
                if has_message(&body, "AccountLocked") || has_message(&body, "AccountLockedOut") =>
            {
                Cause::LockedOut { retry_after }
            }
            Self::Status { status: 401, .. } => Cause::Unauthorized,
            Self::Status { status, body, .. } => Cause::Refused { status, message: message_of(&body) },
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Lost(why) | Self::Garbled(why) | Self::Rejected(why) => {
                f.write_str(why)
            }
            Self::PinChanged { .. } => f.write_str("its TLS key is not the pinned one"),
            Self::Status { status, body, .. } => write!(f, "HTTP {status}: {}", message_of(body)),
            Self::Undecodable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HttpError {}

impl NvBmcError for HttpError {
    fn error_class(&self) -> BmcErrorClass {
        match self {
            Self::Status { status, .. } => BmcErrorClass::HttpResponse { status: *status },
            Self::Garbled(_) | Self::Undecodable(_) => BmcErrorClass::ResponseParse,
            Self::NotSent(_) | Self::Lost(_) | Self::PinChanged { .. } => BmcErrorClass::Transport,
            Self::Rejected(_) => BmcErrorClass::Other,
        }
    }

    fn response_body(&self) -> Option<&str> {
        match self {
            Self::Status { body, .. } => Some(body),
            _ => None,
        }
    }

    fn into_decode_error(self) -> Result<DecodeError, Self> {
        match self {
            Self::Undecodable(error) => Ok(error),
            other => Err(other),
        }
    }
}

/// nv-redfish's cache is switched off (power states must be fresh): these are never met.
impl CacheableError for HttpError {
    fn is_cached(&self) -> bool {
        false
    }
    fn cache_miss() -> Self {
        Self::Garbled("answered \"not modified\" to an unconditional request".to_owned())
    }
    fn cache_error(reason: String) -> Self {
        Self::Garbled(reason)
    }
}

impl RequestError for HttpError {
    fn rejected_uri_reference(error: RejectedUriReferenceError) -> Self {
        Self::Rejected(error.reason)
    }
}

impl From<ModificationDecodeError> for HttpError {
    fn from(error: ModificationDecodeError) -> Self {
        match error {
            // Success without a task where one was expected: nv-redfish's quirks look at the status.
            ModificationDecodeError::InvalidResponse { status, text, .. } => {
                Self::Status { status: status.as_u16(), body: text, retry_after: None }
            }
            ModificationDecodeError::Json(error) => {
                Self::Garbled(format!("the answer is not JSON ({error})"))
            }
            ModificationDecodeError::Decode(error) => Self::Undecodable(error),
            other => Self::Garbled(other.to_string()),
        }
    }
}
