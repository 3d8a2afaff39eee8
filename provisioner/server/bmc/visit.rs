//! One visit to a BMC: ask the governor, open, act, close whatever happened, tell the governor.

use super::{
    Answer, Bmc, BmcDoor, BmcError, BmcTarget, Cause, Pin,
    governor::{Governor, Kind, Policy},
};
use crate::machine::Time;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Beyond the span of a visit: a session must be closed also when the visit took all of it.
const CLOSING: Duration = Duration::from_secs(10);

/// Pays visits to BMCs, and remembers how each of them bears it. Shared by all who want something of BMCs.
pub struct Visits {
    door: Box<dyn BmcDoor>,
    policy: Policy,
    now: Box<dyn Fn() -> Time + Send + Sync>,
    governors: Mutex<BTreeMap<String, Governor>>,
}

/// What came of a visit.
#[derive(Debug)]
pub struct Visit<T> {
    /// The TLS key that was seen, to be stored where none was; also after a failed act.
    pub pin: Option<Pin>,
    pub outcome: Result<T, BmcError>,
}

impl fmt::Debug for Visits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visits").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Visits {
    pub fn new(
        door: Box<dyn BmcDoor>,
        policy: Policy,
        now: impl Fn() -> Time + Send + Sync + 'static,
    ) -> Self {
        Self { door, policy, now: Box::new(now), governors: Mutex::default() }
    }

    /// Does `act`, which is handed the BMC and the span that is left. A request that the governor holds back is not
    /// made and reported as [`Cause::Held`].
    pub async fn pay<T, A>(&self, target: BmcTarget, kind: Kind, within: Duration, act: A) -> Visit<T>
    where
        A: for<'a> FnOnce(&'a dyn Bmc, Duration) -> Answer<'a, T>,
    {
        let (key, host) = (target.address.to_string(), target.address.host());
        if let Err(wait) = self.governor(&key, |governor| governor.begin(&self.policy, kind, (self.now)())) {
            let held = BmcError { host, doing: "asking", cause: Cause::Held(wait) };
            return Visit { pin: None, outcome: Err(held) };
        }
        let visit = self.go(target, within, act).await;
        let failure = visit.outcome.as_ref().err().map(|error| &error.cause);
        self.governor(&key, |governor| governor.end(kind, (self.now)(), failure));
        visit
    }

    /// The BMC was declared anew (credentials, pin): it may be asked at once.
    pub fn redeclared(&self, target: &BmcTarget) {
        self.governor(&target.address.to_string(), Governor::redeclared);
    }

    async fn go<T, A>(&self, target: BmcTarget, within: Duration, act: A) -> Visit<T>
    where
        A: for<'a> FnOnce(&'a dyn Bmc, Duration) -> Answer<'a, T>,
    {
        let until = Instant::now() + within;
        let bmc = match self.door.open(target, within).await {
            Ok(bmc) => bmc,
            Err(error) => return Visit { pin: None, outcome: Err(error) },
        };
        let outcome = act(&*bmc, until.saturating_duration_since(Instant::now())).await;
        let pin = bmc.pin();
        if let Err(error) = bmc.close(CLOSING).await {
            tracing::warn!(%error, "the visit was done, but its session stays open until the BMC expires it");
        }
        Visit { pin, outcome }
    }

    fn governor<R>(&self, key: &str, ask: impl FnOnce(&mut Governor) -> R) -> R {
        let mut governors = self.governors.lock().unwrap_or_else(PoisonError::into_inner);
        ask(governors.entry(key.to_owned()).or_default())
    }
}
