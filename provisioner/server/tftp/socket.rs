//! The sockets of TFTP: one for requests, a fresh port for each transfer (RFC 1350 §4).

use super::{
    End, Files, Hearing, Transferred,
    transfer::{Begun, Next, Transfer, error},
};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tftpd::ErrorCode;
use tokio::{
    net::UdpSocket,
    sync::Semaphore,
    time::{Instant, timeout},
};

/// Transfers at once.
const TRANSFERS_MAX: usize = 2048;
/// Of one address: firmware has one or two; a flood from one source must not take all.
const TRANSFERS_OF_ONE_MAX: usize = 16;
/// A whole transfer; 32 MiB at 512 bytes a block and 1 ms a trip takes about a minute.
const TRANSFER_WITHIN: Duration = Duration::from_secs(600);
/// Larger than any request that means well.
const REQUEST_MAX: usize = 1500;

/// Serves `files` on `socket` for ever. An error is one of the socket itself.
pub async fn serve(socket: UdpSocket, files: Files, hearing: Arc<dyn Hearing>) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(TRANSFERS_MAX));
    let sources = Arc::new(Sources::default());
    let local = socket.local_addr()?.ip();
    let mut request = [0; REQUEST_MAX];
    loop {
        let (length, peer) = match socket.recv_from(&mut request).await {
            Ok(received) => received,
            // An ICMP answer to something sent earlier; it ends nothing.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let Some(packet) = request.get(..length).map(<[u8]>::to_vec) else { continue };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "TFTP: {TRANSFERS_MAX} transfers run; the client will ask again");
            continue;
        };
        let Some(place) = sources.enter(peer.ip()) else { continue };
        let (files, hearing) = (files.clone(), hearing.clone());
        tokio::spawn(async move {
            match transfer(local, peer, &packet, &files).await {
                Ok(done) => hearing.transferred(done),
                Err(error) => tracing::warn!(%peer, "TFTP: {error}"),
            }
            drop((permit, place));
        });
    }
}

/// One transfer from its request to its end.
async fn transfer(local: IpAddr, peer: SocketAddr, request: &[u8], files: &Files) -> io::Result<Transferred> {
    let started = Instant::now();
    let socket = UdpSocket::bind((local, 0)).await?;
    let (file, begun) = Transfer::begin(request, |name| files.open(name), Duration::ZERO);
    let file = file.map(|name| provisioner_wire::report::clean(&name)).unwrap_or_default();
    let told = |transfer: Option<&Transfer>, end| Transferred {
        peer,
        file: file.clone(),
        bytes: transfer.map_or(0, Transfer::bytes),
        acknowledged: transfer.map_or(0, Transfer::bytes_taken),
        block_size: transfer.map_or(0, Transfer::block_size),
        heard: transfer.is_some_and(Transfer::was_heard),
        retransmits: transfer.map_or(0, |t| t.retransmits),
        milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        end,
    };
    let (mut transfer, first) = match begun {
        Begun::Transfer(transfer, first) => (transfer, first),
        Begun::Refuse(answer, reason) => {
            socket.send_to(&answer, peer).await?;
            return Ok(told(None, End::Refused(reason)));
        }
    };
    send(&socket, peer, &first).await?;
    let end = timeout(TRANSFER_WITHIN, run(&socket, peer, &mut transfer, started)).await;
    let end = end.unwrap_or(Ok(End::Silent))?;
    Ok(told(Some(&transfer), end))
}

async fn run(
    socket: &UdpSocket,
    peer: SocketAddr,
    transfer: &mut Transfer,
    started: Instant,
) -> io::Result<End> {
    let mut packet = [0; REQUEST_MAX];
    loop {
        let next = match timeout(transfer.patience(), socket.recv_from(&mut packet)).await {
            Ok(Ok((_, from))) if from != peer => {
                // RFC 1350 §4: tell the stranger, and go on.
                socket.send_to(&error(ErrorCode::UnknownId, "not your transfer"), from).await?;
                continue;
            }
            Ok(Ok((length, _))) => transfer.hear(packet.get(..length).unwrap_or_default(), started.elapsed()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Ok(End::Aborted("the client's port is closed".to_owned()));
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => transfer.silence(),
        };
        match next {
            Next::Send(packets) => send(socket, peer, &packets).await?,
            Next::Nothing => {}
            Next::Complete => return Ok(End::Complete),
            Next::Aborted(reason) => return Ok(End::Aborted(reason)),
            Next::Silent => return Ok(End::Silent),
        }
    }
}

async fn send(socket: &UdpSocket, peer: SocketAddr, packets: &[Vec<u8>]) -> io::Result<()> {
    for packet in packets {
        socket.send_to(packet, peer).await?;
    }
    Ok(())
}

/// How many transfers each address has.
#[derive(Debug, Default)]
struct Sources(Mutex<HashMap<IpAddr, usize>>);

struct Place(Arc<Sources>, IpAddr);

impl Sources {
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(ip).or_default();
        if *count >= TRANSFERS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        Some(Place(self.clone(), ip))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sources = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.1);
            }
        }
    }
}
