//! What runs on the world's machines: firmware, the agent, the node.

use super::{
    machines::{Agent, Doing, Running, Then},
    simulation::{Happening, World},
};
use provisioner::machine::{
    Event, Time, Verdict,
    boot::{Boot, orders},
    event::RefusalKind,
};
use provisioner_wire::{
    BootId, Generation,
    machine::Phase,
    order::{LicenceId, Order, Outcome, Step},
};

impl World {
    pub(super) fn power_on(&mut self, rack: usize) {
        let it = &mut self.racks[rack];
        it.boot += 1;
        it.running = Running::Firmware { asked: 0 };
        let boot = it.boot;
        let ms = self.rng.i64(2_000..12_000);
        self.after(ms, Happening::Machine(rack, boot));
    }

    pub(super) fn later(&mut self, rack: usize, ms: std::ops::Range<i64>) {
        let boot = self.racks[rack].boot;
        let ms = self.rng.i64(ms);
        self.after(ms, Happening::Machine(rack, boot));
    }

    pub(super) fn machine(&mut self, rack: usize) {
        match self.racks[rack].running.clone() {
            Running::Off | Running::Stuck => {}
            Running::Firmware { asked } => self.firmware(rack, asked),
            Running::Agent(agent) => self.agent(rack, agent),
            Running::Installer(installer) => self.installer(rack, installer),
            Running::Fetching { generation, url } => self.fetching(rack, generation, &url),
            Running::Node { generation, token } => {
                let Some(token) = token else { return };
                self.node_joins(rack, &token, generation);
                if self.tell(rack, &Event::PhonedHome { token_hash: token.clone() })
                    == Some(Verdict::Accepted)
                {
                    self.racks[rack].running = Running::Node { generation, token: None };
                } else if self.rng.u8(..) < 250 {
                    self.later(rack, 5_000..60_000);
                }
            }
        }
    }

    fn firmware(&mut self, rack: usize, asked: u32) {
        let id = self.racks[rack].id;
        let answer = self.server.up.then(|| self.server.boots(id)).flatten();
        if answer == Some(Boot::Agent) {
            let boot_id = BootId::from_bytes(self.rng.u128(..).to_be_bytes());
            let expires = Time(self.now.0 + 900_000);
            let event = Event::ScriptServed { boot_hash: boot_id.hash(), expires };
            if self.tell(rack, &event) == Some(Verdict::Accepted) {
                let key = format!("key-{}", self.rng.u64(..));
                let agent = Agent { boot_id, key, claimed: None, doing: Doing::Idle, unheard: 0 };
                self.racks[rack].running = Running::Agent(agent);
                if self.rng.u8(..) < 30 {
                    let ms = self.rng.i64(1_000..60_000);
                    self.after(ms, Happening::Thief(rack));
                }
                return self.later(rack, 2_000..20_000);
            }
        } else if answer == Some(Boot::Netboot) {
            if self.netboot(rack) {
                return;
            }
        } else if answer == Some(Boot::Disk) {
            if self.server.journal.machine(id).is_some_and(|m| m.phase == Phase::Ready) {
                self.racks[rack].ready_netboots += 1;
            }
            return self.boot_disk(rack);
        }
        if asked >= 3 {
            return self.boot_disk(rack);
        }
        self.racks[rack].running = Running::Firmware { asked: asked + 1 };
        self.later(rack, 4_000..30_000);
    }

    fn boot_disk(&mut self, rack: usize) {
        let it = &mut self.racks[rack];
        it.running = match it.disk.bootable {
            Some(generation) => match it.disk.url.clone() {
                Some(url) => Running::Fetching { generation, url },
                None => Running::Node { generation, token: it.disk.token.clone() },
            },
            None => Running::Stuck,
        };
        self.later(rack, 5_000..40_000);
    }

    pub(super) fn thief(&mut self, rack: usize) {
        if let Running::Agent(agent) = &self.racks[rack].running {
            let event = Event::Claimed {
                boot_hash: agent.boot_id.hash(),
                public_key: "thief".into(),
                report: Box::new(self.racks[rack].report()),
            };
            self.tell(rack, &event);
        }
        self.url_thief(rack);
    }

    fn agent(&mut self, rack: usize, mut agent: Agent) {
        let heard = self.agent_step(rack, &mut agent);
        let Running::Agent(_) = self.racks[rack].running else { return };
        agent.unheard = if heard { 0 } else { agent.unheard + 1 };
        let slow = matches!(agent.doing, Doing::Writing { slow: true, .. });
        self.racks[rack].running = Running::Agent(agent);
        self.later(rack, if slow { 30_000..90_000 } else { 500..5_000 });
    }

