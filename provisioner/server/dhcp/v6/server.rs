//! A batch of packets, from bytes to bytes. All leases of a batch are committed together before any of its answers
//! leaves, as with DHCPv4.

use super::{
    Directory, Heard, Hearing, LeaseJournal, LeaseRecord, Said,
    answer::{Answer, BootUrl, Reply},
    client::{self, Traces},
    config::Mode,
    intake::{Kind, Request, code},
    lease::{Asked, Decision, Given, Leases, Owner},
    subnet::Served,
    validate::{self, Verdict},
};
use crate::{
    dhcp::{
        Told, Who,
        bootfile::{NoBoot, Serving},
        client::{Client, Program},
        road::{Road, boot_file_on},
    },
    machine::Time,
};
use dhcproto::v6::{MessageType as M, Status};
use provisioner_wire::{Mac, MachineName};
use std::{
    collections::{BTreeSet, HashSet},
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    sync::Arc,
};

/// A packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub bytes: Vec<u8>,
    pub from: SocketAddrV6,
    /// It was sent to an address of this host, not to a group.
    pub unicast: bool,
}

/// What answers are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving6 {
    /// This server's DUID: the same over restarts.
    pub duid: Vec<u8>,
    /// This server's address as machines reach it: where TFTP listens.
    pub address: Ipv6Addr,
    /// `http://[fd88::1]:8080`: the plain listener as machines reach it.
    pub http: String,
    /// Names of the boot files that TFTP and HTTP really have. None other is offered.
    pub files: BTreeSet<String>,
}

/// The DHCPv6 server of one interface without its sockets.
#[derive(Debug)]
pub struct Server<D, J, H> {
    served: Served,
    serving: Serving6,
    leases: Leases,
    directory: Arc<D>,
    journal: Arc<J>,
    hearing: Arc<H>,
}

/// One message that may be answered, with all that is needed for it.
struct Question {
    request: Request,
    verdict: Verdict,
    from: SocketAddrV6,
    client: Client,
    known: Known,
}

