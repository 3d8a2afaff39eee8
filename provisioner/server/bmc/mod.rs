//! Talks to a machine's BMC: who it is, is it on, boot once from the network, power. The engine sees only [`Bmc`];
//! [`redfish::Redfish`] is the real one. What must be sent is decided by pure functions ([`power`], [`boot`],
//! [`quirks`], [`retry`]); when a BMC may be asked at all by the pure [`governor`]. [`http`] holds the sockets. Who wants something of a BMC pays it a visit ([`visit::Visits::pay`]).
//!
//! In: a [`BmcTarget`] (address, credentials, pin) and a deadline per call. Out: an answer, or a [`BmcError`] that
//! says what an operator can do.

pub mod boot;
pub mod document;
pub mod error;
pub mod governor;
pub mod http;
pub mod http_error;
pub mod pin;
pub mod power;
pub mod quirks;
pub mod redfish;
pub mod reset;
pub mod retry;
pub mod session;
pub mod target;
pub mod visit;

pub use error::{BmcError, Cause};
pub use pin::Pin;
pub use target::{BmcAddress, BmcTarget};
pub use visit::{Visit, Visits};

use provisioner_wire::Mac;
use std::{future::Future, pin::Pin as Pinned, time::Duration};
use uuid::Uuid;

/// What a call to a BMC answers, some time later.
pub type Answer<'a, T> = Pinned<Box<dyn Future<Output = Result<T, BmcError>> + Send + 'a>>;

/// Who the BMC says the machine is. A claim of the hardware, to be compared with the declaration, never a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcIdentity {
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    /// The serial as SMBIOS (and so the agent) shows it: on Dell the service tag, elsewhere `SerialNumber`.
    pub serial: Option<String>,
    /// SMBIOS system UUID; `None` where the BMC gives none or all zeroes.
    pub uuid: Option<Uuid>,
    /// Unicast MACs of the machine's NICs (not the BMC's), sorted, each once.
    pub macs: Vec<Mac>,
    pub firmware_version: Option<String>,
    pub power: Power,
}

/// The power state as the BMC tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Power {
    On,
    Off,
    PoweringOn,
    PoweringOff,
    /// Missing, null, or a word no standard knows.
    Unknown,
}

/// How the next boot shall find its boot file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NetBoot {
    Pxe,
    /// UEFI HTTP Boot; with a URL the firmware is told where, without one it asks DHCP.
    UefiHttp {
        url: Option<String>,
    },
}

/// How long a boot override that was set will hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverrideSet {
    /// For one boot.
    Once,
    /// The BMC took "once" and answers "continuous" (sushy-emulator does): every boot goes to the network until
    /// [`Bmc::clear_boot_override`].
    Continuous,
}

/// A change of power that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowerChange {
    On,
    ForceOff,
    /// Asks the operating system; never falls back to force by itself.
    GracefulOff,
    /// Restart at once when on, on when off.
    Cycle,
}

/// One BMC, logged in or able to log in. Every call ends within the span it is given: with an answer, or with an
/// error that tells whether trying again later makes sense ([`BmcError::is_transient`]).
///
/// Changes read the world first and verify it after, so a call that is repeated does not do its work twice; the one
/// exception (a restart whose answer was lost and that the BMC gives no sign of) is reported as
/// [`Cause::Uncertain`].
pub trait Bmc: Send + Sync {
    fn identity(&self, within: Duration) -> Answer<'_, BmcIdentity>;
    fn power(&self, within: Duration) -> Answer<'_, Power>;
    /// Sets the override and reads it back. Does not touch the power.
    fn network_boot_once(&self, method: NetBoot, within: Duration) -> Answer<'_, OverrideSet>;
    fn clear_boot_override(&self, within: Duration) -> Answer<'_, ()>;
    /// Success means: the state was seen afterwards.
    fn set_power(&self, change: PowerChange, within: Duration) -> Answer<'_, ()>;
    /// The TLS key the BMC showed, to be stored and given in [`BmcTarget::pin`] from then on. `None` over plain HTTP.
    fn pin(&self) -> Option<Pin>;
    /// Ends the session. Must be called at the end also after an error: BMCs have four to eight sessions in all.
    fn close(self: Box<Self>, within: Duration) -> Answer<'static, ()>;
}

/// Makes [`Bmc`]s: the network in production, a simulation in tests of the engine.
pub trait BmcDoor: Send + Sync {
    fn open(&self, target: BmcTarget, within: Duration) -> Answer<'_, Box<dyn Bmc>>;
}