    /// One thing the agent does. False where no answer came.
    fn agent_step(&mut self, rack: usize, agent: &mut Agent) -> bool {
        let Some(generation) = agent.claimed else { return self.claim(rack, agent) };
        match agent.doing.clone() {
            Doing::Idle => self.ask(rack, agent),
            Doing::Writing { left: 0, wipe: true, .. } => {
                agent.doing = Doing::Telling { step: Step::Wipe, then: Then::Ask };
                true
            }
            Doing::Writing { left: 0, licence, .. } => {
                agent.doing = Doing::Proving { licence, asked: false };
                true
            }
            Doing::Proving { licence, asked } => self.prove(rack, agent, generation, licence, asked),
            Doing::Failing => {
                let outcome = Outcome::Failed { reason: "the disk lies".into() };
                let (boot_hash, step) = (agent.boot_id.hash(), Step::WriteImage);
                let verdict = self.tell(rack, &Event::StepEnded { boot_hash, generation, step, outcome });
                self.told(rack, agent, Then::Ask, verdict)
            }
            Doing::Writing { left, licence, wipe, slow } => {
                self.write(rack, licence);
                agent.doing = Doing::Writing { left: left - 1, licence, wipe, slow };
                if slow {
                    let boot_hash = agent.boot_id.hash();
                    self.tell(rack, &Event::AgentHeard { boot_hash, generation });
                } else if !self.in_peace() && self.rng.u16(..) < 200 {
                    self.totals.hung += 1;
                    self.racks[rack].running = Running::Stuck;
                }
                true
            }
            Doing::Placing { token } => {
                self.racks[rack].disk.token = Some(token);
                agent.doing = Doing::Telling { step: Step::PlaceConfig, then: Then::Ask };
                true
            }
            Doing::Pointing { url } => {
                self.racks[rack].disk.url = Some(url);
                agent.doing = Doing::Telling { step: Step::PlaceConfig, then: Then::Ask };
                true
            }
            Doing::Telling { step, then } => {
                let outcome = Outcome::Done { read_back_sha256: None };
                let boot_hash = agent.boot_id.hash();
                let verdict = self.tell(rack, &Event::StepEnded { boot_hash, generation, step, outcome });
                self.told(rack, agent, then, verdict)
            }
        }
    }

    /// The ends are written, and the disk can boot, only when the server has accepted what it was shown (I8).
    fn prove(
        &mut self,
        rack: usize,
        agent: &mut Agent,
        generation: Generation,
        licence: LicenceId,
        asked: bool,
    ) -> bool {
        let boot_hash = agent.boot_id.hash();
        let shown = |lied: bool| if lied { "something else" } else { "the image" }.to_owned();
        let event = if asked {
            Event::ReadBack { boot_hash, generation, proof: shown(self.racks[rack].disk.lied) }
        } else {
            let nonce = format!("{:x}", self.rng.u64(..));
            Event::Challenged { boot_hash, generation, licence, nonce, expected: shown(false) }
        };
        match self.tell(rack, &event) {
            None => return false,
            Some(Verdict::Accepted) if !asked => agent.doing = Doing::Proving { licence, asked: true },
            Some(Verdict::Accepted) => {
                let disk = &mut self.racks[rack].disk;
                assert!(!disk.lied, "I8: a disk that dropped a write was accepted");
                disk.bootable = Some(generation);
                agent.doing = Doing::Telling { step: Step::WriteImage, then: Then::Ask };
            }
            Some(Verdict::Refused(refusal)) if refusal.kind == RefusalKind::Alarm => {
                self.totals.lies += 1;
                agent.doing = Doing::Failing;
            }
            Some(Verdict::Refused(_)) => self.power_on(rack),
        }
        true
    }

    fn told(&mut self, rack: usize, agent: &mut Agent, then: Then, verdict: Option<Verdict>) -> bool {
        // Before it reboots or powers off, an agent does not insist for ever.
        if verdict.is_none() && (then == Then::Ask || agent.unheard < 5) {
            return false;
        }
        agent.doing = Doing::Idle;
        match then {
            Then::Ask if matches!(verdict, Some(Verdict::Refused(_))) => self.power_on(rack),
            Then::Ask => {}
            Then::Reboot => self.power_on(rack),
            Then::PowerOff => self.racks[rack].running = Running::Off,
        }
        true
    }

