//! What agents tell of running steps: progress and log lines. In memory only; losing it costs nothing but a picture.

use crate::machine::{MachineId, Time};
use provisioner_wire::{
    Generation,
    order::{LogLine, Progress, Step},
    report::clean,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast;

/// Log lines kept for each machine.
pub const LINES_MAX: usize = 1000;

/// Where one machine's running step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    pub generation: Generation,
    pub step: Step,
    pub done_bytes: u64,
    /// 0 where not known.
    pub total_bytes: u64,
}

/// Between two alarms of one kind in a machine's trail.
const ALARM_PACE: Duration = Duration::from_secs(10);
/// Between two records that an agent was heard; a small part of what the engine takes for silence.
const HEARD_PACE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Entry {
    stand: Option<Stand>,
    /// When it was last recorded that the agent was heard.
    heard: Option<Time>,
    /// When a wrong token was last put into the trail.
    wrong_token: Option<Time>,
    lines: VecDeque<LogLine>,
}

#[derive(Debug)]
pub struct Live {
    machines: Mutex<HashMap<MachineId, Entry>>,
    changed: broadcast::Sender<MachineId>,
}

impl Default for Live {
    fn default() -> Self {
        Self { machines: Mutex::default(), changed: broadcast::channel(256).0 }
    }
}

impl Live {
    /// Takes over what the agent of `machine` tells. Lines are cleaned and cut here.
    pub fn heard(&self, machine: MachineId, progress: Progress) {
        let mut machines = self.machines();
        let entry = machines.entry(machine).or_default();
        entry.stand = progress.step.map(|step| Stand {
            generation: progress.generation,
            step,
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
        });
        let cleaned = progress.log.into_iter().map(|l| LogLine { text: clean(&l.text), ..l });
        entry.lines.extend(cleaned);
        let surplus = entry.lines.len().saturating_sub(LINES_MAX);
        entry.lines.drain(..surplus);
        drop(machines);
        // Nobody may be listening.
        let _ = self.changed.send(machine);
    }

    /// Where the machine's step stands; `None` for one of another generation.
    pub fn stand(&self, machine: MachineId, generation: Generation) -> Option<Stand> {
        self.machines().get(&machine)?.stand.filter(|s| s.generation == generation)
    }

    pub fn log(&self, machine: MachineId) -> Vec<LogLine> {
        self.machines().get(&machine).map(|e| e.lines.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether a wrong token shown for `machine` goes into the trail: the first does, then one in [`ALARM_PACE`]. Anyone
    /// on the network can show one, and the trail is kept for ever.
    pub fn may_alarm(&self, machine: MachineId, now: Time) -> bool {
        paced(&mut self.machines().entry(machine).or_default().wrong_token, ALARM_PACE, now)
    }

    /// Whether it is time to record that the agent of `machine` was heard: agents speak each second, and each record is
    /// a row.
    pub fn may_record(&self, machine: MachineId, now: Time) -> bool {
        paced(&mut self.machines().entry(machine).or_default().heard, HEARD_PACE, now)
    }

    pub fn forget(&self, machine: MachineId) {
        self.machines().remove(&machine);
    }

    /// Machines whose progress changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<MachineId> {
        self.changed.subscribe()
    }

    fn machines(&self) -> MutexGuard<'_, HashMap<MachineId, Entry>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn paced(last: &mut Option<Time>, pace: Duration, now: Time) -> bool {
    let may = last.is_none_or(|last| now.since(last) >= pace);
    if may {
        *last = Some(now);
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_old_generations_show_nothing() {
        let (live, id) = (Live::default(), MachineId(uuid::Uuid::nil()));
        let line = LogLine { uptime_ms: 1, text: "\u{1b}[2Jx".repeat(1000) };
        let progress = Progress {
            generation: Generation(2),
            step: Some(Step::WriteImage),
            done_bytes: 1,
            total_bytes: 2,
            log: vec![line; LINES_MAX * 2],
        };
        live.heard(id, progress);
        assert_eq!(live.log(id).len(), LINES_MAX);
        assert!(live.log(id).iter().all(|l| l.text.len() <= 256 && !l.text.contains('\u{1b}')));
        assert!(live.stand(id, Generation(2)).is_some());
        assert_eq!(live.stand(id, Generation(3)), None);
    }

    #[test]
    fn alarms_are_paced() {
        let (live, id) = (Live::default(), MachineId(uuid::Uuid::from_u128(9)));
        assert!(
            live.may_record(id, Time(0))
                && !live.may_record(id, Time(59_999))
                && live.may_record(id, Time(60_000))
        );
        let seen: Vec<bool> = [0, 1, 9_999, 10_000, 10_001].map(|ms| live.may_alarm(id, Time(ms))).to_vec();
        assert_eq!(seen, [true, false, false, true, false]);
    }
}
