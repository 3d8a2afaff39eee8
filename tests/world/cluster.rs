//! The cluster of the world: an issuer that goes away, that makes what was asked for late, and deletes what it is told
//! to; and nodes that join it with a live token only.

use super::simulation::{Happening, World};
use provisioner::machine::{
    ActResult, Event, Machine, Time, Verdict,
    join::{ISSUER_WITHIN, dead},
    state::{Join, Joined, Leaving, Minter, Owed},
};
use provisioner_wire::Generation;
use std::collections::BTreeMap;

const TTL_MS: i64 = 3_600_000;

#[derive(Debug, Default)]
pub struct Cluster {
    /// By machine and claim: until when the token lives.
    tokens: BTreeMap<(usize, String), Time>,
    /// By machine: which generation's node is there.
    nodes: BTreeMap<usize, Generation>,
    pub down_until: Time,
    /// The server has lost its database, and with it what it owes; the tokens' time to live is left.
    pub forgotten: bool,
}

impl World {
    /// Half of the machines join the cluster; the others phone home.
    pub(super) fn join(&self, machine: &Machine) -> Join {
        let joins = machine.id.0.as_u128().is_multiple_of(2);
        Join {
            watched: joins,
            minter: joins.then(|| Minter { cluster: "c".into(), issuer: "kubernetes".into() }),
            node: joins.then(|| Joined {
                cluster: "c".into(),
                node: machine.name.to_string(),
                provider_id: None,
                drain_within_ms: 900_000,
            }),
        }
    }

    fn is_down(&self) -> bool {
        self.now < self.cluster.down_until
    }

    /// What `http/minted.rs` does: true where the token is there, and the config can be rendered.
    pub(super) fn asked_issuer(&mut self, rack: usize, claim: &str, generation: Generation) -> bool {
        let machine = self.server.journal.machine(self.racks[rack].id);
        let join = machine.as_ref().and_then(|m| m.target()).and_then(|t| t.join.clone());
        let Some(minter) = join.and_then(|join| join.minter) else { return true };
        let (now, expires) = (self.now, Time(self.now.0 + TTL_MS));
        let minted_for = claim.to_owned();
        let owed = Owed { minter, minted_for, generation, first: now, asked: now, expires, revoked: None };
        if self.tell(rack, &Event::Minting { generation, owed }) != Some(Verdict::Accepted) {
            return false;
        }
        if self.is_down() {
            self.totals.outages += 1;
            return self.no_issuer(rack, claim, generation);
        }
        if !self.in_peace() && self.rng.u8(..) < 40 {
            // The request is on its way while the server dies, or gives up waiting.
            let ms = self.rng.i64(1..55_000);
            self.after(ms, Happening::Minted(rack, claim.to_owned()));
            return false;
        }
        self.mint(rack, claim);
        true
    }

    fn no_issuer(&mut self, rack: usize, claim: &str, generation: Generation) -> bool {
        let machine = self.server.journal.machine(self.racks[rack].id);
        let owed = machine.and_then(|m| m.owed.into_iter().find(|o| o.minted_for == claim));
        let reason = "the issuer does not answer".to_owned();
        let event = match owed.is_some_and(|o| self.now.since(o.first) >= ISSUER_WITHIN) {
            true => Event::ConfigRefused { boot_hash: claim.to_owned(), generation, reason },
            false => Event::IssuerDown { generation, reason },
        };
        self.tell(rack, &event);
        false
    }

    /// Once a claim: a second request finds the first one's token.
    pub(super) fn mint(&mut self, rack: usize, claim: &str) {
        let expires = Time(self.now.0 + TTL_MS);
        self.totals.minted += 1;
        self.cluster.tokens.entry((rack, claim.to_owned())).or_insert(expires);
    }

    pub(super) fn revoke(&mut self, rack: usize, started: &Machine) -> ActResult {
        if self.is_down() {
            self.totals.outages += 1;
            return ActResult::Failed { reason: "the issuer does not answer".into() };
        }
        let which: Vec<String> = dead(started).map(|o| o.minted_for.clone()).collect();
        for claim in &which {
            self.totals.revoked += u64::from(self.cluster.tokens.remove(&(rack, claim.clone())).is_some());
        }
        ActResult::Revoked { minted_for: which }
    }

    /// The node's first boot: it joins where its token is live.
    pub(super) fn node_joins(&mut self, rack: usize, token: &str, generation: Generation) {
        let claim = token.trim_start_matches("token of ").to_owned();
        let live = self.cluster.tokens.get(&(rack, claim)).is_some_and(|until| self.now < *until);
        if live && !self.is_down() {
            self.cluster.nodes.insert(rack, generation);
        }
    }

    pub(super) fn look(&mut self, rack: usize, started: &Machine) -> ActResult {
        if self.cluster.nodes.get(&rack) == Some(&started.generation) && !self.is_down() {
            return ActResult::IsReady { how: "its node is Ready".into(), missing: Vec::new() };
        }
        ActResult::Failed { reason: "the node has not joined yet".into() }
    }

    pub(super) fn leave(&mut self, rack: usize, started: &Machine) -> ActResult {
        assert!(started.joined.is_some(), "a machine without a node leaves nothing");
        let drained = started.workflow.as_ref().is_some_and(|w| w.leaving == Leaving::Drained);
        let held = drained && self.rng.u8(..) < 60;
        if self.is_down() || held {
            return ActResult::Failed { reason: "pods are still on it".into() };
        }
        self.totals.left += 1;
        self.cluster.nodes.remove(&rack);
        ActResult::Done
    }

    /// I4: where the server owes nothing, nothing is live at the issuer.
    pub(super) fn check_tokens(&self, rack: usize) {
        let Some(machine) = self.server.journal.machine(self.racks[rack].id) else { return };
        if self.cluster.forgotten || !machine.owed.is_empty() {
            return;
        }
        let live = self.cluster.tokens.iter().find(|((r, _), until)| *r == rack && self.now < **until);
        assert!(live.is_none(), "I4: {} owes nothing, and {live:?} is live", machine.name);
    }
}
