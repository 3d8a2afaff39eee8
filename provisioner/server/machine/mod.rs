//! PURE. What a machine is and the three questions asked of it: [`lifecycle::on`] (what did this event change),
//! [`lifecycle::wants`] (what must be done next) and [`boot::boots`] (what does it boot).
//! Values in, values out; no clock, no randomness, no I/O.

pub mod time;

pub use time::Time;
