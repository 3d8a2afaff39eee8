//! Named crash points: places where a test stops the process dead, to see that nothing is lost or done twice.
//! Compiled away in release builds.

/// Every crash point of the engine, in the order of one turn.
pub const POINTS: [&str; 6] =
    ["turn-begun", "turn-folded", "turn-saved", "turn-committed", "act-done", "act-recorded"];

/// Aborts the process where `PROVISIONER_CRASH_AT=name:n` asks for the n-th passage of `name`.
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub fn pass(name: &str) {
        let wanted = WANTED.get_or_init(|| {
            let text = std::env::var("PROVISIONER_CRASH_AT").ok()?;
            let (name, nth) = text.split_once(':')?;
            Some((name.to_owned(), nth.parse().ok()?))
        });
        if let Some((wanted, nth)) = wanted
            && wanted == name
            && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth
        {
            std::process::abort();
        }
    }
}
