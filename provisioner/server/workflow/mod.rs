//! Runs workflows: folds events into machines, asks what each wants, and has it done.
//!
//! In: events appended by the edges. Out: machine rows, audit rows, verdicts, acts. [`engine`] is the only writer of
//! machine state; [`journal`] is what it needs of a store, so that the same turn runs under the seeded simulation;
//! [`perform`] does one act and answers with a result.

pub mod declare;
pub mod discover;
pub mod engine;
pub mod journal;
pub mod perform;
pub mod plan;
pub mod turn;

pub use engine::{Engine, Hands};
