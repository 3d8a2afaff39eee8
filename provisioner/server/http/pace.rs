//! The clock and the tasks around [`super::fair`]: a request waits here until it may be answered, or is told to come again
//! while the agent still has patience (a body that stands still for 30 s counts as lost; a 503 is only asked again).

use super::fair::{Fair, Limits};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// A request waits so long for its turn; far below an agent's patience with an answer's head (60 s).
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Seconds, for who has waited in vain.
const COME_AGAIN: u64 = 5;
/// So many requests of one machine wait; an agent has sixteen.
const WAITING_MAX: usize = 64;

/// Come again after so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later(pub u64);

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub waited: u64,
    pub sent_away: u64,
    pub waiting: u64,
}

#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    patience: Duration,
    began: Instant,
    state: Mutex<State>,
    /// Somebody has asked.
    asked: Notify,
}

#[derive(Debug)]
struct State {
    fair: Fair<IpAddr>,
    waiting: HashMap<u64, oneshot::Sender<()>>,
    next: u64,
    counts: Counts,
}

impl Pace {
    pub fn new(limits: Limits) -> Self {
        Self::with_patience(limits, WAIT_MAX)
    }

    fn with_patience(limits: Limits, patience: Duration) -> Self {
        let state = State {
            fair: Fair::new(limits, Duration::ZERO),
            waiting: HashMap::new(),
            next: 0,
            counts: Counts::default(),
        };
        Self { limits, patience, began: Instant::now(), state: Mutex::new(state), asked: Notify::new() }
    }

    pub fn counts(&self) -> Counts {
        let state = self.state();
        Counts { waiting: state.fair.waiting() as u64, ..state.counts }
    }

    /// Returns when `machine` in `domain` may be sent `bytes`. Needs [`Pace::run`] beside it, where there are limits.
    pub async fn turn(&self, machine: IpAddr, domain: Option<&str>, bytes: u64) -> Result<(), Later> {
        if self.limits == Limits::default() {
            return Ok(());
        }
        let (number, granted) = {
            let mut state = self.state();
            if state.fair.waiting_of(&machine) >= WAITING_MAX {
                state.counts.sent_away += 1;
                return Err(Later(1));
            }
            let (number, (tell, granted)) = (state.next, oneshot::channel());
            state.next += 1;
            state.counts.waited += 1;
            state.fair.ask(number, machine, domain, bytes, self.began.elapsed());
            state.waiting.insert(number, tell);
            (number, granted)
        };
        // Also where the client goes away in the middle.
        let _leaves = Leaves { pace: self, machine, number };
        self.asked.notify_one();
        match tokio::time::timeout(self.patience, granted).await {
            Ok(Ok(())) => Ok(()),
            _ => {
                self.state().counts.sent_away += 1;
                Err(Later(COME_AGAIN))
            }
        }
    }

    /// Gives the turns, for ever.
    pub async fn run(&self) {
        loop {
            let due = {
                let mut state = self.state();
                for number in state.fair.grant(self.began.elapsed()) {
                    if let Some(tell) = state.waiting.remove(&number) {
                        // Who has gone meanwhile has spent its turn.
                        let _ = tell.send(());
                    }
                }
                state.fair.due()
            };
            match due {
                None => self.asked.notified().await,
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.began + due) => {}
                        () = self.asked.notified() => {}
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leaves<'a> {
    pace: &'a Pace,
    machine: IpAddr,
    number: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        if state.waiting.remove(&self.number).is_some() {
            state.fair.forget(&self.machine, self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fair::Rate;
    use std::sync::Arc;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn running(rate: u64, patience: Duration) -> Arc<Pace> {
        let limits = Limits { server: Some(Rate(rate)), domain: None };
        let pace = Arc::new(Pace::with_patience(limits, patience));
        let running = pace.clone();
        tokio::spawn(async move { running.run().await });
        pace
    }

    #[tokio::test]
    async fn a_turn_is_waited_for() {
        let pace = running(10_000, Duration::from_secs(60));
        pace.turn(ONE, None, 3000).await.unwrap();
        let began = Instant::now();
        pace.turn(ONE, None, 1000).await.unwrap();
        // 2000 bytes were sent ahead of the rate.
        assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
        assert_eq!(pace.counts(), Counts { waited: 2, sent_away: 0, waiting: 0 });
    }

    #[tokio::test]
    async fn who_waits_in_vain_or_leaves_takes_the_request_along() {
        let pace = running(1, Duration::from_millis(100));
        pace.turn(ONE, None, 1_000_000).await.unwrap();
        assert_eq!(pace.turn(ONE, None, 1).await, Err(Later(COME_AGAIN)));
        let left = tokio::time::timeout(Duration::from_millis(10), pace.turn(ONE, None, 1)).await;
        assert!(left.is_err());
        assert_eq!(pace.counts(), Counts { waited: 3, sent_away: 1, waiting: 0 });
        let many = (0..WAITING_MAX + 1).map(|_| pace.turn(ONE, None, 1));
        let mut told = futures_util::future::join_all(many).await;
        assert_eq!(told.pop(), Some(Err(Later(1))), "one more than may wait");
        assert!(told.into_iter().all(|one| one == Err(Later(COME_AGAIN))));
    }

    #[tokio::test]
    async fn without_limits_there_is_no_waiting() {
        let pace = Pace::new(Limits::default());
        pace.turn(ONE, Some("rack"), u64::MAX).await.unwrap();
        assert_eq!(pace.counts(), Counts::default());
    }
}
