//! The world's clock and its story: a queue of things that happen, each a function of the seed.

use super::{
    cluster::Cluster,
    journal::{Died, SimJournal, Tables},
    machines::{Agent, Content, Doing, Rack, Running},
    server::{Server, Started},
};
use fastrand::Rng;
use provisioner::machine::{
    Act, ActResult, Event, Machine, MachineId, Time, Verdict,
    state::{ByUrl, Leaving, Netboot, Target},
    wants::SILENCE_MAX,
};
use provisioner_wire::{
    MachineName,
    machine::{Phase, WorkflowKind},
    order::{Image, ImageFormat, LicenceId, PartitionSelector, Place, ReadBack, WipeMethod},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};
use uuid::Uuid;

/// A profile whose operating system installs itself.
pub(super) const NETBOOT: &str = "netboot";
/// A profile whose node fetches its config.
const BY_URL: &str = "by-url";
/// Faults and operators for so long; then the world is left in peace, and must come to rest.
const TROUBLE_MS: i64 = 3 * 3600 * 1000;
const REST_MS: i64 = 40 * 3600 * 1000;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Totals {
    pub steps: u64,
    pub ready: u64,
    pub failed: u64,
    pub writes: u64,
    pub crashes: u64,
    pub power_cuts: u64,
    pub alarms: u64,
    pub losses: u64,
    /// Agents that stopped in the middle of a write.
    pub hung: u64,
    /// Disks that were found to have dropped a write.
    pub lies: u64,
    /// Workflows that failed because their agent was not heard.
    pub silent: u64,
    /// Configs that a node or an installer has fetched.
    pub fetched: u64,
    /// Of those, by somebody who had read the URL on the wire.
    pub stolen: u64,
    /// Turns that found a machine held back by another DHCP server.
    pub held: u64,
    /// Tokens made and deleted at the issuer, and askings that it did not answer.
    pub minted: u64,
    pub revoked: u64,
    pub outages: u64,
    /// Nodes that left their cluster.
    pub left: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        self.steps += other.steps;
        self.ready += other.ready;
        self.failed += other.failed;
        self.writes += other.writes;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.alarms += other.alarms;
        self.losses += other.losses;
        self.hung += other.hung;
        self.lies += other.lies;
        self.silent += other.silent;
        self.held += other.held;
        self.fetched += other.fetched;
        self.stolen += other.stolen;
        self.minted += other.minted;
        self.revoked += other.revoked;
        self.outages += other.outages;
        self.left += other.left;
    }
}

#[derive(Debug, Clone)]
pub(super) enum Happening {
    /// The server's timer.
    Timer,
    ServerUp,
    /// A machine's program does its next thing; void where the machine was power-cycled meanwhile.
    Machine(usize, u64),
    /// A request arrives at the server (late, or for the second time).
    Late(usize, Box<Event>),
    /// The BMC does what process `epoch` told it to, and answers.
    Bmc {
        rack: usize,
        act: Act,
        epoch: u64,
        started: Box<Machine>,
    },
    Acted {
        rack: usize,
        epoch: u64,
        event: Box<Event>,
    },
    Operator(usize),
    PowerCut(usize),
    /// Somebody who saw the boot id on the wire claims it, too.
    Thief(usize),
    LoseDatabase,
    /// A request for a token arrives at the issuer late; nobody waits for its answer any more.
    Minted(usize, String),
    /// The cluster does not answer for so many milliseconds.
    Outage(i64),
    /// Another DHCP server is heard, for so many milliseconds.
    Rogue(i64),
}

