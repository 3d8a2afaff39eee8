//! A store in memory with the semantics of the real one: a transaction is all or nothing, and the server can die at
//! any statement. It also holds what only an onlooker can check: I1, I3, I6 and the versions.

use provisioner::{
    machine::{Event, Machine, MachineId, Time, Verdict, hold::Foreign, state::Licence},
    store::{
        audit::{Entry, Kind},
        events::Stored,
    },
    workflow::journal::{Journal, Unit},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

#[derive(Debug, thiserror::Error)]
#[error("the server died here")]
pub struct Died;

#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub machines: BTreeMap<MachineId, Machine>,
    pub events: Vec<(MachineId, Stored)>,
    /// The rows of the transaction being staged; what is committed was checked and is only counted.
    pub audit: Vec<Entry>,
    pub alarms: u64,
    /// Every licence ever committed, as it was last.
    pub licences: Vec<(MachineId, Licence)>,
    /// Another DHCP server is heard, and holds workflows back until then.
    pub foreign: Option<Time>,
    next: i64,
}

/// `fuse`: statements until the server dies; `None` never.
#[derive(Debug, Clone, Default)]
pub struct SimJournal {
    pub tables: Arc<Mutex<Tables>>,
    pub fuse: Arc<Mutex<Option<u32>>>,
}

pub struct SimUnit {
    journal: SimJournal,
    staged: Tables,
}

impl SimJournal {
    fn burn(&self) -> Result<(), Died> {
        let mut fuse = self.fuse.lock().unwrap();
        match fuse.as_mut() {
            Some(0) => Err(Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub fn machine(&self, id: MachineId) -> Option<Machine> {
        self.tables.lock().unwrap().machines.get(&id).cloned()
    }

    pub fn by_boot(&self, hash: &str) -> Option<Machine> {
        let tables = self.tables.lock().unwrap();
        tables.machines.values().find(|m| m.boot.as_ref().is_some_and(|b| b.hash == hash)).cloned()
    }

    pub fn verdict(&self, seq: i64) -> Option<Verdict> {
        let tables = self.tables.lock().unwrap();
        tables.events.iter().rev().find(|(_, e)| e.seq == seq).and_then(|(_, e)| e.verdict.clone())
    }
}

impl Journal for SimJournal {
    type Unit = SimUnit;
    type Error = Died;

    async fn begin(&self) -> Result<SimUnit, Died> {
        self.burn()?;
        let staged = self.tables.lock().unwrap().clone();
        Ok(SimUnit { journal: self.clone(), staged })
    }
}

impl Unit for SimUnit {
    type Error = Died;

    async fn machine(&mut self, id: MachineId) -> Result<Option<Machine>, Died> {
        self.journal.burn()?;
        Ok(self.staged.machines.get(&id).cloned())
    }

    async fn unfolded(&mut self, id: MachineId) -> Result<Vec<Stored>, Died> {
        self.journal.burn()?;
        let mine = self.staged.events.iter().filter(|(m, e)| *m == id && e.verdict.is_none());
        Ok(mine.map(|(_, e)| e.clone()).collect())
    }

    async fn save(&mut self, machine: &mut Machine, _now: Time) -> Result<(), Died> {
        self.journal.burn()?;
        let stored = self.staged.machines.get(&machine.id).expect("saved machines exist");
        assert_eq!(stored.version, machine.version, "a save over another version");
        machine.version += 1;
        if let Some(licence) = &machine.licence {
            match self.staged.licences.iter_mut().find(|(_, l)| l.id == licence.id) {
                Some((_, known)) => *known = licence.clone(),
                None => {
                    let twice = self.staged.licences.iter().any(|(id, l)| {
                        *id == machine.id && l.generation == licence.generation && l.spent.is_some()
                    });
                    assert!(!twice, "I3: a second licence in a generation whose first was spent");
                    self.staged.licences.push((machine.id, licence.clone()));
                }
            }
        }
        self.staged.machines.insert(machine.id, machine.clone());
        Ok(())
    }

    async fn append(&mut self, id: MachineId, event: &Event, now: Time) -> Result<i64, Died> {
        self.journal.burn()?;
        self.staged.next += 1;
        let stored = Stored { seq: self.staged.next, at: now, event: event.clone(), verdict: None };
        self.staged.events.push((id, stored));
        Ok(self.staged.next)
    }

    async fn settle(&mut self, seq: i64, verdict: &Verdict) -> Result<(), Died> {
        self.journal.burn()?;
        let found =
            self.staged.events.iter_mut().rev().find(|(_, e)| e.seq == seq).expect("settled events exist");
        assert!(found.1.verdict.is_none(), "an event folded twice");
        found.1.verdict = Some(verdict.clone());
        Ok(())
    }

    async fn audit(&mut self, entry: &Entry) -> Result<(), Died> {
        self.journal.burn()?;
        self.staged.audit.push(entry.clone());
        Ok(())
    }

    async fn foreign(&mut self, now: Time) -> Result<Option<Foreign>, Died> {
        self.journal.burn()?;
        let until = self.staged.foreign.filter(|until| *until > now);
        Ok(until.map(|until| Foreign { server: "10.88.0.66".to_owned(), until }))
    }

    async fn commit(mut self) -> Result<(), Died> {
        self.journal.burn()?;
        let mut tables = self.journal.tables.lock().unwrap();
        self.each_transition_has_its_row(&tables);
        // What is folded and old is of no more use to the model; the real store keeps it as the timeline.
        let old = self.staged.events.len().saturating_sub(8);
        let mut index = 0;
        self.staged.events.retain(|(_, e)| {
            index += 1;
            index > old || e.verdict.is_none()
        });
        self.staged.alarms += self.staged.audit.iter().filter(|e| e.kind == Kind::Alarm).count() as u64;
        self.staged.audit.clear();
        *tables = self.staged;
        Ok(())
    }
}

impl SimUnit {
    /// I6: the transitions recorded in this transaction lead from the old phase to the new one, one row each.
    fn each_transition_has_its_row(&self, before: &Tables) {
        for (id, machine) in &self.staged.machines {
            let Some(old) = before.machines.get(id) else { continue };
            let mut phase = old.phase.to_string();
            let mut changed = false;
            for row in self.staged.audit.iter().filter(|r| r.machine == *id && r.kind == Kind::Transition) {
                assert_eq!(row.before, phase, "I6: the trail has a gap at {}", machine.name);
                phase.clone_from(&row.after);
                changed = true;
            }
            assert_eq!(phase, machine.phase.to_string(), "I6: the trail does not end at the state");
            let differs = (old.phase, old.generation) != (machine.phase, machine.generation);
            assert!(changed || !differs, "I6: a transition without a row");
            assert!(machine.generation >= old.generation, "a generation went back");
        }
    }
}