/// Whom the directory took the sender for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    who: Who,
    /// A declared MAC of the machine, else the one that the message shows.
    mac: Option<Mac>,
    /// The MAC on the link.
    link: Option<Mac>,
    reservation: Option<Ipv6Addr>,
    road: Road,
    conflict: Option<MachineName>,
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
        served: Served,
        serving: Serving6,
        kept: &[LeaseRecord],
        directory: Arc<D>,
        journal: Arc<J>,
        hearing: Arc<H>,
    ) -> Self {
        let leases = Leases::new([serving.address], kept);
        Self { served, serving, leases, directory, journal, hearing }
    }

    /// Answers messages, in their order. What cannot be kept is not answered: the clients ask again.
    pub async fn answer(&mut self, packets: &[Packet], now: Time) -> Vec<Reply> {
        let questions = self.understand(packets).await;
        let reserved = self.directory.reserved6().await;
        let mut records = Vec::new();
        let answers: Vec<_> =
            questions.into_iter().map(|q| self.one(q, &reserved, now, &mut records)).collect();
        let kept = match records.is_empty() {
            true => true,
            false => match self.journal.commit(&records).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!("DHCPv6: {} lease(s) not given: {error}", records.len());
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
            self.hearing.heard6(answered.heard);
        }
        replies
    }

    async fn understand(&self, packets: &[Packet]) -> Vec<Question> {
        let mut questions = Vec::new();
        for packet in packets {
            let request = match Request::read(&packet.bytes, *packet.from.ip()) {
                Ok(request) => request,
                Err(why) => {
                    self.hearing.malformed6(&why);
                    continue;
                }
            };
            match validate::check(&request, &self.serving.duid, packet.unicast) {
                Ok(verdict) => {
                    let client = client::of(&request);
                    let known = self.find(&Traces::of(&request)).await;
                    questions.push(Question { request, verdict, from: packet.from, client, known });
                }
                Err(why) => self.hearing.malformed6(&why),
            }
        }
        questions
    }

    /// The MAC on the link goes before the one in the identifier, for that may have come with a cloned disk; a UUID counts
    /// where no MAC is declared.
    async fn find(&self, traces: &Traces) -> Known {
        let mut found: Option<(Mac, Who)> = None;
        let mut conflict = None;
        let mut macs: Vec<Mac> = [traces.link, traces.duid].into_iter().flatten().collect();
        for uuid in &traces.uuids {
            macs.extend(self.directory.by_uuid(*uuid).await);
        }
        for mac in &macs {
            let who = self.directory.who(*mac).await;
            match (&found, who.name()) {
                (None, Some(_)) => found = Some((*mac, who)),
                (Some((_, first)), Some(other)) if first.name() != Some(other) => {
                    conflict = Some(other.clone());
                }
                _ => {}
            }
        }
        let mac = found.as_ref().map(|(mac, _)| *mac).or_else(|| macs.first().copied());
        let who = match (found, mac) {
            (Some((_, who)), _) => who,
            (None, Some(mac)) => self.directory.who(mac).await,
            (None, None) => Who::Unknown { netboot: false },
        };
        let (reservation, road) = match mac {
            Some(mac) => (self.directory.reservation(mac).await, self.directory.road(mac).await),
            None => (None, Road::default()),
        };
        Known { who, mac, link: traces.link, reservation, road, conflict }
    }

    fn one(
        &mut self,
        question: Question,
        reserved: &HashSet<Ipv6Addr>,
        now: Time,
        records: &mut Vec<LeaseRecord>,
    ) -> Answered {
        let Question { request, verdict, from, client, known } = question;
        let (decision, new) = self.decide(&request, verdict, &known, reserved, now);
        records.extend(new);
        let boot = self.boots(&request, &client, &known);
        let answer = Answer {
            request: &request,
            sender: from,
            decision: &decision,
            subnet: self.served.subnet_of(self.serving.address, &request),
            server: &self.serving.duid,
            sole_server: self.served.sole_server,
            boot: boot.as_ref().ok().and_then(Option::as_ref),
        };
        let reply = answer.packet();
        let promises = matches!(decision, Decision::Reply { .. }) && decision.address().is_some();
        let heard = Heard {
            at: now,
            mac: known.mac,
            duid: request.duid().to_vec(),
            machine: known.who.name().cloned(),
            message: request.message_name(),
            client,
            relay: request.relays.last().map(|r| r.link),
            said: said(&decision, boot),
            conflict: known.conflict,
        };
        Answered { reply, heard, promises }
    }

    fn decide(
        &mut self,
        request: &Request,
        verdict: Verdict,
        known: &Known,
        reserved: &HashSet<Ipv6Addr>,
        now: Time,
    ) -> (Decision, Vec<LeaseRecord>) {
        let silent = |why| (Decision::Silent(why), Vec::new());
        if verdict == Verdict::UseMulticast {
            return (Decision::Status(Status::UseMulticast, "ask by multicast"), Vec::new());
        }
        let subnet = self.served.subnet_of(self.serving.address, request);
        if request.message == M::InformationRequest {
            return match subnet.is_some() || self.served.subnets.is_empty() {
                true => (Decision::Reply { given: Vec::new(), rapid: false }, Vec::new()),
                false => silent("it is on no subnet that is served"),
            };
        }
        if self.served.mode == Mode::Stateless {
            return silent("others give addresses here; it is answered when it asks for information only");
        }
        let Some(subnet) = subnet else { return silent("it is on no subnet that is served") };
        let asked = Asked {
            request,
            subnet,
            owner: &owner(request, known),
            machine: known.who.name(),
            reservation: known.reservation,
            reserved,
            rapid: self.served.sole_server && request.has(code::RAPID_COMMIT),
            now,
        };
        self.leases.decide(&asked)
    }

    /// What DHCPv4 would have it boot, by this server's IPv6 URLs.
    fn boots(&self, request: &Request, client: &Client, known: &Known) -> Result<Option<BootUrl>, NoBoot> {
        let Some(mac) = known.mac.filter(|_| known.who.netboot() && request.asks(code::BOOT_URL)) else {
            return Ok(None);
        };
        let serving = Serving {
            server: Ipv4Addr::UNSPECIFIED,
            http: self.serving.http.clone(),
            files: self.serving.files.clone(),
        };
        let Some(boot) = boot_file_on(&known.road, client, mac, &serving, 0)? else { return Ok(None) };
        // DHCPv6 has no next server: a name alone is no answer.
        let url = match client.program {
            Program::Pxe => format!("tftp://[{}]/{}", self.serving.address, boot.file),
            _ => boot.file,
        };
        let parameters = match client.program {
            Program::Ipxe { .. } => Vec::new(),
            _ => self.served.boot_parameters.clone(),
        };
        Ok(Some(BootUrl { url, parameters, class: boot.class.filter(|c| *c == "HTTPClient") }))
    }
}

/// By the interface, where the link shows it; else by the identifier and the first lasting association.
fn owner(request: &Request, known: &Known) -> Owner {
    if let Some(mac) = known.link {
        return Owner::Mac(mac);
    }
    let first = request.associations.iter().find(|a| a.kind == Kind::Lasting);
    Owner::Duid(request.duid().to_vec(), first.map_or(0, |a| a.id))
}

fn said(decision: &Decision, boot: Result<Option<BootUrl>, NoBoot>) -> Said {
    let boot = match boot {
        Ok(Some(boot)) => Told::File(boot.url),
        Ok(None) => Told::None,
        Err(missing) => Told::Missing(missing),
    };
    let ip = decision.address();
    let refused =
        |given: &[Given]| given.iter().find_map(|g| g.status).map(|(_, why)| why).filter(|_| ip.is_none());
    match decision {
        Decision::Advertise(given) | Decision::Reply { given, .. } if let Some(reason) = refused(given) => {
            Said::NoAddress { reason }
        }
        Decision::Advertise(_) => Said::Advertise { ip, boot },
        Decision::Reply { .. } => Said::Reply { ip, boot },
        Decision::Status(_, status) => Said::Status { status },
        Decision::Noted(_) => Said::Status { status: "that it is noted" },
        Decision::Conflict(ip, _) => Said::AddressConflict { ip: *ip },
        Decision::Silent(reason) => Said::Nothing { reason },
    }
}
