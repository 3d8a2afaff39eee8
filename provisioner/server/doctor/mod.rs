//! PURE. Why a machine is stuck: the signs that were heard of it, in their order, to findings that name a cause and say
//! what to do.
//!
//! In: a [`Case`], made of [`sign::Sign`]s (kept in the store by `serve`), the machine's state and the time. Out:
//! [`Finding`]s, the most likely first; none of a machine that gets on.

pub mod case;
pub mod file_kind;
mod rules;
pub mod sign;

pub use case::{Case, Entry};
pub use sign::Sign;

use crate::machine::Time;
use serde::Serialize;

/// One cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// One word for programs: `rogue-dhcp`, `tftp-mtu`, …
    pub rule: &'static str,
    /// What is wrong, with what was seen of it.
    pub cause: String,
    /// What to do about it.
    pub todo: String,
    /// The sign that shows it.
    pub at: Option<Time>,
}

/// Looks at a case with every rule. What one rule explains, later ones do not explain again.
pub fn diagnose(case: &Case) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for rule in rules::ALL {
        if !findings.is_empty() && rule.only_alone {
            continue;
        }
        findings.extend((rule.look)(case));
    }
    findings
}

#[cfg(test)]
mod tests;
