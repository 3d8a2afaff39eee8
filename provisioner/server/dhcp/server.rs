//! A batch of packets, from bytes to bytes. The leases of all packets that wait are committed together, and only then do
//! their acknowledgements leave: as durable as one transaction per packet, and many times faster in a boot storm. What
//! promises no address does not wait.

use super::{
    Directory, Heard, Hearing, LeaseJournal, LeaseRecord, Particulars, Said, Told, Who,
    answer::{Answer, Reply},
    bootfile::{BootFile, Lead, NoBoot, Rounds, Serving, as_declared},
    client::{Client, Program},
    config::Mode,
    intake::Request,
    lease::{Asked, Decision, Leases},
    limits::Guard,
    proxy,
    road::{Road, boot_file_on},
    subnet::{Subnet, of_request},
};
use crate::machine::Time;
use std::{collections::HashSet, net::Ipv4Addr, sync::Arc};

const SERVER_PORT: u16 = 67;

/// The DHCP server without its socket.
#[derive(Debug)]
pub struct Server<D, J, H> {
    subnets: Vec<Subnet>,
    serving: Serving,
    leases: Leases,
    rounds: Rounds,
    guard: Guard,
    directory: Arc<D>,
    journal: Arc<J>,
    hearing: Arc<H>,
}

/// One packet that was understood, with all that is needed to answer it.
pub(super) struct Question {
    pub request: Request,
    pub client: Client,
    pub who: Who,
    pub road: Road,
    pub particulars: Arc<Particulars>,
}

/// What is to be done with a batch.
#[derive(Debug, Default)]
pub struct Decided {
    /// Answers that promise nothing which must be kept: offers, refusals, parameters.
    pub at_once: Vec<Reply>,
    pub promise: Promise,
}

/// Leases, and the answers that may leave when they are kept.
#[derive(Debug, Default)]
pub struct Promise {
    records: Vec<LeaseRecord>,
    answers: Vec<Answered>,
}

impl Promise {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.answers.is_empty()
    }

    /// This one, and after it `later`.
    pub fn and(&mut self, later: Self) {
        self.records.extend(later.records);
        self.answers.extend(later.answers);
    }
}

/// Keeps promises, in the order they were made in; beside the [`Server`], which decides the next batch meanwhile.
#[derive(Debug)]
pub struct Keeper<J, H> {
    journal: Arc<J>,
    hearing: Arc<H>,
}

impl<J: LeaseJournal, H: Hearing> Keeper<J, H> {
    /// Commits the leases; the answers that may leave then.
    pub async fn keep(&self, promise: Promise) -> Vec<Reply> {
        let Promise { records, answers } = promise;
        let kept = records.is_empty() || self.commit(&records).await;
        let mut replies = Vec::with_capacity(answers.len());
        for mut answered in answers {
            if kept {
                replies.extend(answered.reply);
            } else {
                answered.heard.said = Said::Nothing { reason: "its lease could not be kept" };
            }
            self.hearing.heard(answered.heard);
        }
        replies
    }

    async fn commit(&self, records: &[LeaseRecord]) -> bool {
        let done = self.journal.commit(records).await;
        if let Err(error) = &done {
            tracing::error!("DHCP: {} lease(s) not acknowledged: {error}", records.len());
        }
        done.is_ok()
    }
}

#[derive(Debug)]
struct Answered {
    reply: Option<Reply>,
    heard: Heard,
    /// The reply promises an address: it waits for the commit.
    promises: bool,
}

impl<D: Directory, J: LeaseJournal, H: Hearing> Server<D, J, H> {
    /// `kept`: every lease record that the journal has.
    pub fn new(
        subnets: Vec<Subnet>,
        serving: Serving,
        kept: &[LeaseRecord],
        directory: Arc<D>,
        journal: Arc<J>,
        hearing: Arc<H>,
    ) -> Self {
        let ours = subnets.iter().filter_map(|s| s.router).chain([serving.server]);
        let leases = Leases::new(ours, kept);
        let (rounds, guard) = (Rounds::default(), Guard::default());
        Self { subnets, serving, leases, rounds, guard, directory, journal, hearing }
    }

    /// With limits for unknown machines; without, none is held back.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// Some host's address in the first network.
    pub fn neighbour(&self) -> Ipv4Addr {
        let first = self.subnets.first().and_then(|subnet| subnet.network.hosts().last());
        first.unwrap_or(self.serving.server)
    }

    /// Answers UDP payloads, in their order. What cannot be kept is not answered: the clients ask again.
    pub async fn answer(&mut self, packets: &[Vec<u8>], now: Time) -> Vec<Reply> {
        let decided = self.decide(packets, now).await;
        let kept = self.keeper().keep(decided.promise).await;
        decided.at_once.into_iter().chain(kept).collect()
    }

    /// Decides a batch. What promises no address can be answered at once; the rest waits for [`Keeper::keep`].
    pub async fn decide(&mut self, packets: &[Vec<u8>], now: Time) -> Decided {
        let questions = self.understand(packets).await;
        let reserved = self.directory.reserved().await;
        let mut decided = Decided::default();
        for question in questions {
            let answered = self.one(question, &reserved, now, &mut decided.promise.records);
            if answered.promises {
                decided.promise.answers.push(answered);
            } else {
                decided.at_once.extend(answered.reply);
                self.hearing.heard(answered.heard);
            }
        }
        decided
    }

