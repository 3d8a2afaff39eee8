//! I9 in the seeded world: the real DHCP server against clients whose packets are lost, doubled and late, with a journal
//! that fails and a server that dies and starts again from what the journal kept. What is checked is what the clients
//! believe: no two of them hold one address.

use crate::dhcp::house::{Declared, Ear, Journal, SERVER, option, packet, serving};
use fastrand::Rng;
use futures_util::FutureExt;
use provisioner::{
    dhcp::{LeaseRecord, Who, config::SubnetConfig, server::Server, subnet::Subnet},
    machine::Time,
};
use provisioner_wire::Mac;
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering},
};

const CLIENTS: usize = 7;
const STEPS: usize = 70;
const LEASE_SECONDS: u32 = 600;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    acknowledged: u64,
    contended: u64,
    restarts: u64,
}

#[derive(Clone, Copy, Default)]
struct Client {
    offered: Option<Ipv4Addr>,
    /// The last address it had, and until when it believes in it.
    lease: Option<(Ipv4Addr, Time)>,
}

struct World {
    rng: Rng,
    now: Time,
    server: Server<Declared, Journal, Ear>,
    journal: Arc<Journal>,
    /// As the store keeps them: the last record of each address.
    kept: BTreeMap<Ipv4Addr, LeaseRecord>,
    clients: [Client; CLIENTS],
    late: Vec<Vec<u8>>,
    totals: Totals,
}

#[test]
fn no_address_is_held_twice() {
    let seeds = 10_000u64;
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let totals = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|w| {
                scope
                    .spawn(move || (w..seeds).step_by(threads as usize).map(run).fold(Totals::default(), sum))
            })
            .collect();
        workers
            .into_iter()
            .map(|w| w.join().expect("the failing seed is printed above"))
            .fold(Totals::default(), sum)
    });
    println!("{seeds} seeds: {totals:?}");
    assert!(
        totals.acknowledged > 10 * seeds && totals.contended > seeds && totals.restarts > seeds,
        "{totals:?}"
    );
    assert_eq!(run(3), run(3), "a seed must replay");
}

fn sum(a: Totals, b: Totals) -> Totals {
    Totals {
        acknowledged: a.acknowledged + b.acknowledged,
        contended: a.contended + b.contended,
        restarts: a.restarts + b.restarts,
    }
}

fn run(seed: u64) -> Totals {
    let done = std::panic::catch_unwind(|| {
        if std::env::var("T").is_ok() && seed != 4275 {
            return Totals::default();
        }
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
            world.check();
        }
        world.totals
    });
    done.unwrap_or_else(|panic| {
        eprintln!("FAILING SEED of the leases: {seed}");
        std::panic::resume_unwind(panic)
    })
}

fn mac(client: usize) -> Mac {
    Mac([0x52, 0x54, 0, 0, 1, client as u8])
}

/// Client 0 has a reservation inside the pool, client 1 one outside of it.
fn declared() -> Declared {
    let known = |name: &str, last| Who::Known {
        name: name.parse().unwrap(),
        address: Some(Ipv4Addr::new(10, 88, 0, last)),
        netboot: true,
    };
    Declared([(mac(0), known("a", 101)), (mac(1), known("b", 11))].into())
}

fn serve(kept: &[LeaseRecord], journal: &Arc<Journal>) -> Server<Declared, Journal, Ear> {
    let subnet = SubnetConfig {
        // Fewer addresses than clients.
        pools: vec![[Ipv4Addr::new(10, 88, 0, 100), Ipv4Addr::new(10, 88, 0, 103)]],
        lease_seconds: LEASE_SECONDS,
        ..SubnetConfig::of("10.88.0.0/24".parse().unwrap())
    };
    let subnets = Subnet::all(&[subnet]).unwrap();
    Server::new(subnets, serving(), kept, Arc::new(declared()), journal.clone(), Arc::default())
}

impl World {
    fn new(seed: u64) -> Self {
        let journal = Arc::new(Journal::default());
        Self {
            rng: Rng::with_seed(seed),
            now: Time(1_700_000_000_000),
            server: serve(&[], &journal),
            journal,
            kept: BTreeMap::new(),
            clients: [Client::default(); CLIENTS],
            late: Vec::new(),
            totals: Totals::default(),
        }
    }

    fn step(&mut self) {
        let seconds = if self.rng.u8(..) < 40 { self.rng.i64(0..900) } else { self.rng.i64(0..5) };
        self.now = Time(self.now.0 + seconds * 1000);
        self.journal.broken.store(self.rng.u8(..) < 15, Ordering::Relaxed);
        match self.rng.u8(..) {
            0..12 => self.restart(),
            12..30 if !self.late.is_empty() => {
                let packet = self.late.swap_remove(self.rng.usize(..self.late.len()));
                // Its client no longer listens for the answer.
                drop(self.hear(&packet));
            }
            _ => {
                let client = self.rng.usize(..CLIENTS);
                self.client(client);
            }
        }
    }

