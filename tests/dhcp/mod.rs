//! DHCP against captured firmware, every recorded packet at hand, and real clients in network namespaces.

mod advertise;
pub mod captures;
mod clients;
mod firmware;
mod fleet;
pub mod house;
pub mod namespace;
mod options;
mod proxy;
mod rfc2131;
mod storm;
