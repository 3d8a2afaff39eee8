//! The workers of one write: who is called to work now, what is left, and the first failure.

use super::write::WriteError;
use std::{
    sync::{Condvar, Mutex, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

#[derive(Debug)]
pub(super) struct Crew {
    pub most: usize,
    /// Number of the work that is given out next.
    pub next: AtomicUsize,
    pub failed: Mutex<Option<WriteError>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Workers with a number below it work; the others sleep.
    called: usize,
    present: usize,
    /// All work is given out, or something failed.
    over: bool,
}

impl Crew {
    pub(super) fn of(called: usize, most: usize) -> Self {
        Self {
            most,
            next: AtomicUsize::new(0),
            failed: Mutex::default(),
            state: Mutex::new(State { called: called.clamp(1, most), present: most, over: false }),
            changed: Condvar::new(),
        }
    }

    /// Sleeps until the worker of this number is called; false where there is nothing left to be called for.
    pub(super) fn is_called(&self, number: usize) -> bool {
        let waits = |state: &mut State| !state.over && number >= state.called;
        let state = self.lock();
        !self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner).over
    }

    pub(super) fn call(&self, workers: usize) {
        self.lock().called = workers.clamp(1, self.most);
        self.changed.notify_all();
    }

    /// All work is given out.
    pub(super) fn finish(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// The first failure is kept; the others follow from it.
    pub(super) fn fail(&self, error: WriteError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.finish();
    }

    pub(super) fn leave(&self) {
        self.lock().present -= 1;
        self.changed.notify_all();
    }

    /// Waits so long, or until the work is over; true where it goes on.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let goes_on = |state: &mut State| !state.over && state.present > 0;
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, goes_on);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        goes_on(&mut state)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn only_those_who_are_called_work_and_all_leave_in_the_end() {
        let crew = Crew::of(2, 6);
        let seen = Mutex::new(std::collections::BTreeSet::new());
        std::thread::scope(|scope| {
            for number in 0..crew.most {
                let (crew, seen) = (&crew, &seen);
                scope.spawn(move || {
                    while crew.is_called(number) {
                        seen.lock().unwrap().insert(number);
                        if crew.next.fetch_add(1, Ordering::Relaxed) > 1000 {
                            crew.finish();
                        }
                    }
                    crew.leave();
                });
            }
            while crew.wait(Duration::from_millis(1)) {}
        });
        let seen = seen.into_inner().unwrap();
        assert!(!seen.is_empty() && seen.iter().all(|n| *n < 2), "{seen:?}");
        assert!(!crew.is_called(0));
    }
}
