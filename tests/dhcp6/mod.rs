//! DHCPv6: one named test for each rule, captured firmware, every recorded packet at hand, and real clients and a real
//! relay in network namespaces.

mod clients;
mod firmware;
pub mod house;
mod identity;
mod rules;
