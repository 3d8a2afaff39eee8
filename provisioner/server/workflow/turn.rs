//! One turn of one machine: fold what happened, ask what is wanted, record that it is tried, commit. No network.

use super::journal::{Journal, Unit};
use crate::{
    crash,
    machine::{
        self, Act, ActResult, Event, Machine, MachineId, Refusal, RefusalKind, Time, Verdict,
        hold::{HELD_PACE, Hold, can_hold, hold},
        state::TriedState,
        wants::{Want, wants},
    },
    store::audit::{Entry, Kind},
};
use provisioner_wire::machine::Phase;

/// What a turn came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The machine as saved.
    pub machine: Machine,
    /// Verdicts given, by event number.
    pub settled: Vec<(i64, Verdict)>,
    /// To be performed now: it is recorded as tried.
    pub act: Option<Act>,
    /// When to look again without an event.
    pub again: Option<Time>,
}

/// Folds the inbox of machine `id` and decides. `None` where there is no such machine.
pub async fn turn<J: Journal>(journal: &J, id: MachineId, now: Time) -> Result<Option<Turn>, J::Error> {
    let mut unit = journal.begin().await?;
    crash::point("turn-begun");
    let inbox = unit.unfolded(id).await?;
    let Some(machine) = unit.machine(id).await? else {
        // Deleted meanwhile: what was still said about it is settled, or it would be looked at for ever.
        let reason = "there is no such machine".to_owned();
        for stored in &inbox {
            let refusal = Refusal { kind: RefusalKind::Stale, reason: reason.clone() };
            unit.settle(stored.seq, &Verdict::Refused(refusal)).await?;
        }
        unit.commit().await?;
        return Ok(None);
    };
    let mut fold = Fold { unit, before: machine.clone(), machine, settled: Vec::new() };
    for stored in inbox {
        fold.event(stored.seq, &stored.event, now).await?;
    }
    let (act, again) = fold.decide(now).await?;
    crash::point("turn-folded");
    let Fold { mut unit, before, mut machine, settled } = fold;
    if machine != before {
        // A breach must never be saved: stopping here keeps the last good state.
        assert!(machine.breach().is_none(), "{}: {:?}", machine.name, machine.breach());
        unit.save(&mut machine, now).await?;
    }
    crash::point("turn-saved");
    if !settled.is_empty() {
        unit.commit().await?;
    }
    crash::point("turn-committed");
    Ok(Some(Turn { machine, settled, act, again }))
}

/// What must be recorded when a process starts: acts that were in flight when the last one ended, whose result will
/// never come; and that an agent which spoke meanwhile could not be heard.
pub fn interrupted(machine: &Machine) -> Vec<Event> {
    let tried = machine.workflow.iter().flat_map(|w| &w.tried);
    let in_flight = tried.filter(|(_, t)| t.state == TriedState::InFlight);
    let listening = machine.heard.map(|_| Event::Listening);
    in_flight
        .map(|(act, _)| Event::Acted {
            act: *act,
            generation: machine.generation,
            result: ActResult::Failed { reason: "the server was restarted during it".to_owned() },
        })
        .chain(listening)
        .collect()
}

struct Fold<U> {
    unit: U,
    before: Machine,
    machine: Machine,
    settled: Vec<(i64, Verdict)>,
}

impl<U: Unit> Fold<U> {
    /// Folds one event, with its verdict and its one audit row (I6).
    async fn event(&mut self, seq: i64, event: &Event, now: Time) -> Result<(), U::Error> {
        let verdict = match machine::on(&self.machine, event, now) {
            Ok(after) => {
                if (after.phase, after.generation) != (self.machine.phase, self.machine.generation) {
                    let entry = self.entry(Kind::Transition, &after, event, after.reason.clone(), now);
                    self.unit.audit(&entry).await?;
                    // Not refused, because it ends the workflow; an alarm all the same.
                    if matches!(event, Event::ConfigAsked { .. }) && after.phase == Phase::Failed {
                        let entry = Entry { kind: Kind::Alarm, ..entry };
                        self.unit.audit(&entry).await?;
                    }
                }
                if let Some(alarm) = event.alarm() {
                    let entry = self.entry(Kind::Alarm, &after, event, alarm, now);
                    self.unit.audit(&entry).await?;
                }
                self.machine = after;
                Verdict::Accepted
            }
            Err(refusal) => {
                if refusal.kind == RefusalKind::Alarm {
                    let entry = self.entry(Kind::Alarm, &self.machine, event, refusal.reason.clone(), now);
                    self.unit.audit(&entry).await?;
                }
                Verdict::Refused(refusal)
            }
        };
        self.unit.settle(seq, &verdict).await?;
        self.settled.push((seq, verdict));
        Ok(())
    }

    /// Asks what is wanted; ends passed deadlines; records the act that is to be tried.
    async fn decide(&mut self, now: Time) -> Result<(Option<Act>, Option<Time>), U::Error> {
        // A deadline leads to Failed, or once more to Powering: two rounds are enough, and there is never a third.
        for _ in 0..2 {
            let want = wants(&self.machine, now);
            let foreign = match can_hold(&self.machine, &want) {
                true => self.unit.foreign(now).await?,
                false => None,
            };
            match hold(&self.machine, &want, foreign.as_ref(), now) {
                Hold::Free => {}
                Hold::Wait { until } => return Ok((None, Some(until))),
                Hold::Begin { reason } => {
                    self.own(Event::Held { generation: self.machine.generation, reason }, now).await?;
                    return Ok((None, Some(now + HELD_PACE)));
                }
                Hold::Expire { reason } => {
                    self.expire(reason, now).await?;
                    continue;
                }
            }
            match want {
                Want::Wait { until, .. } => return Ok((None, until)),
                Want::Do(act) => {
                    self.own(Event::Tried { act, generation: self.machine.generation }, now).await?;
                    return Ok((Some(act), None));
                }
                Want::Expire { reason } => self.expire(reason, now).await?,
            }
        }
        Ok((None, Some(now)))
    }

    async fn expire(&mut self, reason: String, now: Time) -> Result<(), U::Error> {
        let (phase, since) = (self.machine.phase, self.machine.since);
        self.own(Event::DeadlinePassed { phase, since, reason }, now).await
    }

    /// An event of the engine's own: appended and folded at once.
    async fn own(&mut self, event: Event, now: Time) -> Result<(), U::Error> {
        let seq = self.unit.append(self.machine.id, &event, now).await?;
        self.event(seq, &event, now).await
    }

    fn entry(&self, kind: Kind, after: &Machine, event: &Event, reason: String, now: Time) -> Entry {
        Entry {
            at: now,
            machine: after.id,
            generation: after.generation.0,
            kind,
            before: self.machine.phase.to_string(),
            after: after.phase.to_string(),
            cause: event.kind().to_owned(),
            reason,
        }
    }
}
