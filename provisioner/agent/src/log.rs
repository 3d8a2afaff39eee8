//! What the agent says: to the console at once, to the server a second later (see [`crate::report`]). Bounded: when the
//! server is away, the oldest lines go first.

use provisioner_wire::order::{LogLine, Step};
use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

const LINES_MAX: usize = 1000;
const LINE_CHARS_MAX: usize = 1000;

/// Shared by all threads of the agent.
#[derive(Debug, Default)]
pub struct Log {
    console: bool,
    lines: Mutex<VecDeque<LogLine>>,
    step: Mutex<Option<Step>>,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Log {
    /// Prints each line on standard output too.
    pub fn to_console() -> Self {
        Self { console: true, ..Self::default() }
    }

    /// One line, without secrets.
    pub fn say(&self, text: impl Display) {
        let uptime_ms = uptime_ms();
        let text: String = text.to_string().chars().take(LINE_CHARS_MAX).collect();
        if self.console {
            println!("[{:>8}.{:03}] {text}", uptime_ms / 1000, uptime_ms % 1000);
        }
        let mut lines = held(&self.lines);
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(LogLine { uptime_ms, text });
    }

    /// A step begins; `total_bytes` is 0 where not known.
    pub fn begin(&self, step: Option<Step>, total_bytes: u64) {
        *held(&self.step) = step;
        self.progress(0, total_bytes);
    }

    pub fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
        self.done_bytes.store(done_bytes, Ordering::Relaxed);
    }

    /// (step, bytes done, bytes in all).
    pub fn position(&self) -> (Option<Step>, u64, u64) {
        let step = *held(&self.step);
        (step, self.done_bytes.load(Ordering::Relaxed), self.total_bytes.load(Ordering::Relaxed))
    }

    /// Takes at most `most` of the oldest lines that were not sent yet.
    pub fn take_lines(&self, most: usize) -> Vec<LogLine> {
        let mut lines = held(&self.lines);
        let count = lines.len().min(most);
        lines.drain(..count).collect()
    }

    /// True where every line was taken.
    pub fn is_empty(&self) -> bool {
        held(&self.lines).is_empty()
    }

    /// Puts lines back that could not be sent, before the newer ones.
    pub fn put_back(&self, unsent: Vec<LogLine>) {
        let mut lines = held(&self.lines);
        for line in unsent.into_iter().rev() {
            if lines.len() < LINES_MAX {
                lines.push_front(line);
            }
        }
    }
}

/// A poisoned lock only means that another thread panicked between two whole updates of plain data.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Milliseconds since the kernel started.
pub fn uptime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_go_first_and_unsent_ones_come_back_in_order() {
        let log = Log::default();
        (0..LINES_MAX + 5).for_each(|n| log.say(n));
        let taken = log.take_lines(3);
        assert_eq!(taken.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["5", "6", "7"]);
        log.put_back(taken);
        assert_eq!(log.take_lines(usize::MAX).len(), LINES_MAX);
    }
}
