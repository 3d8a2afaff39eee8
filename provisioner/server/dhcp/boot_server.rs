//! Port 4011: the boot server that PXE firmware asks once it has an address, from us or from another server.

use super::{
    Directory, Hearing, Said,
    answer::Reply,
    bootfile::{BootFile, Lead, Serving},
    config::Mode,
    intake::Request,
    proxy,
    server::{Question, told},
    subnet::Subnet,
};
use crate::{clock::Clock, machine::Time};
use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};
use tokio::net::UdpSocket;

pub const PORT: u16 = 4011;
/// Larger than any request that means well.
const PACKET_MAX: usize = 4096;
/// After an error of the socket: the interface may be down, and may come back.
const ERROR_PAUSE: Duration = Duration::from_millis(200);

/// The boot server of one interface. It keeps nothing: each answer follows from the request and what is declared.
#[derive(Debug)]
pub struct BootServer<D, H> {
    subnets: Vec<Subnet>,
    serving: Serving,
    directory: Arc<D>,
    hearing: Arc<H>,
}

/// A client that was to ask has asked.
fn asked(boot: BootFile) -> BootFile {
    let lead = if boot.lead == Lead::Ask { Lead::Bare } else { boot.lead };
    BootFile { lead, ..boot }
}

impl<D: Directory, H: Hearing> BootServer<D, H> {
    pub fn new(subnets: Vec<Subnet>, serving: Serving, directory: Arc<D>, hearing: Arc<H>) -> Self {
        Self { subnets, serving, directory, hearing }
    }

    /// Answers one UDP payload from `peer`.
    pub async fn answer(&self, packet: &[u8], peer: SocketAddrV4, now: Time) -> Option<Reply> {
        let request = match Request::read(packet) {
            Ok(request) => request,
            Err(why) => {
                self.hearing.malformed(why);
                return None;
            }
        };
        let question = Question::of(request, &*self.directory).await;
        let (said, reply) = self.decide(&question, peer);
        let mut heard = question.heard(now, said);
        heard.details.port = PORT;
        self.hearing.heard(heard);
        reply
    }

    fn decide(&self, question: &Question, peer: SocketAddrV4) -> (Said, Option<Reply>) {
        let Question { request, client, .. } = question;
        let subnet = self.subnets.iter().find(|subnet| subnet.network.contains(peer.ip()));
        // An answer to an address of elsewhere would be somebody's flood.
        if subnet.is_none_or(|subnet| subnet.mode == Mode::Off) {
            return (Said::Nothing { reason: "it is on no subnet that is served" }, None);
        }
        let identifier = request.server_id_override().unwrap_or(self.serving.server);
        if let Some(reason) = proxy::not_asked(request, client, &[self.serving.server, identifier]) {
            return (Said::Nothing { reason }, None);
        }
        let boot = question.boots(&self.serving, 0).map(|boot| boot.map(asked));
        let acknowledge =
            |boot: &BootFile| proxy::acknowledge(request, client, self.serving.server, boot, peer);
        let reply = boot.as_ref().ok().and_then(Option::as_ref).map(acknowledge);
        (Said::Boot { port: PORT, boot: told(boot) }, reply)
    }

    /// Answers for ever.
    pub async fn serve(self, socket: UdpSocket, clock: Clock) {
        let mut buffer = vec![0; PACKET_MAX];
        loop {
            let (length, peer) = match socket.recv_from(&mut buffer).await {
                Ok((length, SocketAddr::V4(peer))) => (length, peer),
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!("DHCP port {PORT}: {error}");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let packet = buffer.get(..length).unwrap_or_default();
            let Some(reply) = self.answer(packet, peer, clock.now()).await else { continue };
            if let Err(error) = socket.send_to(&reply.bytes, SocketAddr::from(reply.to)).await {
                tracing::warn!(to = %reply.to, "DHCP port {PORT}: answer not sent: {error}");
            }
        }
    }
}
