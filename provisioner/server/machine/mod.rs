//! PURE. What a machine is and the questions asked of it: [`lifecycle::on`] (what did this event change),
//! [`wants::wants`] (what must be done next), [`boot::boots`] (what does it boot) and [`boot::orders`] (what does its
//! agent do next). Values in, values out; no clock, no randomness, no I/O.

pub mod boot;
mod config_url;
pub mod event;
pub mod hold;
pub mod join;
pub mod lifecycle;
mod read_back;
pub mod state;
pub mod time;
pub mod wants;

pub use event::{ActResult, Event, Refusal, RefusalKind, Verdict};
pub use lifecycle::on;
pub use state::{Act, Machine, MachineId};
pub use time::Time;

#[cfg(test)]
mod config_url_tests;
#[cfg(test)]
mod tests;
