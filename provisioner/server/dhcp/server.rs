//! A batch of packets, from bytes to bytes. All leases of a batch are committed together before any of its answers
//! leaves: as durable as one transaction per packet, and many times faster in a boot storm.

use super::{
    Directory, Heard, Hearing, LeaseJournal, LeaseRecord, Said, Told, Who,
    answer::{Answer, Reply},
    bootfile::{BootFile, NoBoot, ROUNDS_WITHIN_SECONDS, Serving, boot_file},
    client::{Client, Program},
    intake::Request,
    lease::{Asked, Decision, Leases},
    limits::Guard,
    subnet::{Subnet, of_request},
};
use crate::machine::Time;
use provisioner_wire::Mac;
use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

/// MACs whose boot rounds are remembered; more at once than ever boot an iPXE without HTTP.
const ROUNDS_KEPT: usize = 4096;

/// The DHCP server without its socket.
#[derive(Debug)]
pub struct Server<D, J, H> {
    subnets: Vec<Subnet>,
    serving: Serving,
    leases: Leases,
    rounds: HashMap<Mac, (u32, Time)>,
    guard: Guard,
    directory: Arc<D>,
    journal: Arc<J>,
    hearing: Arc<H>,
}

/// One packet that was understood, with all that is needed to answer it.
struct Question {
    request: Request,
    client: Client,
    who: Who,
}

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
        let (rounds, guard) = (HashMap::new(), Guard::default());
        Self { subnets, serving, leases, rounds, guard, directory, journal, hearing }
    }

    /// With limits for unknown machines; without, none is held back.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// Answers UDP payloads, in their order. What cannot be kept is not answered: the clients ask again.
    pub async fn answer(&mut self, packets: &[Vec<u8>], now: Time) -> Vec<Reply> {
        let questions = self.understand(packets).await;
        let reserved = self.directory.reserved().await;
        let mut records = Vec::new();
        let answers: Vec<_> =
            questions.into_iter().map(|q| self.one(q, &reserved, now, &mut records)).collect();
        let kept = match records.is_empty() {
            true => true,
            false => match self.journal.commit(&records).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!("DHCP: {} lease(s) not acknowledged: {error}", records.len());
                    false
                }
            },
        };
        let mut replies = Vec::new();
        for mut answered in answers {
            if answered.promises && !kept {
                answered.heard.said = Said::Nothing { reason: "its lease could not be kept" };
            } else {
                replies.extend(answered.reply);
            }
            self.hearing.heard(answered.heard);
        }
        replies
    }

    async fn understand(&self, packets: &[Vec<u8>]) -> Vec<Question> {
        let read = packets.iter().filter_map(|packet| match Request::read(packet) {
            Ok(request) if self.guard.is_probe(&request) => None,
            Ok(request) => Some(request),
            Err(why) => {
                self.hearing.malformed(why);
                None
            }
        });
        let asked = read.map(async |request| {
            let who = self.directory.who(request.mac).await;
            Question { client: Client::of(&request), who, request }
        });
        futures_util::future::join_all(asked).await
    }

    fn one(
        &mut self,
        question: Question,
        reserved: &HashSet<Ipv4Addr>,
        now: Time,
        records: &mut Vec<LeaseRecord>,
    ) -> Answered {
        let Question { request, client, who } = question;
        let (mut reply, mut promises) = (None, false);
        let said = match of_request(&self.subnets, self.serving.server, &request) {
            _ if let Err(reason) = self.guard.admit(&request, &who, now) => Said::Nothing { reason },
            None => Said::Nothing { reason: "it is on no subnet that is served" },
            Some(subnet) => {
                let identifier = request.server_id_override().unwrap_or(self.serving.server);
                let asked = Asked { request: &request, subnet, who: &who, reserved, now };
                let (decision, new) = self.leases.decide(&asked, &[self.serving.server, identifier]);
                records.extend(new);
                promises = matches!(decision, Decision::Ack(_));
                let boot =
                    boots(&client, &who, &request, &self.serving, rounds(&self.rounds, request.mac, now));
                let tftp = self.serving.server;
                let file = boot.as_ref().ok().and_then(Option::as_ref);
                let answer = Answer { request: &request, decision, subnet, identifier, tftp, boot: file };
                reply = answer.packet();
                said(decision, boot)
            }
        };
        if promises && matches!(client.program, Program::Ipxe { http: false, .. }) {
            self.count_round(request.mac, now);
        }
        let heard = Heard::new(now, &request, client, &who, said);
        Answered { reply, heard, promises }
    }

    fn count_round(&mut self, mac: Mac, now: Time) {
        let count = rounds(&self.rounds, mac, now) + 1;
        if self.rounds.len() >= ROUNDS_KEPT {
            self.rounds.retain(|_, (_, at)| now.since(*at) < Duration::from_secs(ROUNDS_WITHIN_SECONDS));
        }
        if self.rounds.len() < ROUNDS_KEPT {
            self.rounds.insert(mac, (count, now));
        }
    }
}

fn rounds(known: &HashMap<Mac, (u32, Time)>, mac: Mac, now: Time) -> u32 {
    let lately = |at: &Time| now.since(*at) < Duration::from_secs(ROUNDS_WITHIN_SECONDS);
    known.get(&mac).filter(|(_, at)| lately(at)).map_or(0, |(count, _)| *count)
}

fn boots(
    client: &Client,
    who: &Who,
    request: &Request,
    serving: &Serving,
    rounds: u32,
) -> Result<Option<BootFile>, NoBoot> {
    if who.netboot() { boot_file(client, request.mac, serving, rounds) } else { Ok(None) }
}

fn said(decision: Decision, boot: Result<Option<BootFile>, NoBoot>) -> Said {
    let boot = match boot {
        Ok(Some(boot)) => Told::File(boot.file),
        Ok(None) => Told::None,
        Err(missing) => Told::Missing(missing),
    };
    match decision {
        Decision::Offer(ip) => Said::Offer { ip, boot },
        Decision::Ack(ip) => Said::Ack { ip, boot },
        Decision::Inform => Said::Nothing { reason: "parameters only" },
        Decision::Nak(reason) => Said::Nak { reason },
        Decision::Silent(reason) => Said::Nothing { reason },
        Decision::Conflict(ip) => Said::AddressConflict { ip },
    }
}