pub struct World {
    pub(super) rng: Rng,
    pub(super) now: Time,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    serial: u64,
    pub(super) server: Server,
    pub(super) racks: Vec<Rack>,
    /// Boot ids and who claimed them with success (I5).
    claims: BTreeMap<String, String>,
    /// One-shot URLs and who was given their config.
    pub(super) delivered: BTreeMap<String, String>,
    pub(super) cluster: Cluster,
    pub(super) totals: Totals,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let server = Server { journal: SimJournal::default(), up: true, epoch: 0 };
        let racks = (0..rng.usize(1..=2))
            .map(|_| Rack {
                id: MachineId(Uuid::from_u128(rng.u128(..))),
                running: Running::Off,
                boot: 0,
                disk: Content::default(),
                ready_netboots: 0,
            })
            .collect();
        let mut world = Self {
            rng,
            now: Time(1_700_000_000_000),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            serial: 0,
            server,
            racks,
            claims: BTreeMap::new(),
            delivered: BTreeMap::new(),
            cluster: Cluster::default(),
            totals: Totals::default(),
        };
        world.declare();
        world.script_trouble();
        world
    }

    fn declare(&mut self) {
        let mut tables = self.server.journal.tables.lock().unwrap();
        for (n, rack) in self.racks.iter().enumerate() {
            let name: MachineName = format!("m{n}").parse().unwrap();
            // One in eight has no BMC: somebody presses its button (see the power cuts).
            let bmc = rack.id.0.as_u128() % 8 != 0;
            tables.machines.insert(rack.id, Machine::declared(rack.id, name, bmc, self.now));
        }
    }

    fn script_trouble(&mut self) {
        self.after(0, Happening::Timer);
        for rack in 0..self.racks.len() {
            self.after(1, Happening::Operator(rack));
            for _ in 0..self.rng.usize(0..4) {
                let at = self.rng.i64(0..TROUBLE_MS);
                self.after(at, Happening::Operator(rack));
            }
            for _ in 0..self.rng.usize(0..5) {
                // Most of what matters happens in the first minutes.
                let at = if self.rng.bool() { self.rng.i64(0..600_000) } else { self.rng.i64(0..TROUBLE_MS) };
                self.after(at, Happening::PowerCut(rack));
            }
        }
        if self.rng.u8(..) < 12 {
            let at = self.rng.i64(0..TROUBLE_MS / 2);
            self.after(at, Happening::LoseDatabase);
        }
        if self.rng.u8(..) < 64 {
            for _ in 0..self.rng.usize(1..4) {
                let (at, long) = (self.rng.i64(0..TROUBLE_MS / 2), self.rng.i64(60_000..TROUBLE_MS));
                self.after(at, Happening::Rogue(long));
            }
        }
        for _ in 0..self.rng.usize(0..3) {
            let (at, long) = (self.rng.i64(0..TROUBLE_MS / 4), self.rng.i64(1_000..1_800_000));
            self.after(at, Happening::Outage(long));
        }
        self.arm_fuse();
    }

    /// The server's next death, in statements; in peace there is none.
    fn arm_fuse(&mut self) {
        let peace = self.in_peace();
        let statements = self.rng.u32(5..400);
        *self.server.journal.fuse.lock().unwrap() = (!peace).then_some(statements);
    }

    pub(super) fn in_peace(&self) -> bool {
        self.now.0 - 1_700_000_000_000 >= TROUBLE_MS
    }

    pub(super) fn after(&mut self, ms: i64, happening: Happening) {
        self.serial += 1;
        self.happenings.insert(self.serial, happening);
        self.queue.push(Reverse((self.now.0 + ms, self.serial)));
    }

    pub fn run(mut self) -> Totals {
        let end = self.now.0 + TROUBLE_MS + REST_MS;
        while let Some(Reverse((at, serial))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now = Time(at);
            let happening = self.happenings.remove(&serial).unwrap();
            self.totals.steps += 1;
            assert!(self.totals.steps < 400_000, "the world does not come to rest");
            self.happen(happening);
        }
        self.at_rest();
        self.totals
    }

    /// I12: with the trouble over, no machine is left in the middle of anything.
    fn at_rest(&mut self) {
        let tables = self.server.journal.tables.lock().unwrap();
        for machine in tables.machines.values() {
            assert!(
                !machine.is_busy(),
                "I12: {} is still {} ({})",
                machine.name,
                machine.phase,
                machine.reason
            );
            match machine.phase {
                Phase::Ready => self.totals.ready += 1,
                Phase::Failed => self.totals.failed += 1,
                _ => {}
            }
            let live = |url: &provisioner::machine::state::ConfigUrl| url.generation == machine.generation;
            assert!(machine.config_url.as_ref().is_none_or(live), "a URL of another generation");
            assert!(machine.licence.is_none() && machine.token.is_none() && machine.boot.is_none());
            assert!(machine.owed.is_empty(), "{} owes {:?} for ever", machine.name, machine.owed);
        }
        self.totals.alarms = tables.alarms;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Timer => self.timer(),
            Happening::ServerUp => self.server_up(),
            Happening::Machine(rack, boot) if self.racks[rack].boot == boot => self.machine(rack),
            Happening::Machine(..) => {}
            Happening::Late(rack, event) => drop(self.tell(rack, &event)),
            Happening::Bmc { rack, act, epoch, started } => self.bmc(rack, act, epoch, &started),
            Happening::Acted { rack, epoch, event } if epoch == self.server.epoch => {
                drop(self.tell(rack, &event))
            }
            Happening::Acted { .. } => {}
            Happening::Operator(rack) => self.operator(rack),
            Happening::PowerCut(rack) => {
                self.totals.power_cuts += 1;
                self.power_on(rack);
            }
            Happening::Thief(rack) => self.thief(rack),
            Happening::LoseDatabase => self.lose_database(),
            Happening::Minted(rack, claim) => self.mint(rack, &claim),
            Happening::Outage(long) => self.cluster.down_until = Time(self.now.0 + long),
            Happening::Rogue(long) => {
                self.server.journal.tables.lock().unwrap().foreign = Some(Time(self.now.0 + long));
            }
        }
    }

    // --- the server

    fn timer(&mut self) {
        // The engine's own timer is faster; what matters is that nothing but it looks at passed deadlines.
        self.after(if self.in_peace() { 300_000 } else { 15_000 }, Happening::Timer);
        for rack in 0..self.racks.len() {
            if self.server.up && self.server.is_due(self.racks[rack].id) {
                let before = self.server.journal.machine(self.racks[rack].id);
                let turned = self.server.turn(self.racks[rack].id, self.now);
                self.started(turned.map(|s| s.into_iter().collect()));
                self.check_silence(rack, before.as_ref());
                self.check_tokens(rack);
                let now = self.server.journal.machine(self.racks[rack].id);
                let held = now.is_some_and(|m| m.is_busy() && m.workflow.is_some_and(|w| w.held.is_some()));
                self.totals.held += u64::from(held);
            }
        }
    }

    /// Only an agent that really does nothing is given up as silent, and it is given up in time.
    fn check_silence(&mut self, rack: usize, before: Option<&Machine>) {
        let Some(machine) = self.server.journal.machine(self.racks[rack].id) else { return };
        let Some(before) = before.filter(|m| m.heard.is_some()) else { return };
        if machine.phase == Phase::Failed && machine.reason.starts_with("the agent was not heard") {
            self.totals.silent += 1;
            let works = matches!(&self.racks[rack].running, Running::Agent(a)
                if matches!(a.doing, Doing::Writing { .. }) && a.claimed == Some(before.generation));
            assert!(!works, "{} was given up while its agent wrote", machine.name);
        } else if self.server.up && machine.phase == before.phase && machine.since == before.since {
            let heard = machine.heard.unwrap_or(machine.since);
            assert!(self.now.since(heard) < SILENCE_MAX, "{} is silent and was not given up", machine.name);
        }
    }

    fn server_up(&mut self) {
        self.server.up = true;
        self.arm_fuse();
        let recovered = self.server.recover(self.now);
        self.started(recovered);
    }

    /// Acts that begin; or the end of this process.
    fn started(&mut self, turned: Result<Vec<Started>, Died>) {
        match turned {
            Ok(started) => {
                for (id, act, machine) in started {
                    let rack = self.racks.iter().position(|r| r.id == id).unwrap();
                    let ms =
                        if self.rng.u8(..) < 20 { self.rng.i64(0..170_000) } else { self.rng.i64(1..3_000) };
                    let epoch = self.server.epoch;
                    self.after(ms, Happening::Bmc { rack, act, epoch, started: Box::new(machine) });
                }
            }
            Err(Died) => {
                self.totals.crashes += 1;
                self.server.up = false;
                self.server.epoch += 1;
                *self.server.journal.fuse.lock().unwrap() = None;
                let ms = self.rng.i64(10..60_000);
                self.after(ms, Happening::ServerUp);
            }
        }
    }

    /// Submits an event of a machine. `None`: no answer (the server is down, died, or a message was lost).
    pub(super) fn tell(&mut self, rack: usize, event: &Event) -> Option<Verdict> {
        let trouble = !self.in_peace();
        if trouble && self.rng.u8(..) < 20 {
            // Late: it arrives when nobody waits for it any more.
            let ms = self.rng.i64(1..900_000);
            self.after(ms, Happening::Late(rack, Box::new(event.clone())));
            return None;
        }
        if trouble && self.rng.u8(..) < 10 {
            let ms = self.rng.i64(1..5_000);
            self.after(ms, Happening::Late(rack, Box::new(event.clone())));
        }
        if !self.server.up {
            return None;
        }
        let id = self.racks[rack].id;
        let before = self.server.journal.machine(id);
        match self.server.submit(id, event, self.now) {
            Ok((verdict, started)) => {
                self.check_fold(before.as_ref(), event, &verdict, rack);
                self.started(Ok(started.into_iter().collect()));
                (!trouble || self.rng.u8(..) >= 10).then_some(verdict)
            }
            Err(died) => {
                self.started(Err(died));
                None
            }
        }
    }

    fn check_fold(&mut self, before: Option<&Machine>, event: &Event, verdict: &Verdict, rack: usize) {
        let after = self.server.journal.machine(self.racks[rack].id);
        if let (Some(before), Event::ScriptServed { .. }) = (before, event)
            && before.phase == Phase::Ready
        {
            assert!(matches!(verdict, Verdict::Refused(_)), "I2: a Ready machine was given a boot id");
            assert_eq!(after.as_ref(), Some(before), "I2: a network boot changed a Ready machine");
        }
        if let Event::Claimed { boot_hash, public_key, .. } = event {
            let winner = self.claims.get(boot_hash);
            if *verdict == Verdict::Accepted {
                assert!(winner.is_none_or(|w| w == public_key), "I5: two keys won one boot id");
                self.claims.insert(boot_hash.clone(), public_key.clone());
            }
        }
        self.check_url(before, after.as_ref(), event);
        // I7: delivered again at once, nothing changes (the licence counts its asking, that is all).
        if let Some(after) = &after
            && !matches!(event, Event::SpendLicence { .. } | Event::Acted { .. } | Event::Tried { .. })
            && *verdict == Verdict::Accepted
            && let Ok(again) = provisioner::machine::on(after, event, self.now)
        {
            assert_eq!(&again, after, "I7: {} delivered twice", event.kind());
        }
    }

    fn lose_database(&mut self) {
        if !self.server.up {
            return;
        }
        self.totals.losses += 1;
        self.server.epoch += 1;
        *self.server.journal.tables.lock().unwrap() = Tables::default();
        self.declare();
        // I14: nobody asks for anything from here on; so nothing may be written that was not begun.
        self.happenings.retain(|_, h| match h {
            Happening::Operator(_) => false,
            Happening::Late(_, event) => !is_intent(event),
            _ => true,
        });
        self.queue.retain(|Reverse((_, serial))| self.happenings.contains_key(serial));
        for rack in &mut self.racks {
            match &mut rack.running {
                Running::Agent(agent) => agent.doing = Doing::Idle,
                // What was begun with a licence cannot be called back; it is not what is looked for here.
                Running::Installer(_) => rack.running = Running::Stuck,
                _ => {}
            }
        }
        self.cluster.forgotten = true;
        self.writes_end_here();
    }

    fn writes_end_here(&mut self) {
        for rack in &mut self.racks {
            rack.disk.writes = u64::MAX;
        }
    }

    // --- the BMC

    fn bmc(&mut self, rack: usize, act: Act, epoch: u64, started: &Machine) {
        let result = match act {
            Act::Preflight => self.preflight(started),
            Act::ChooseDisks => ActResult::DisksChosen {
                licence: LicenceId(Uuid::from_u128(self.rng.u128(..))),
                disks: vec![self.racks[rack].disk_identity()],
            },
            Act::NetworkBoot | Act::PowerOff => self.power_act(rack, act, epoch),
            Act::Revoke => self.revoke(rack, started),
            Act::AwaitReady => self.look(rack, started),
            Act::Leave => self.leave(rack, started),
        };
        let event = Event::Acted { act, generation: started.generation, result };
        let ms = self.rng.i64(1..2_000);
        self.after(ms, Happening::Acted { rack, epoch, event: Box::new(event) });
    }

    fn preflight(&mut self, started: &Machine) -> ActResult {
        if self.rng.u8(..) < 4 {
            return ActResult::Refused { reason: "template".into() };
        }
        let provision = started.kind() == Some(WorkflowKind::Provision);
        let profile = started.workflow.as_ref().and_then(|w| w.profile.as_deref()).unwrap_or_default();
        let image = Image {
            name: "i".into(),
            url: "/i".into(),
            format: ImageFormat::Raw,
            sha256: String::new(),
            size_bytes: 1,
            raw_sha256: None,
            raw_size_bytes: None,
            chunks: None,
        };
        let netboot =
            || Netboot { kernel: image.clone(), initramfs: vec![], rootfs: None, arguments: vec![] };
        ActResult::Preflighted {
            target: Box::new(Target {
                image: (provision && profile != NETBOOT).then(|| image.clone()),
                netboot: (profile == NETBOOT).then(netboot),
                by_url: matches!(profile, NETBOOT | BY_URL).then(|| ByUrl {
                    tls: true,
                    own_address: true,
                    files: vec!["config".into()],
                }),
                place: provision
                    .then(|| Place { partition: PartitionSelector::Number(2), directory: "/seed".into() }),
                wipe: WipeMethod::Metadata,
                read_back: provision.then_some(ReadBack::Sampled),
                token_ttl_ms: 3_600_000,
                join: provision.then(|| self.join(started)),
                ready_deadline_ms: 1_800_000,
                kernel_arguments: Vec::new(),
                profile: serde_json::Value::Null,
            }),
        }
    }

    fn power_act(&mut self, rack: usize, act: Act, epoch: u64) -> ActResult {
        if !self.in_peace() && self.rng.u8(..) < 30 {
            return ActResult::Failed { reason: "the BMC did not answer".into() };
        }
        // As `perform` does: the state is read again right before the machine is touched; a dead process does nothing.
        let state = self.server.journal.machine(self.racks[rack].id);
        let expected = if act == Act::NetworkBoot { Phase::Powering } else { Phase::PoweringOff };
        if epoch != self.server.epoch || state.is_none_or(|m| m.phase != expected) {
            return ActResult::Failed { reason: "the machine has moved on".into() };
        }
        let writing = matches!(&self.racks[rack].running, Running::Agent(a) if a.claimed.is_some()
            && matches!(a.doing, Doing::Writing { .. }) && self.holds_claim(a));
        assert!(!writing, "I10: {act} while a disk step is live");
        if act == Act::NetworkBoot {
            self.power_on(rack);
        } else {
            self.racks[rack].boot += 1;
            self.racks[rack].running = Running::Off;
        }
        ActResult::Done
    }

    fn holds_claim(&self, agent: &Agent) -> bool {
        self.server
            .journal
            .by_boot(&agent.boot_id.hash())
            .and_then(|m| m.claim)
            .is_some_and(|c| c.public_key == agent.key)
    }

    // --- operators

    fn operator(&mut self, rack: usize) {
        let workflow = Uuid::from_u128(self.rng.u128(..));
        let event = match self.rng.u8(0..11) {
            10 => Event::DespiteRogue,
            0..=4 => {
                let profile = ["p", "p", NETBOOT, BY_URL][self.rng.usize(0..4)];
                Event::Provision { workflow, profile: profile.into() }
            }
            5 if self.rng.bool() => Event::Release { workflow },
            5 => Event::ReleaseBy { workflow, how: Leaving::Undrained },
            6 => Event::Inspect { workflow },
            7 => Event::Cancel,
            8 => Event::Retry { workflow },
            _ => Event::Provision { workflow, profile: "q".into() },
        };
        self.tell(rack, &event);
        if self.racks[rack].id.0.as_u128().is_multiple_of(8) {
            let ms = self.rng.i64(1_000..600_000);
            self.after(ms, Happening::PowerCut(rack));
        }
    }
}

fn is_intent(event: &Event) -> bool {
    matches!(
        event,
        Event::Provision { .. }
            | Event::Release { .. }
            | Event::ReleaseBy { .. }
            | Event::Inspect { .. }
            | Event::Retry { .. }
    )
}
