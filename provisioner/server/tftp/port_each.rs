//! A fresh port for each transfer (RFC 1350 §4): the kernel sorts the packets, and the transfers share nothing.

use super::{
    End,
    desk::{Desk, Opened, Session, Step, to_stranger},
    lanes::Lanes,
    port::{Inbox, Port},
    transfer::Burst,
};
use std::{io, net::UdpSocket, pin::pin, sync::Arc};

/// Requests taken at once.
const REQUESTS: usize = 32;
/// Acknowledgements of one client taken at once: there is rarely more than one.
const ACKNOWLEDGEMENTS: usize = 2;

/// Serves for ever. An error is one of `socket` itself.
pub async fn serve(socket: UdpSocket, desk: Arc<Desk>) -> io::Result<()> {
    let (port, lanes) = (Port::new(socket)?, Arc::new(Lanes::start(None)?));
    let mut inbox = Inbox::new(REQUESTS);
    loop {
        port.receive(&mut inbox).await?;
        for packet in inbox.packets() {
            let Some(place) = desk.admit(packet.from, packet.bytes) else { continue };
            let (desk, lanes) = (desk.clone(), lanes.clone());
            let (peer, asked, request) = (packet.from, packet.to, packet.bytes.to_vec());
            tokio::spawn(async move {
                match desk.open(peer, asked, &request, place).await {
                    Opened::Session(session, first) => lanes.run(transfer(desk, session, first)),
                    Opened::Refused(answer) => {
                        let sent = async { Port::fresh(asked, peer)?.send(&answer, peer, None).await };
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

async fn transfer(desk: Arc<Desk>, mut session: Session, first: Burst) {
    match converse(&desk, &mut session, first).await {
        Ok(end) => desk.ended(session, end),
        Err(error) => {
            tracing::warn!(peer = %session.peer, "TFTP: {error}");
            desk.ended(session, End::Aborted(format!("cannot be sent: {error}")));
        }
    }
}

async fn converse(desk: &Desk, session: &mut Session, first: Burst) -> io::Result<End> {
    let peer = session.peer;
    let port = Port::fresh(session.asked, peer)?;
    port.send(&first, peer, None).await?;
    let mut inbox = Inbox::new(ACKNOWLEDGEMENTS);
    let mut alarm = pin!(tokio::time::sleep_until(desk.instant(session.due())));
    loop {
        // The alarm is not moved with each packet: it looks whether there was silence when it rings.
        tokio::select! {
            biased;
            received = port.receive(&mut inbox) => received?,
            () = &mut alarm => {
                match session.look(desk.now()) {
                    Step::Send(burst) => port.send(&burst, peer, None).await?,
                    Step::Wait => {}
                    Step::End(end) => return Ok(end),
                }
                alarm.as_mut().reset(desk.instant(session.due()));
                continue;
            }
        }
        for packet in inbox.packets() {
            if packet.from != peer {
                if let Some(answer) = to_stranger(packet.bytes) {
                    port.send(&answer, packet.from, None).await?;
                }
                continue;
            }
            match session.hear(packet.bytes, desk.now()) {
                Step::Send(burst) => port.send(&burst, peer, None).await?,
                Step::Wait => {}
                Step::End(end) => return Ok(end),
            }
        }
    }
}
