//! What TFTP owes its clients and strangers, through real sockets, with a port for each transfer and with one for all.

use super::{Ear, both_ways, contents, server_with};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use provisioner::tftp::{End, Files, Named, config::Settings};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::UdpSocket, time::timeout};

/// A client that expects its answers soon.
struct Client(UdpSocket);

impl Client {
    async fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    async fn say(&self, bytes: &[u8], to: SocketAddr) {
        self.0.send_to(bytes, to).await.unwrap();
    }

    async fn hears_within(&self, milliseconds: u64) -> Option<(Vec<u8>, SocketAddr)> {
        let mut packet = vec![0; 70_000];
        let received = timeout(Duration::from_millis(milliseconds), self.0.recv_from(&mut packet)).await;
        let (length, from) = received.ok()?.unwrap();
        packet.truncate(length);
        Some((packet, from))
    }

    async fn hears(&self) -> (Vec<u8>, SocketAddr) {
        self.hears_within(2000).await.expect("an answer")
    }
}

async fn server(settings: Settings) -> (SocketAddr, Arc<Ear>) {
    server_with(settings, Files::new([("snponly.efi".to_owned(), Bytes::from(contents()))])).await
}

const READ: &[u8] = b"\0\x01snponly.efi\0octet\0";

#[tokio::test]
async fn a_transfer_has_a_fresh_port_or_the_servers_own() {
    for settings in both_ways() {
        let single_port = settings.single_port;
        let (address, _ear) = server(settings).await;
        let client = Client::new().await;
        client.say(READ, address).await;
        assert_eq!(client.hears().await.1 == address, single_port);
    }
}

