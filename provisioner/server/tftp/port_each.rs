//! A fresh port for each transfer (RFC 1350 §4): the kernel sorts the packets, and the transfers share nothing.

use super::{
    End,
    desk::{Desk, Opened, Session, Step, to_stranger},
    lanes::Lanes,
    port::{Fresh, Inbox, PACKET_MAX, Port},
    transfer::Burst,
};
use std::{io, net::UdpSocket, pin::pin, sync::Arc};

/// Requests taken at once.
const REQUESTS: usize = 32;

/// Serves for ever. An error is one of `socket` itself.
pub async fn serve(socket: UdpSocket, desk: Arc<Desk>) -> io::Result<()> {
    let (port, lanes) = (Port::new(socket)?, Arc::new(Lanes::start(None)?));
    let state = port.state();
    let mut inbox = Inbox::new(REQUESTS);
    loop {
        port.receive(&mut inbox).await?;
        for packet in inbox.packets() {
            let Some(place) = desk.admit(packet.from, packet.bytes) else { continue };
            let (desk, lanes, state) = (desk.clone(), lanes.clone(), state.clone());
            let (peer, asked, request) = (packet.from, packet.to, packet.bytes.to_vec());
            tokio::spawn(async move {
                match desk.open(peer, asked, &request, place).await {
                    Opened::Session(session, first) => lanes.run(async move {
                        let port = Fresh::new(state, asked, peer);
                        transfer(desk, session, port, first).await;
                    }),
                    Opened::Refused(answer) => {
                        let sent = async { Fresh::new(state, asked, peer)?.send(&answer, peer).await };
                        if let Err(error) = sent.await {
                            tracing::warn!(%peer, "TFTP: {error}");
                        }
                    }
                    Opened::Nothing => {}
                }
            });
        }
    }
}

async fn transfer(desk: Arc<Desk>, mut session: Session, port: io::Result<Fresh>, first: Burst) {
    let ended = match &port {
        Ok(port) => converse(&desk, &mut session, port, first).await,
        Err(error) => Err(io::Error::new(error.kind(), format!("no port for it: {error}"))),
    };
    let end = ended.unwrap_or_else(|error| {
        tracing::warn!(peer = %session.peer, "TFTP: {error}");
        End::Aborted(format!("cannot be sent: {error}"))
    });
    desk.ended(session, end);
}

async fn converse(desk: &Desk, session: &mut Session, port: &Fresh, first: Burst) -> io::Result<End> {
    let peer = session.peer;
    port.send(&first, peer).await?;
    let mut room = [0; PACKET_MAX];
    let mut alarm = pin!(tokio::time::sleep_until(desk.instant(session.due())));
    loop {
        let step = tokio::select! {
            biased;
            received = port.receive(&mut room) => {
                let (length, from) = received?;
                let packet = room.get(..length).unwrap_or_default();
                if from == peer {
                    session.hear(packet, desk.now())
                } else {
                    if let Some(answer) = to_stranger(packet) {
                        port.send(&answer, from).await?;
                    }
                    Step::Wait
                }
            }
            () = &mut alarm => session.look(desk.now()),
        };
        match step {
            Step::Send(burst) => port.send(&burst, peer).await?,
            Step::Wait => {}
            Step::End(end) => return Ok(end),
        }
        // It is not put off with each packet: when it rings, it is looked whether there was silence.
        let due = desk.instant(session.due());
        if alarm.is_elapsed() || due < alarm.deadline() {
            alarm.as_mut().reset(due);
        }
    }
}
