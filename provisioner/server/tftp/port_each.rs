//! A fresh port for each transfer (RFC 1350 §4), and a thread: the kernel sorts the packets and shares out the processors,
//! and the transfers share nothing. A block in lock-step costs two system calls. How many there are, [`super::admission`]
//! bounds.

use super::{
    End,
    desk::{Desk, Opened, Session, Step, to_stranger},
    port::{Fresh, Inbox, PACKET_MAX, Port},
    transfer::Burst,
};
use quinn_udp::UdpSocketState;
use std::{io, net::UdpSocket, sync::Arc, thread};

/// Requests taken at once.
const REQUESTS: usize = 32;
/// A transfer's thread keeps little on its stack.
const STACK: usize = 256 << 10;

/// Serves for ever. An error is one of `socket` itself.
pub async fn serve(socket: UdpSocket, desk: Arc<Desk>) -> io::Result<()> {
    let port = Port::new(socket)?;
    let state = port.state();
    let mut inbox = Inbox::new(REQUESTS);
    loop {
        port.receive(&mut inbox).await?;
        for packet in inbox.packets() {
            let Some(place) = desk.admit(packet.from, packet.bytes) else { continue };
            let (desk, state) = (desk.clone(), state.clone());
            let (peer, asked, request) = (packet.from, packet.to, packet.bytes.to_vec());
            tokio::spawn(async move {
                let begun = match desk.open(peer, asked, &request, place).await {
                    Opened::Session(session, first) => start(desk, state, session, first),
                    Opened::Refused(answer) => {
                        Fresh::new(state, asked, peer).and_then(|port| port.send(&answer, peer))
                    }
                    Opened::Nothing => Ok(()),
                };
                if let Err(error) = begun {
                    tracing::warn!(%peer, "TFTP: {error}");
                }
            });
        }
    }
}

/// The client asks again where there is no thread for it.
fn start(desk: Arc<Desk>, state: Arc<UdpSocketState>, session: Session, first: Burst) -> io::Result<()> {
    let thread = thread::Builder::new().name("tftp".to_owned()).stack_size(STACK);
    thread.spawn(move || transfer(&desk, state, session, &first)).map(|_| ())
}

fn transfer(desk: &Desk, state: Arc<UdpSocketState>, mut session: Session, first: &Burst) {
    let port = Fresh::new(state, session.asked, session.peer)
        .map_err(|error| io::Error::new(error.kind(), format!("no port for it: {error}")));
    let ended = port.and_then(|port| converse(desk, &mut session, port, first));
    let end = ended.unwrap_or_else(|error| {
        tracing::warn!(peer = %session.peer, "TFTP: {error}");
        End::Aborted(format!("cannot be sent: {error}"))
    });
    desk.ended(session, end);
}

fn converse(desk: &Desk, session: &mut Session, mut port: Fresh, first: &Burst) -> io::Result<End> {
    let peer = session.peer;
    port.send(first, peer)?;
    let mut room = [0; PACKET_MAX];
    loop {
        let patience = session.due().saturating_sub(desk.now());
        let step = match port.receive(&mut room, patience)? {
            Some((length, from)) if from == peer => {
                session.hear(room.get(..length).unwrap_or_default(), desk.now())
            }
            Some((length, from)) => {
                if let Some(answer) = to_stranger(room.get(..length).unwrap_or_default()) {
                    port.send(&answer, from)?;
                }
                session.look(desk.now())
            }
            None => session.look(desk.now()),
        };
        match step {
            Step::Send(burst) => port.send(&burst, peer)?,
            Step::Wait => {}
            Step::End(end) => return Ok(end),
        }
    }
}
