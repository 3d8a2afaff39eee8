//! TFTP with real clients: tftp-hpa, atftp, curl and busybox, and a probe-then-read as firmware does it.

mod loss;
mod rules;

use bytes::Bytes;
use provisioner::tftp::{End, Files, Hearing, Transferred, config::Settings, serve};
use std::{
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::UdpSocket;

#[derive(Default)]
struct Ear(Mutex<Vec<Transferred>>);

impl Hearing for Ear {
    fn transferred(&self, transferred: Transferred) {
        self.0.lock().unwrap().push(transferred);
    }
}

fn contents() -> Vec<u8> {
    (0..3_000_017u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn server() -> (SocketAddr, Arc<Ear>) {
    server_with(Settings::default(), Files::new([("snponly.efi".to_owned(), Bytes::from(contents()))])).await
}

async fn server_with(settings: Settings, files: Files) -> (SocketAddr, Arc<Ear>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, ear) = (socket.local_addr().unwrap(), Arc::new(Ear::default()));
    tokio::spawn(serve(socket, settings, files, ear.clone()));
    (address, ear)
}

/// Both ways of serving: a port for each transfer, and one for all.
fn both_ways() -> [Settings; 2] {
    [false, true].map(|single_port| Settings { single_port, ..Settings::default() })
}

/// Runs a client; it must leave the file's bytes in `{out}`.
async fn fetched_by(program: &str, arguments: &[&str]) {
    for settings in both_ways() {
        let files = Files::new([("snponly.efi".to_owned(), Bytes::from(contents()))]);
        fetched_from(server_with(settings, files).await, program, arguments).await;
    }
}

async fn fetched_from((address, ear): (SocketAddr, Arc<Ear>), program: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let fill = |word: &&str| {
        word.replace("{port}", &address.port().to_string()).replace("{out}", out.to_str().unwrap())
    };
    let words: Vec<String> = arguments.iter().map(fill).collect();
    let (program, within) = (program.to_owned(), "30");
    let run = move || Command::new("timeout").arg(within).arg(program).args(words).output().unwrap();
    let ran = tokio::task::spawn_blocking(run).await;
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(std::fs::read(&out).unwrap() == contents(), "the bytes differ");
    for _ in 0..100 {
        if ear.0.lock().unwrap().iter().any(|t| t.end == End::Complete) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the transfer's end was not told: {:?}", ear.0.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_fetches() {
    fetched_by(
        "curl",
        &["-sf", "--tftp-blksize", "1468", "-o", "{out}", "tftp://127.0.0.1:{port}/snponly.efi"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tftp_hpa_fetches() {
    fetched_by("tftp", &["-m", "binary", "127.0.0.1", "{port}", "-c", "get", "snponly.efi", "{out}"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn atftp_fetches_with_windows() {
    fetched_by(
        "atftp",
        &[
            "--option",
            "blksize 1428",
            "--option",
            "windowsize 16",
            "-g",
            "-r",
            "/snponly.efi",
            "-l",
            "{out}",
            "127.0.0.1",
            "{port}",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busybox_fetches() {
    fetched_by("busybox", &["tftp", "-g", "-r", "snponly.efi", "-l", "{out}", "127.0.0.1", "{port}"]).await;
}
