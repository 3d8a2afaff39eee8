//! The server of the world: edges that append and wait, as the HTTP handlers do, around the real `turn`.

use super::journal::{Died, SimJournal};
use futures_util::FutureExt;
use provisioner::{
    machine::{
        Act, Event, Machine, MachineId, Time, Verdict,
        boot::{Boot, boots},
    },
    workflow::{
        journal::{Journal, Unit},
        turn::{Turn, interrupted, turn},
    },
};
use provisioner_wire::machine::WorkflowKind;

#[derive(Debug, Clone)]
pub struct Server {
    pub journal: SimJournal,
    pub up: bool,
    /// Counts the processes: what an older one had in its memory is gone.
    pub epoch: u64,
}

/// An act that must now be performed by the world.
pub type Started = (MachineId, Act, Machine);

impl Server {
    fn append(&self, id: MachineId, event: &Event, now: Time) -> Result<i64, Died> {
        async {
            let mut unit = self.journal.begin().await?;
            let seq = unit.append(id, event, now).await?;
            unit.commit().await?;
            Ok(seq)
        }
        .now_or_never()
        .expect("the model never waits")
    }

    pub fn turn(&self, id: MachineId, now: Time) -> Result<Option<Started>, Died> {
        let done = turn(&self.journal, id, now).now_or_never().expect("the model never waits")?;
        if let Some(turn) = &done {
            self.check_hold(turn, now);
        }
        Ok(done.and_then(|t| t.act.map(|act| (id, act, t.machine))))
    }

    /// Nothing that leads to a wipe begins while another DHCP server is heard, unless somebody wants it.
    fn check_hold(&self, turn: &Turn, now: Time) {
        let heard = self.journal.tables.lock().unwrap().foreign.is_some_and(|until| until > now);
        let leads_to_a_wipe = matches!(turn.act, Some(Act::NetworkBoot | Act::ChooseDisks))
            && turn.machine.kind() != Some(WorkflowKind::Inspect);
        let wanted = turn.machine.workflow.as_ref().is_some_and(|w| w.despite_rogue);
        assert!(!(heard && leads_to_a_wipe) || wanted, "{:?} of {} begins", turn.act, turn.machine.name);
    }

    /// Appends, folds, and tells the verdict.
    pub fn submit(
        &self,
        id: MachineId,
        event: &Event,
        now: Time,
    ) -> Result<(Verdict, Option<Started>), Died> {
        let seq = self.append(id, event, now)?;
        let started = self.turn(id, now)?;
        let verdict = self.journal.verdict(seq).expect("a turn settles its inbox");
        Ok((verdict, started))
    }

    pub fn boots(&self, id: MachineId) -> Option<Boot> {
        self.journal.machine(id).as_ref().map(boots)
    }

    /// As the engine: machines that a workflow has, and those with something in the inbox.
    pub fn is_due(&self, id: MachineId) -> bool {
        let tables = self.journal.tables.lock().unwrap();
        tables.machines.get(&id).is_some_and(|m| m.is_busy() || !m.owed.is_empty())
            || tables.events.iter().any(|(m, e)| *m == id && e.verdict.is_none())
    }

    /// What the engine does first of all.
    pub fn recover(&self, now: Time) -> Result<Vec<Started>, Died> {
        let machines: Vec<Machine> = self.journal.tables.lock().unwrap().machines.values().cloned().collect();
        let mut started = Vec::new();
        for machine in &machines {
            for event in interrupted(machine) {
                self.append(machine.id, &event, now)?;
            }
        }
        for machine in machines {
            started.extend(self.turn(machine.id, now)?);
        }
        Ok(started)
    }
}