    /// What keeps the promises of this server.
    pub fn keeper(&self) -> Keeper<J, H> {
        Keeper { journal: self.journal.clone(), hearing: self.hearing.clone() }
    }

    async fn understand(&self, packets: &[Vec<u8>]) -> Vec<Question> {
        let trusts = self.subnets.iter().any(|subnet| subnet.trusts);
        let read = packets.iter().filter_map(|packet| match Request::read_on(packet, trusts) {
            Ok(request) if self.guard.is_probe(&request) => None,
            Ok(request) => Some(request),
            Err(why) => {
                self.hearing.malformed(why);
                None
            }
        });
        let asked = read.map(async |request| Question::of(request, &*self.directory).await);
        let mut questions = Vec::with_capacity(packets.len());
        for question in asked {
            questions.push(question.await);
        }
        questions
    }

    fn one(
        &mut self,
        question: Question,
        reserved: &HashSet<Ipv4Addr>,
        now: Time,
        records: &mut Vec<LeaseRecord>,
    ) -> Answered {
        let request = &question.request;
        let subnet = of_request(&self.subnets, self.serving.server, request);
        let rounds = self.rounds.lately(request.mac, now);
        let (said, reply) = match subnet {
            _ if let Err(reason) = self.guard.admit(request, &question.who, now) => {
                (Said::Nothing { reason }, None)
            }
            None => (Said::Nothing { reason: "it is on no subnet that is served" }, None),
            Some(subnet) => match subnet.mode {
                Mode::Off => (Said::Nothing { reason: "its subnet is switched off" }, None),
                Mode::Proxy => as_proxy(&question, &self.serving, rounds),
                Mode::Server => {
                    let identifier = request.server_id_override().unwrap_or(self.serving.server);
                    let asked = Asked { request, subnet, who: &question.who, reserved, now };
                    let (decision, new) = self.leases.decide(&asked, &[self.serving.server, identifier]);
                    records.extend(new);
                    as_server(&question, &self.serving, (subnet, identifier, decision), rounds)
                }
            },
        };
        let promises = matches!(said, Said::Ack { .. });
        let told = promises || matches!(said, Said::Boot { .. });
        if told && matches!(question.client.program, Program::Ipxe { http: false, .. }) {
            self.rounds.count(request.mac, request.xid, now);
        }
        Answered { reply, heard: question.heard(now, said), promises }
    }
}

impl Question {
    pub async fn of<D: Directory>(request: Request, directory: &D) -> Self {
        let who = directory.who(request.mac).await;
        let road = directory.road(request.mac).await;
        let particulars = directory.particulars(request.mac).await;
        Self { client: Client::of(&request), who, road, particulars, request }
    }

    /// What the client is to boot.
    pub fn boots(&self, serving: &Serving, rounds: u32) -> Result<Option<BootFile>, NoBoot> {
        if !self.who.netboot() {
            return Ok(None);
        }
        let file = boot_file_on(&self.road, &self.client, self.request.mac, serving, rounds)?;
        Ok(file.map(|file| as_declared(file, &self.client, &self.particulars.quirks)))
    }

    pub fn heard(self, at: Time, said: Said) -> Heard {
        Heard::new(at, &self.request, self.client, &self.who, said)
    }
}

/// Address and boot file.
fn as_server(
    question: &Question,
    serving: &Serving,
    (subnet, identifier, decision): (&Subnet, Ipv4Addr, Decision),
    rounds: u32,
) -> (Said, Option<Reply>) {
    let boot = question.boots(serving, rounds);
    let answer = Answer {
        request: &question.request,
        decision,
        subnet,
        identifier,
        tftp: serving.server,
        boot: boot.as_ref().ok().and_then(Option::as_ref),
        name: question.who.name(),
        own: &question.particulars.options,
    };
    let reply = answer.packet();
    (said(decision, boot), reply)
}

/// The boot file alone, to a client that gets its address elsewhere.
fn as_proxy(question: &Question, serving: &Serving, rounds: u32) -> (Said, Option<Reply>) {
    let Question { request, client, .. } = question;
    if let Some(reason) = proxy::not_ours(request, client) {
        return (Said::Nothing { reason }, None);
    }
    let boot = question.boots(serving, rounds);
    let offer = |boot: &BootFile| proxy::offer(request, client, serving.server, boot);
    let reply = boot.as_ref().ok().and_then(Option::as_ref).map(offer);
    (Said::Boot { port: SERVER_PORT, boot: told(boot) }, reply)
}

/// The boot part, as it is heard.
pub(super) fn told(boot: Result<Option<BootFile>, NoBoot>) -> Told {
    match boot {
        Ok(Some(boot)) if boot.lead == Lead::Ask => Told::Ask,
        Ok(Some(boot)) => Told::File(boot.file),
        Ok(None) => Told::None,
        Err(missing) => Told::Missing(missing),
    }
}

fn said(decision: Decision, boot: Result<Option<BootFile>, NoBoot>) -> Said {
    let boot = told(boot);
    match decision {
        Decision::Offer(ip) => Said::Offer { ip, boot },
        Decision::Ack(ip) => Said::Ack { ip, boot },
        Decision::Inform => Said::Nothing { reason: "parameters only" },
        Decision::Nak(reason) => Said::Nak { reason },
        Decision::Silent(reason) => Said::Nothing { reason },
        Decision::Conflict(ip) => Said::AddressConflict { ip },
    }
}
