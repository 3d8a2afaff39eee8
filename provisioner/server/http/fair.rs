//! PURE. Who may send next, where the rate is limited: for the whole server, and for each failure domain (a rack's
//! uplink). Machines take turns, each turn worth the same bytes (deficit round robin), so that one with sixteen
//! connections gets no more than one with two.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

/// Bytes of one turn: what the largest chunk has.
pub const TURN: u64 = (1 << 20) + (1 << 17) + 64;
/// A bucket that was not used holds at most what its rate gives in this time.
const BURST: Duration = Duration::from_millis(100);

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

/// What is limited. `None`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub server: Option<Rate>,
    /// Of each failure domain.
    pub domain: Option<Rate>,
}

/// Requests that wait for their turn. `M` tells machines apart; requests have numbers; times count from any beginning.
#[derive(Debug)]
pub struct Fair<M> {
    limits: Limits,
    server: Bucket,
    domains: HashMap<String, Bucket>,
    machines: HashMap<M, Waiting>,
    /// Those with requests, the next first.
    turns: VecDeque<M>,
}

#[derive(Debug)]
struct Waiting {
    domain: Option<String>,
    requests: VecDeque<(u64, u64)>,
    /// Bytes of its turns that it has not used.
    deficit: u64,
    /// Its turn was begun, and ended by an empty bucket.
    in_turn: bool,
}

/// Tokens are billionths of a byte, so that no rate and no interval is rounded away.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: Option<Rate>,
    level: i128,
    at: Duration,
}

impl Bucket {
    fn new(rate: Option<Rate>, now: Duration) -> Self {
        let mut bucket = Self { rate, level: 0, at: now };
        bucket.level = bucket.full();
        bucket
    }

    fn full(&self) -> i128 {
        self.rate.map_or(0, |rate| (i128::from(rate.0) * nanoseconds(BURST)).max(1))
    }

    fn fill(&mut self, now: Duration) {
        if let Some(rate) = self.rate {
            let passed = nanoseconds(now.saturating_sub(self.at));
            self.level =
                self.level.saturating_add(i128::from(rate.0).saturating_mul(passed)).min(self.full());
        }
        self.at = self.at.max(now);
    }

    fn open(&self) -> bool {
        self.rate.is_none() || self.level > 0
    }

    /// May go below zero by the last request: what follows waits for it.
    fn spend(&mut self, bytes: u64) {
        if self.rate.is_some() {
            self.level -= i128::from(bytes) * 1_000_000_000;
        }
    }

    /// When it is open, where nothing is spent until then.
    fn opens(&self) -> Duration {
        match self.rate {
            Some(rate) if self.level <= 0 => {
                let missing = (1 - self.level).div_euclid(i128::from(rate.0.max(1))) + 1;
                self.at.saturating_add(Duration::from_nanos(u64::try_from(missing).unwrap_or(u64::MAX)))
            }
            _ => self.at,
        }
    }
}

fn nanoseconds(span: Duration) -> i128 {
    i128::try_from(span.as_nanos()).unwrap_or(i128::MAX >> 64)
}

impl<M: Eq + Hash + Clone> Fair<M> {
    pub fn new(limits: Limits, now: Duration) -> Self {
        let server = Bucket::new(limits.server, now);
        Self { limits, server, domains: HashMap::new(), machines: HashMap::new(), turns: VecDeque::new() }
    }

    /// How many requests of `machine` wait.
    pub fn waiting_of(&self, machine: &M) -> usize {
        self.machines.get(machine).map_or(0, |waiting| waiting.requests.len())
    }

    pub fn waiting(&self) -> usize {
        self.machines.values().map(|waiting| waiting.requests.len()).sum()
    }

    /// Request `number` of `machine` wants to be sent `bytes`.
    pub fn ask(&mut self, number: u64, machine: M, domain: Option<&str>, bytes: u64, now: Duration) {
        if let Some(domain) = domain.filter(|domain| !self.domains.contains_key(*domain)) {
            self.domains.insert(domain.to_owned(), Bucket::new(self.limits.domain, now));
        }
        let waiting = self.machines.entry(machine.clone()).or_insert_with(|| {
            self.turns.push_back(machine);
            Waiting { domain: None, requests: VecDeque::new(), deficit: 0, in_turn: false }
        });
        // What is known of a machine last counts.
        waiting.domain = domain.map(str::to_owned);
        waiting.requests.push_back((number, bytes));
    }

    /// Nobody waits for this request any more.
    pub fn forget(&mut self, machine: &M, number: u64) {
        let Some(waiting) = self.machines.get_mut(machine) else { return };
        waiting.requests.retain(|(n, _)| *n != number);
        if waiting.requests.is_empty() {
            self.machines.remove(machine);
            self.turns.retain(|other| other != machine);
        }
    }

    /// The requests that may be sent at `now`, in their order.
    pub fn grant(&mut self, now: Duration) -> Vec<u64> {
        self.server.fill(now);
        self.domains.values_mut().for_each(|bucket| bucket.fill(now));
        let (mut granted, mut closed) = (Vec::new(), 0);
        while self.server.open() && closed < self.turns.len() {
            let Some(machine) = self.turns.pop_front() else { break };
            let Some(waiting) = self.machines.get_mut(&machine) else { continue };
            let mut unlimited = Bucket::new(None, now);
            let domain = waiting.domain.as_ref().and_then(|name| self.domains.get_mut(name));
            let domain = domain.unwrap_or(&mut unlimited);
            if !domain.open() {
                // Others may go on; it keeps what is left of its turn.
                self.turns.push_back(machine);
                closed += 1;
                continue;
            }
            closed = 0;
            waiting.turn(&mut self.server, domain, &mut granted);
            if waiting.requests.is_empty() {
                self.machines.remove(&machine);
            } else if waiting.in_turn && !self.server.open() {
                self.turns.push_front(machine);
            } else {
                self.turns.push_back(machine);
            }
        }
        granted
    }

    /// When [`Fair::grant`] would next give something; `None` while nobody waits.
    pub fn due(&self) -> Option<Duration> {
        let opens = |waiting: &Waiting| {
            let bucket = waiting.domain.as_ref().and_then(|name| self.domains.get(name));
            bucket.map_or(Duration::ZERO, Bucket::opens)
        };
        let domain = self.machines.values().map(opens).min()?;
        Some(domain.max(self.server.opens()))
    }
}

impl Waiting {
    /// Sends until the turn's bytes are used, nothing waits, or a bucket is empty.
    fn turn(&mut self, server: &mut Bucket, domain: &mut Bucket, granted: &mut Vec<u64>) {
        if !self.in_turn {
            self.deficit = self.deficit.saturating_add(TURN);
        }
        self.in_turn = false;
        while let Some((number, bytes)) = self.requests.front().copied() {
            if bytes > self.deficit {
                return;
            }
            if !server.open() || !domain.open() {
                self.in_turn = true;
                return;
            }
            self.requests.pop_front();
            self.deficit -= bytes;
            server.spend(bytes);
            domain.spend(bytes);
            granted.push(number);
        }
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;
