//! What fetches its config by a one-shot URL: the operating system's own installer, a node whose disk points to the URL,
//! and somebody who has read the URL on the wire.

use super::{
    machines::{Agent, Doing, Installer, Running, Then},
    simulation::{Happening, World},
};
use provisioner::machine::{Event, Machine, Time, Verdict};
use provisioner_wire::{
    BootId, Generation,
    machine::Phase,
    order::{LicenceId, Step},
};

const FILE: &str = "config";

impl World {
    /// The script with the operating system's own kernel. False where there was none.
    pub(super) fn netboot(&mut self, rack: usize) -> bool {
        let id = self.racks[rack].id;
        let Some(machine) = self.server.journal.machine(id) else { return false };
        let Some(licence) = machine.licence.as_ref().map(|l| l.id) else { return false };
        let url = BootId::from_bytes(self.rng.u128(..).to_be_bytes());
        let event = Event::NetbootServed { url_hash: url.hash(), expires: Time(self.now.0 + 1_800_000) };
        if self.tell(rack, &event) != Some(Verdict::Accepted) {
            return false;
        }
        let installer = Installer { generation: machine.generation, url, licence, config: None };
        self.racks[rack].running = Running::Installer(installer);
        if self.rng.u8(..) < 30 {
            let ms = self.rng.i64(1_000..60_000);
            self.after(ms, Happening::Thief(rack));
        }
        self.later(rack, 5_000..120_000);
        true
    }

    /// The agent spends the licence; what it hands over to does the writing.
    pub(super) fn hand_over(&mut self, rack: usize, agent: &mut Agent, licence: LicenceId) -> bool {
        let (boot_hash, generation) = (agent.boot_id.hash(), agent.claimed.unwrap());
        let disks = vec![self.racks[rack].disk_identity()];
        match self.tell(rack, &Event::SpendLicence { boot_hash, generation, licence, disks }) {
            Some(Verdict::Accepted) => {
                agent.doing = Doing::Telling { step: Step::HandOver, then: Then::Ask };
                true
            }
            Some(Verdict::Refused(_)) => true,
            None => false,
        }
    }

    /// The agent is given the URL for the disk.
    pub(super) fn point(&mut self, rack: usize, agent: &mut Agent) -> bool {
        let (boot_hash, generation) = (agent.boot_id.hash(), agent.claimed.unwrap());
        let url = BootId::from_bytes(self.rng.u128(..).to_be_bytes());
        let expires = Time(self.now.0 + 1_800_000);
        match self.tell(rack, &Event::ConfigUrlMade { boot_hash, generation, url_hash: url.hash(), expires })
        {
            Some(Verdict::Accepted) => {
                agent.doing = Doing::Pointing { url };
                true
            }
            Some(Verdict::Refused(_)) => true,
            None => false,
        }
    }

    pub(super) fn installer(&mut self, rack: usize, mut installer: Installer) {
        match installer.config.take() {
            None => {
                let got = self.fetch(rack, installer.generation, &installer.url);
                let left = self.rng.u32(1..30);
                installer.config = got.map(|token| (token, left));
            }
            Some((token, 0)) => {
                let it = &mut self.racks[rack];
                it.disk.bootable = Some(installer.generation);
                it.disk.token = Some(token);
                return self.power_on(rack);
            }
            Some((token, left)) => {
                self.write(rack, installer.licence);
                installer.config = Some((token, left - 1));
            }
        }
        // It gives up where it gets no config: a person reads its console.
        let gone = installer.config.is_none() && self.rng.u8(..) < 30;
        self.racks[rack].running = if gone { Running::Stuck } else { Running::Installer(installer) };
        self.later(rack, 500..10_000);
    }

    /// A node's first boot from a disk that points to the URL.
    pub(super) fn fetching(&mut self, rack: usize, generation: Generation, url: &BootId) {
        if let Some(token) = self.fetch(rack, generation, url) {
            let it = &mut self.racks[rack];
            (it.disk.url, it.disk.token) = (None, Some(token.clone()));
            it.running = Running::Node { generation, token: Some(token) };
        } else if self.rng.u8(..) < 30 {
            self.racks[rack].running = Running::Stuck;
        }
        self.later(rack, 1_000..30_000);
    }

    /// One request, as `http/config_url.rs` treats it: the token that came with the config.
    fn fetch(&mut self, rack: usize, generation: Generation, url: &BootId) -> Option<String> {
        let (id, url_hash) = (self.racks[rack].id, url.hash());
        let fetch = format!("fetch-{}", self.rng.u64(..));
        let file = FILE.to_owned();
        let asked = Event::ConfigAsked { url_hash: url_hash.clone(), generation, file, fetch: fetch.clone() };
        if self.tell(rack, &asked) != Some(Verdict::Accepted) {
            return None;
        }
        let machine = self.server.journal.machine(id)?;
        let won = machine.config_url.filter(|u| u.hash == url_hash)?.fetched.get(FILE) == Some(&fetch);
        if !won || machine.phase != Phase::Rebooting {
            return None;
        }
        let token_hash = format!("token of {url_hash}");
        let rendered = Event::ConfigRendered {
            boot_hash: url_hash.clone(),
            generation,
            token_hash: token_hash.clone(),
            token_expires: Time(self.now.0 + 3_600_000),
            config_hash: String::new(),
        };
        if self.tell(rack, &rendered) != Some(Verdict::Accepted) {
            return None;
        }
        let before = self.delivered.insert(url_hash, fetch.clone());
        assert!(before.is_none_or(|b| b == fetch), "I4: one URL gave its config to two");
        self.totals.fetched += 1;
        // The answer may be lost on its way; it counts all the same.
        (self.in_peace() || self.rng.u8(..) >= 10).then_some(token_hash)
    }

    /// Somebody else asks with the URL that is on the machine's kernel command line.
    pub(super) fn url_thief(&mut self, rack: usize) {
        let Running::Installer(Installer { url, generation, .. }) = self.racks[rack].running.clone() else {
            return;
        };
        if self.fetch(rack, generation, &url).is_some() {
            self.totals.stolen += 1;
        }
    }

    /// Two who ask one URL never both have a live token.
    pub(super) fn check_url(&self, before: Option<&Machine>, after: Option<&Machine>, event: &Event) {
        let (Some(before), Some(after)) = (before, after) else { return };
        let Event::ConfigAsked { url_hash, file, fetch, .. } = event else { return };
        let url = before.config_url.as_ref().filter(|url| url.hash == *url_hash);
        let Some(winner) = url.and_then(|url| url.fetched.get(file)) else { return };
        if winner != fetch && before.generation == after.generation {
            assert!(after.token.is_none(), "I4: a config was asked for twice, and its token lives");
            assert!(before.phase != Phase::Ready || after == before, "I2: asking changed a Ready machine");
        }
    }
}