    fn restart(&mut self) {
        self.totals.restarts += 1;
        let kept: Vec<LeaseRecord> = self.kept.values().cloned().collect();
        self.server = serve(&kept, &self.journal);
    }

    fn client(&mut self, client: usize) {
        let Client { offered, lease } = self.clients[client];
        let held = lease.filter(|(_, until)| *until > self.now).map(|(ip, _)| ip);
        let me = mac(client);
        match (self.rng.u8(0..8), offered, held) {
            (0..=3, Some(ip), None) => {
                let (asked, server) = (ip.octets(), SERVER.octets());
                let request = packet(me, &[(53, &[3]), (50, &asked), (54, &server)]);
                self.clients[client].offered = None;
                self.ask(client, request);
            }
            (0..=3, _, Some(ip)) => {
                let mut renewal = packet(me, &[(53, &[3])]);
                renewal[12..16].copy_from_slice(&ip.octets());
                self.ask(client, renewal);
            }
            (4, _, Some(ip)) => {
                let mut release = packet(me, &[(53, &[7]), (54, &SERVER.octets())]);
                release[12..16].copy_from_slice(&ip.octets());
                self.clients[client].lease = None;
                self.send(release);
            }
            (5, _, Some(ip)) => {
                let decline = packet(me, &[(53, &[4]), (50, &ip.octets()), (54, &SERVER.octets())]);
                self.clients[client].lease = None;
                self.send(decline);
            }
            (6, _, _) if lease.is_some() => {
                let before = lease.unwrap().0.octets();
                // Rebooted: it asks for what it had, and believes nothing until it is told.
                self.clients[client].lease = None;
                self.ask(client, packet(me, &[(53, &[3]), (50, &before)]));
            }
            _ => self.ask(client, packet(me, &[(53, &[1])])),
        }
    }

    /// Sends a packet whose answer the client waits for, unless either is lost.
    fn ask(&mut self, client: usize, request: Vec<u8>) {
        let Some(answer) = self.send(request) else { return };
        if self.rng.u8(..) < 25 {
            return;
        }
        let ip = Ipv4Addr::from(<[u8; 4]>::try_from(&answer[16..20]).unwrap());
        let me = &mut self.clients[client];
        match option(&answer, 53) {
            Some([2]) => me.offered = Some(ip),
            Some([5]) => {
                let seconds = option(&answer, 51).map(|s| u32::from_be_bytes(s.try_into().unwrap())).unwrap();
                me.lease = Some((ip, Time(self.now.0 + i64::from(seconds) * 1000)));
                self.totals.acknowledged += 1;
            }
            Some([6]) => me.lease = None,
            other => panic!("an answer of kind {other:?}"),
        }
    }

    fn send(&mut self, request: Vec<u8>) -> Option<Vec<u8>> {
        // Nothing in DHCP tells an old RELEASE or DECLINE from a new one, so a late one is lost here: delivered after
        // its sender has the address again it would free it under any server.
        let gives_up = matches!(option(&request, 53), Some([4 | 7]));
        match self.rng.u8(..) {
            15..60 if gives_up => return None,
            0..15 => return None,
            15..40 => {
                self.late.push(request);
                return None;
            }
            40..60 => self.late.push(request.clone()),
            _ => {}
        }
        self.hear(&request)
    }

    fn hear(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let replies =
            self.server.answer(&[request.to_vec()], self.now).now_or_never().expect("nothing waits");
        for record in self.journal.records.lock().unwrap().drain(..) {
            match &record {
                LeaseRecord::Bound { ip, .. } | LeaseRecord::Declined { ip, .. } => {
                    self.kept.insert(*ip, record);
                }
                LeaseRecord::Ended { ip, mac } => {
                    let theirs =
                        matches!(self.kept.get(ip), Some(LeaseRecord::Bound { mac: m, .. }) if m == mac);
                    if theirs {
                        self.kept.remove(ip);
                    }
                }
            }
        }
        if replies.is_empty() {
            self.totals.contended += 1;
        }
        replies.into_iter().next().map(|reply| reply.bytes)
    }

    /// I9.
    fn check(&self) {
        let mut holders: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for (client, state) in self.clients.iter().enumerate() {
            if let Some((ip, until)) = state.lease
                && until > self.now
                && let Some(other) = holders.insert(ip, client)
            {
                panic!("I9: {ip} is held by {} and {}", mac(other), mac(client));
            }
        }
    }
}
