//! The engine: the one writer of machine state. It wakes on a notice and on a timer and takes no input but the store,
//! so that losing every notice costs delay, never correctness.

use super::turn::{Turn, interrupted, turn};
use crate::{
    clock::Clock,
    crash,
    machine::{Act, ActResult, Event, Machine, MachineId, Time, Verdict},
    store::{self, Db, StoreError},
};
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, oneshot, watch};

/// Without any notice, the store is looked at this often.
const TIMER: Duration = Duration::from_millis(500);
/// An edge waits this long for a verdict before it tells its caller to come back.
const VERDICT_WITHIN: Duration = Duration::from_secs(10);

/// Does one act on the world. Idempotent, or reads the world first.
pub trait Hands: Send + Sync + 'static {
    fn perform(&self, machine: Machine, act: Act) -> Pin<Box<dyn Future<Output = ActResult> + Send + '_>>;
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the engine is busy; what was asked is recorded and will be done")]
    Busy,
}

/// Handle to the engine. Cheap to clone; the loop itself is [`Engine::run`].
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    wake: Notify,
    waiting: Mutex<HashMap<i64, oneshot::Sender<Verdict>>>,
    /// Number of the newest event with a verdict.
    newest: watch::Sender<i64>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    pub fn new(db: Db, clock: Clock) -> Self {
        let (newest, _) = watch::channel(0);
        Self(Arc::new(Inner { db, clock, wake: Notify::new(), waiting: Mutex::default(), newest }))
    }

    pub fn db(&self) -> &Db {
        &self.0.db
    }

    pub fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// Changes whenever events were folded; for the pages and the event stream.
    pub fn newest(&self) -> watch::Receiver<i64> {
        self.0.newest.subscribe()
    }

    /// Appends an event that nobody waits for.
    pub async fn record(&self, id: MachineId, event: &Event) -> Result<(), StoreError> {
        self.append(id, event).await?;
        self.0.wake.notify_one();
        Ok(())
    }

    /// Appends an event and waits for the engine's verdict on it.
    pub async fn submit(&self, id: MachineId, event: &Event) -> Result<Verdict, EngineError> {
        let seq = self.append(id, event).await?;
        let (tell, told) = oneshot::channel();
        self.waiting().insert(seq, tell);
        // The timer may have folded it before the line above: then nobody will tell.
        let settled = store::events::verdict(&mut self.0.db.read().await?, seq).await?;
        if let Some(verdict) = settled {
            self.waiting().remove(&seq);
            return Ok(verdict);
        }
        self.0.wake.notify_one();
        let verdict = tokio::time::timeout(VERDICT_WITHIN, told).await;
        self.waiting().remove(&seq);
        match verdict {
            Ok(Ok(verdict)) => Ok(verdict),
            _ => Err(EngineError::Busy),
        }
    }

    async fn append(&self, id: MachineId, event: &Event) -> Result<i64, StoreError> {
        let mut tx = self.0.db.write().await?;
        let seq = store::events::append(&mut tx, id, event, self.now()).await?;
        tx.commit().await?;
        Ok(seq)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<i64, oneshot::Sender<Verdict>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until the store fails for good. The caller ends the process then: a dead engine must not look alive.
    pub async fn run(self, hands: Arc<dyn Hands>) -> Result<(), StoreError> {
        self.interrupted_acts().await?;
        let mut timers: HashMap<MachineId, Time> = HashMap::new();
        loop {
            for id in self.due(&timers).await? {
                timers.remove(&id);
                if let Some(done) = self.one_turn(id).await? {
                    if let Some(again) = done.again {
                        timers.insert(id, again);
                    }
                    self.tell(&done);
                    if let Some(act) = done.act {
                        tokio::spawn(self.clone().act(hands.clone(), done.machine, act));
                    }
                }
            }
            let _ = tokio::time::timeout(TIMER, self.0.wake.notified()).await;
        }
    }

    /// Machines with something in the inbox, and those whose time has come. One that has no timer has never been
    /// looked at by this process, or has just changed.
    async fn due(&self, timers: &HashMap<MachineId, Time>) -> Result<Vec<MachineId>, StoreError> {
        let mut tx = self.0.db.read().await?;
        let waiting = store::events::waiting(&mut tx).await?;
        let now = self.now();
        let timed = store::machines::busy(&mut tx).await?;
        let timed = timed.into_iter().filter(|id| timers.get(id).is_none_or(|at| *at <= now));
        let mut seen = HashSet::new();
        Ok(waiting.into_iter().chain(timed).filter(|id| seen.insert(*id)).collect())
    }

    /// A turn that lost a race against another writer is simply taken again.
    async fn one_turn(&self, id: MachineId) -> Result<Option<Turn>, StoreError> {
        match turn(&self.0.db, id, self.now()).await {
            Err(StoreError::Raced(_)) => Ok(None),
            done => done,
        }
    }

    fn tell(&self, done: &Turn) {
        let machine = &done.machine;
        for (seq, verdict) in &done.settled {
            if let Verdict::Refused(refusal) = verdict {
                tracing::info!(machine = %machine.name, generation = %machine.generation, "refused: {refusal}");
            }
            if let Some(waiter) = self.waiting().remove(seq) {
                // The caller may have gone; its event is folded all the same.
                let _ = waiter.send(verdict.clone());
            }
            self.0.newest.send_replace(*seq);
        }
        if !done.settled.is_empty() {
            let workflow = machine.workflow.as_ref().map(|w| w.id.to_string()).unwrap_or_default();
            tracing::debug!(machine = %machine.name, workflow, phase = %machine.phase, "{}", machine.reason);
        }
    }

    /// Performs one act and appends its result.
    async fn act(self, hands: Arc<dyn Hands>, machine: Machine, act: Act) {
        let (id, name, generation) = (machine.id, machine.name.clone(), machine.generation);
        let workflow = machine.workflow.as_ref().map(|w| w.id.to_string()).unwrap_or_default();
        tracing::info!(machine = %name, workflow, "{act}");
        // In its own task, so that a panic in an act is a failed act and not a silent one.
        let performed = tokio::spawn(async move { hands.perform(machine, act).await }).await;
        crash::point("act-done");
        let result = performed.unwrap_or_else(|e| ActResult::Failed {
            reason: format!("the server broke while doing it: {e}"),
        });
        if let ActResult::Failed { reason } | ActResult::Refused { reason } = &result {
            tracing::warn!(machine = %name, workflow, "{act}: {reason}");
        }
        let event = Event::Acted { act, generation, result };
        // Without a result the act counts as in flight until its time is over, and is then tried again.
        if let Err(error) = self.record(id, &event).await {
            tracing::error!(machine = %name, workflow, "the result of {act} could not be recorded: {error}");
        }
        crash::point("act-recorded");
    }

    async fn interrupted_acts(&self) -> Result<(), StoreError> {
        let machines = store::machines::all(&mut self.0.db.read().await?).await?;
        for machine in machines {
            for event in interrupted(&machine) {
                self.append(machine.id, &event).await?;
            }
        }
        Ok(())
    }
}