    /// I1, I3: whatever is written is licensed for this disk, and the licence is spent.
    pub(super) fn write(&mut self, rack: usize, licence: LicenceId) {
        let lies = !self.in_peace() && self.rng.u16(..) < 150;
        let it = &mut self.racks[rack];
        it.disk.lied |= lies;
        assert_ne!(it.disk.writes, u64::MAX, "I14: a write after the database was lost");
        it.disk.bootable = None;
        it.disk.token = None;
        it.disk.url = None;
        it.disk.writes += 1;
        self.totals.writes += 1;
        let tables = self.server.journal.tables.lock().unwrap();
        let found = tables.licences.iter().find(|(id, l)| *id == it.id && l.id == licence);
        let (_, licence) = found.expect("I1: a write without a licence");
        assert_eq!(licence.disks, [it.disk_identity()], "I1: another disk");
        assert!(licence.spent.is_some(), "I3: a write before the licence was spent");
    }

    fn claim(&mut self, rack: usize, agent: &mut Agent) -> bool {
        let event = Event::Claimed {
            boot_hash: agent.boot_id.hash(),
            public_key: agent.key.clone(),
            report: Box::new(self.racks[rack].report()),
        };
        match self.tell(rack, &event) {
            Some(Verdict::Accepted) => {
                let machine = self.server.journal.by_boot(&agent.boot_id.hash());
                agent.claimed = machine.map(|m| m.generation);
                true
            }
            Some(Verdict::Refused(refusal)) => {
                if refusal.kind == RefusalKind::Alarm {
                    self.racks[rack].running = Running::Stuck;
                } else {
                    self.power_on(rack);
                }
                true
            }
            None => false,
        }
    }

    fn ask(&mut self, rack: usize, agent: &mut Agent) -> bool {
        if !self.server.up {
            return false;
        }
        let state = self.server.journal.by_boot(&agent.boot_id.hash());
        let Some(machine) = state.filter(|m| m.claim.as_ref().is_some_and(|c| c.public_key == agent.key))
        else {
            self.power_on(rack);
            return true;
        };
        let tell = |step, then| Doing::Telling { step, then };
        match orders(&machine) {
            Order::Wait { .. } => true,
            Order::WriteImage(w) => self.spend(rack, agent, w.licence, false),
            Order::Wipe(w) => self.spend(rack, agent, w.licence, true),
            Order::HandOver(over) => self.hand_over(rack, agent, over.licence),
            Order::PlaceConfig(_) if machine.target().is_some_and(|t| t.by_url.is_some()) => {
                self.point(rack, agent)
            }
            Order::PlaceConfig(_) => self.config(rack, agent),
            Order::Reboot { .. } => {
                agent.doing = tell(Step::Reboot, Then::Reboot);
                true
            }
            Order::PowerOff { .. } => {
                agent.doing = tell(Step::PowerOff, Then::PowerOff);
                true
            }
        }
    }

    fn spend(&mut self, rack: usize, agent: &mut Agent, licence: LicenceId, wipe: bool) -> bool {
        let (boot_hash, generation) = (agent.boot_id.hash(), agent.claimed.unwrap());
        let disks = vec![self.racks[rack].disk_identity()];
        match self.tell(rack, &Event::SpendLicence { boot_hash, generation, licence, disks }) {
            Some(Verdict::Accepted) => {
                let slow = self.rng.u8(..) < 20;
                let left = self.rng.u32(if slow { 60..300 } else { 1..30 });
                agent.doing = Doing::Writing { left, licence, wipe, slow };
                self.racks[rack].disk.lied = false;
                true
            }
            Some(Verdict::Refused(_)) => true,
            None => false,
        }
    }

    fn config(&mut self, rack: usize, agent: &mut Agent) -> bool {
        let (boot_hash, generation) = (agent.boot_id.hash(), agent.claimed.unwrap());
        if !self.asked_issuer(rack, &boot_hash, generation) {
            return false;
        }
        let token_hash = format!("token of {boot_hash}");
        let event = Event::ConfigRendered {
            boot_hash,
            generation,
            token_hash: token_hash.clone(),
            token_expires: Time(self.now.0 + 3_600_000),
            config_hash: String::new(),
        };
        match self.tell(rack, &event) {
            Some(Verdict::Accepted) => {
                agent.doing = Doing::Placing { token: token_hash };
                true
            }
            Some(Verdict::Refused(_)) => true,
            None => false,
        }
    }
}
