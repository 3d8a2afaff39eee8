//! DHCP against captured firmware, every recorded packet at hand, and real clients in network namespaces.

mod advertise;
mod captures;
mod clients;
mod firmware;
pub mod house;
mod namespace;
mod options;
mod proxy;
mod rfc2131;
mod storm;
