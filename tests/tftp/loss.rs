//! TFTP over a link that loses packets: the kernel here has no netem, so the link is a relay of ours.

use super::{both_ways, contents, server_with};
use bytes::Bytes;
use provisioner::tftp::Files;
use provisioner_lab::relay::{Link, relay};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::net::UdpSocket;

/// Where to ask for the server at `server` over a link that loses one packet of a hundred.
async fn over_a_bad_link(server: SocketAddr) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let link = Link { delay: Duration::from_micros(200), loss: 100, seed: 7 };
    tokio::spawn(relay(front, server, link));
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

/// 3 MB in 2,044 blocks and as many acknowledgements: about 40 losses. A fixed second each would be 40 s.
#[tokio::test(flavor = "multi_thread")]
async fn one_lost_packet_costs_a_measured_wait_and_not_a_second() {
    for settings in both_ways() {
        let files = Files::new([("snponly.efi".to_owned(), Bytes::from(contents()))]);
        let (address, _ear) = server_with(settings, files).await;
        let link = over_a_bad_link(address).await;
        let seconds = fetch(link, b"blksize\x001468\0", 1468).await;
        assert!(seconds < 20.0, "{seconds}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_survive_loss() {
    for settings in both_ways() {
        let files = Files::new([("snponly.efi".to_owned(), Bytes::from(contents()))]);
        let (address, _ear) = server_with(settings, files).await;
        let link = over_a_bad_link(address).await;
        let seconds = fetch(link, b"blksize\x001468\0windowsize\x008\0", 1468).await;
        assert!(seconds < 20.0, "{seconds}");
    }
}
