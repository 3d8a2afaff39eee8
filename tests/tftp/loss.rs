//! TFTP over a link that loses packets: the kernel here has no netem, so the link is a relay of ours.

use super::{contents, server};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::net::UdpSocket;

/// Relays one transfer to `server` and drops every `lose`-th packet of either direction. Returns where to ask.
async fn relay(server: SocketAddr, lose: usize) -> SocketAddr {
    let local = async || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    // The first request comes to `front`; what follows comes to `down`, as to a server's port of one transfer.
    let (front, down, up) = (local().await, local().await, local().await);
    let address = front.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut a, mut b, mut c) = ([0; 2048], [0; 2048], [0; 2048]);
        let (mut client, mut peer, mut count) = (None, server, 0usize);
        loop {
            let (packet, from_client) = tokio::select! {
                r = front.recv_from(&mut a) => { let (n, from) = r.unwrap(); (client, peer) = (Some(from), server); (&a[..n], true) }
                r = down.recv_from(&mut b) => { let (n, _) = r.unwrap(); (&b[..n], true) }
                r = up.recv_from(&mut c) => { let (n, from) = r.unwrap(); peer = from; (&c[..n], false) }
            };
            count += 1;
            if count % lose == 0 {
                continue;
            }
            if from_client {
                up.send_to(packet, peer).await.unwrap();
            } else if let Some(client) = client {
                down.send_to(packet, client).await.unwrap();
            }
        }
    });
    address
}

/// A patient client: it repeats its last word after a second of silence, as firmware does. Seconds it took.
async fn fetch(ask: SocketAddr, options: &[u8], block: usize) -> f64 {
    let started = Instant::now();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let request = [&b"\0\x01snponly.efi\0octet\0"[..], options].concat();
    let (mut said, mut to, mut expected, mut got) = (request, ask, 1u16, Vec::new());
    let mut packet = [0; 2048];
    client.send_to(&said, to).await.unwrap();
    loop {
        let Ok(received) = tokio::time::timeout(Duration::from_secs(1), client.recv_from(&mut packet)).await
        else {
            client.send_to(&said, to).await.unwrap();
            continue;
        };
        let (length, from) = received.unwrap();
        to = from;
        let number = u16::from_be_bytes([packet[2], packet[3]]);
        match packet[1] {
            6 => said = vec![0, 4, 0, 0],
            3 if number == expected => {
                got.extend_from_slice(&packet[4..length]);
                said = [[0, 4], number.to_be_bytes()].concat();
                expected = expected.wrapping_add(1);
            }
            // Not the next one: say again which was the last.
            3 => {}
            other => panic!("opcode {other}: {:?}", &packet[..length]),
        }
        client.send_to(&said, to).await.unwrap();
        if packet[1] == 3 && length < block + 4 && number.wrapping_add(1) == expected {
            assert!(got == contents(), "the bytes differ");
            return started.elapsed().as_secs_f64();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_packet_costs_a_measured_wait_and_not_a_second() {
    let (address, _ear) = server().await;
    // 3 MB in 2,044 blocks and as many acknowledgements: about 40 losses. A fixed second each would be 40 s.
    let seconds = fetch(relay(address, 101).await, b"blksize\x001468\0", 1468).await;
    assert!(seconds < 15.0, "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_survive_loss() {
    let (address, _ear) = server().await;
    let seconds = fetch(relay(address, 53).await, b"blksize\x001468\0windowsize\x008\0", 1468).await;
    assert!(seconds < 15.0, "{seconds}");
}
