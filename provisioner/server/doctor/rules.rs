//! The rules, in the order of certainty. Each is a pure function from a case to at most one finding, and silent where
//! the machine gets on.

mod answers;
#[cfg(test)]
pub use answers::reason;
mod beyond;
mod files;
mod silence;

use super::{Case, Finding};

pub struct Rule {
    /// Looks only where no rule before it has found anything: it explains what is left.
    pub only_alone: bool,
    pub look: fn(&Case) -> Option<Finding>,
}

const fn rule(look: fn(&Case) -> Option<Finding>) -> Rule {
    Rule { only_alone: false, look }
}

const fn alone(look: fn(&Case) -> Option<Finding>) -> Rule {
    Rule { only_alone: true, look }
}

pub const ALL: &[Rule] = &[
    rule(answers::rogue),
    rule(files::chain_loop),
    rule(answers::pool_exhausted),
    rule(answers::no_subnet),
    rule(answers::no_address_given),
    rule(answers::limited),
    rule(answers::refused_address),
    rule(answers::no_boot_file),
    rule(answers::not_declared),
    rule(files::mtu),
    rule(files::unheard),
    rule(files::stalled),
    rule(files::refused),
    rule(files::http_refused),
    rule(files::http_broken),
    rule(files::wrong_architecture),
    alone(files::not_started),
    rule(answers::port_4011),
    alone(answers::no_request),
    alone(answers::not_fetched),
    rule(beyond::refused),
    alone(beyond::agent_silent),
    alone(silence::boot_order),
    alone(silence::nothing_heard),
    alone(beyond::waits),
];

fn found(
    rule: &'static str,
    at: crate::machine::Time,
    cause: impl Into<String>,
    todo: impl Into<String>,
) -> Option<Finding> {
    Some(Finding { rule, cause: cause.into(), todo: todo.into(), at: Some(at) })
}
