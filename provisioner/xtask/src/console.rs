//! What a person sees: one line a step, with its time.

use anyhow::Result;
use std::{
    io::{IsTerminal, Write},
    time::Instant,
};

/// Whether a step had to do anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Made(String),
    /// Nothing to do: it is there and as it would be made now.
    Kept(String),
}

/// Runs `work`, telling its name before and its outcome after.
pub fn step(name: &str, work: impl FnOnce() -> Result<Done>) -> Result<()> {
    let terminal = std::io::stderr().is_terminal();
    if terminal {
        eprint!("  …     {name}");
        let _ = std::io::stderr().flush();
    }
    let began = Instant::now();
    let done = work();
    let start = if terminal { "\r\x1b[2K" } else { "" };
    let seconds = began.elapsed().as_secs_f64();
    match &done {
        Ok(Done::Made(what)) => eprintln!("{start}  made  {name}: {what} ({seconds:.1} s)"),
        Ok(Done::Kept(what)) => eprintln!("{start}  kept  {name}: {what}"),
        Err(_) => eprintln!("{start}  FAIL  {name} ({seconds:.1} s)"),
    }
    done.map(|_| ())
}

/// A heading between steps.
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// `12.3 MiB`.
pub fn mib(bytes: u64) -> String {
    // Shown with one digit: what f64 cannot hold exactly does not show.
    #[allow(clippy::cast_precision_loss)]
    let mib = bytes as f64 / f64::from(1 << 20);
    format!("{mib:.1} MiB")
}