#[tokio::test]
async fn firmware_asks_for_the_size_breaks_off_and_reads_at_once() {
    for settings in both_ways() {
        let (address, ear) = server(settings).await;
        let client = Client::new().await;
        client.say(b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0", address).await;
        let (oack, transfer) = client.hears().await;
        assert_eq!(oack[..2], [0, 6]);
        client.say(b"\0\x05\0\x08aborted\0", transfer).await;
        // The same port again, at once: another server's known bug is silence here.
        client.say(b"\0\x01snponly.efi\0octet\0blksize\x001468\0windowsize\x004\0", address).await;
        let (oack, second) = client.hears().await;
        assert_eq!(oack[..2], [0, 6]);
        client.say(b"\0\x04\0\0", second).await;
        for block in 1..=4 {
            let (data, _) = client.hears().await;
            assert_eq!((data.len(), data[3]), (1472, block));
        }
        // Each transfer ends in a task of its own.
        let aborted = || ear.0.lock().unwrap().iter().any(|t| matches!(t.end, End::Aborted(_)));
        for _ in 0..500 {
            if aborted() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(aborted());
    }
}

#[tokio::test]
async fn a_stranger_is_told_so_and_the_transfer_goes_on() {
    for settings in both_ways() {
        let (address, _ear) = server(settings).await;
        let (client, stranger) = (Client::new().await, Client::new().await);
        client.say(READ, address).await;
        let (_, transfer) = client.hears().await;
        stranger.say(b"\0\x04\0\x01", transfer).await;
        let (told, from) = stranger.hears().await;
        assert_eq!((from, &told[..4]), (transfer, &b"\0\x05\0\x05"[..]));
        stranger.say(b"\0\x05\0\0die\0", transfer).await;
        assert_eq!(stranger.hears_within(100).await, None, "an error is never answered with an error");
        client.say(b"\0\x04\0\x01", transfer).await;
        assert_eq!(client.hears().await.0[..4], *b"\0\x03\0\x02");
    }
}

#[tokio::test]
async fn a_doubled_request_starts_one_transfer() {
    for settings in both_ways() {
        let (address, _ear) = server(settings).await;
        let client = Client::new().await;
        for _ in 0..5 {
            client.say(READ, address).await;
        }
        client.hears().await;
        assert_eq!(client.hears_within(200).await, None);
    }
}

#[tokio::test]
async fn a_machine_that_restarts_reads_again_from_the_same_port() {
    for settings in both_ways() {
        let (address, _ear) = server(settings).await;
        let client = Client::new().await;
        for _ in 0..3 {
            client.say(READ, address).await;
            let (data, transfer) = client.hears().await;
            assert_eq!(data[..4], *b"\0\x03\0\x01");
            client.say(b"\0\x04\0\x01", transfer).await;
            assert_eq!(client.hears().await.0[..4], *b"\0\x03\0\x02");
        }
    }
}

#[tokio::test]
async fn who_does_not_answer_gets_three_packets_and_no_more() {
    for settings in both_ways() {
        let (address, ear) = server(settings).await;
        let client = Client::new().await;
        client.say(b"\0\x01snponly.efi\0octet\0blksize\x001468\0windowsize\x0064\0", address).await;
        let mut bytes = 0;
        for _ in 0..3 {
            bytes += client.hears().await.0.len();
        }
        assert_eq!(client.hears_within(3000).await, None);
        assert!(bytes < 120, "{bytes}");
        assert!(ear.0.lock().unwrap().iter().any(|t| t.end == End::Silent));
    }
}

#[tokio::test]
async fn other_networks_are_not_answered_at_all() {
    for settings in both_ways() {
        let elsewhere = vec!["192.0.2.0/24".parse().unwrap()];
        let (address, _ear) = server(Settings { serve_to: elsewhere, ..settings }).await;
        let client = Client::new().await;
        for packet in [READ, b"\0\x01none\0octet\0", b"\0\x02f\0octet\0", b"\0\x04\0\x01"] {
            client.say(packet, address).await;
        }
        assert_eq!(client.hears_within(200).await, None);
    }
}

#[tokio::test]
async fn one_address_has_no_more_transfers_than_it_may() {
    for settings in both_ways() {
        let (address, _ear) = server(Settings { transfers_per_client: 2, ..settings }).await;
        let mut answered = 0;
        for _ in 0..6 {
            let client = Client::new().await;
            client.say(READ, address).await;
            answered += usize::from(client.hears_within(200).await.is_some());
        }
        assert_eq!(answered, 2);
    }
}

#[tokio::test]
async fn blocks_fit_the_way_to_the_client() {
    let mtu: u64 = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim().parse().unwrap();
    let most = (mtu - 20 - 8 - 4).min(65_464);
    for settings in both_ways() {
        for (configured, expected) in [(65_464, most), (1432, 1432)] {
            let (address, _ear) = server(Settings { block_size_max: configured, ..settings.clone() }).await;
            let client = Client::new().await;
            client.say(b"\0\x01snponly.efi\0octet\0blksize\x0065464\0windowsize\x0016\0", address).await;
            let (oack, transfer) = client.hears().await;
            let expected = format!("\0\x06blksize\0{expected}\0windowsize\x0016\0");
            assert_eq!(String::from_utf8_lossy(&oack), expected);
            client.say(b"\0\x04\0\0", transfer).await;
            for block in 1..=3u8 {
                assert_eq!(
                    client.hears().await.0[..4],
                    [0, 3, 0, block],
                    "large windows go in several calls"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_at_once() {
    for settings in both_ways() {
        let (address, _ear) = server(settings).await;
        for (request, code) in [
            (&b"\0\x01revocations.efi\0octet\0"[..], 1),
            (b"\0\x01../snponly.efi\0octet\0", 1),
            (b"\0\x01/etc/passwd\0octet\0", 1),
            (b"\0\x01a\\snponly.efi\0octet\0", 1),
            (b"\0\x01%2fsnponly.efi\0octet\0", 1),
            (b"\0\x01\0octet\0", 1),
            (b"\0\x01\xff\xfe\0octet\0", 1),
            (b"\0\x01SNPONLY.EFI\0octet\0", 1),
            (b"\0\x01autoexec.ipxe\0octet\0", 1),
            (b"\0\x02snponly.efi\0octet\0", 2),
            (b"\0\x01snponly.efi\0mail\0", 4),
            (b"\0\x01snponly.efi", 4),
        ] {
            let client = Client::new().await;
            client.say(request, address).await;
            let (answer, _) = client.hears_within(300).await.unwrap_or_else(|| panic!("{request:?}"));
            assert_eq!(answer[..4], [0, 5, 0, code], "{request:?}");
            assert!(answer.len() < 40, "an error says little");
        }
    }
}

/// Each machine's own answer to one fixed name, as GRUB under Secure Boot needs it.
struct ByPort;

impl Named for ByPort {
    fn read<'a>(&'a self, peer: SocketAddr, name: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { (name == "grub/grub.cfg").then(|| format!("set port={}", peer.port()).into()) })
    }
}

#[tokio::test]
async fn one_name_is_answered_to_each_machine_with_its_own_file() {
    for settings in both_ways() {
        let files = Files::new([("grubx64.efi".to_owned(), Bytes::from_static(b"grub"))]).with(ByPort);
        let (address, _ear) = server_with(settings, files).await;
        let ask = async |name: &str| {
            let client = Client::new().await;
            client.say(&[b"\0\x01", name.as_bytes(), b"\0octet\0"].concat(), address).await;
            (client.port(), client.hears().await.0)
        };
        for _ in 0..2 {
            let (port, answer) = ask("/grub/grub.cfg").await;
            assert_eq!(answer, [b"\0\x03\0\x01set port=", port.to_string().as_bytes()].concat());
        }
        assert_eq!(&ask("//grubx64.efi").await.1[4..], b"grub", "shim asks with two slashes");
        assert_eq!(&ask("revocations.efi").await.1[..4], b"\0\x05\0\x01");
    }
}
