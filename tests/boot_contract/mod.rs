//! The boot contract: whatever DHCP offers to any firmware is really served, by the real TFTP and HTTP handlers.

use crate::{
    dhcp::house::{Declared, Ear, Journal, NOW, option, packet, subnets},
    dhcp6::house as house6,
};
use provisioner::{
    dhcp::{
        Who,
        boot_server::BootServer,
        bootfile::{Serving, candidates, script_path},
        client::{Architecture, Platform},
        config::Mode,
        server::Server,
        subnet::Subnet,
        v6,
    },
    http::boot_files::{BootFiles, IPXE},
    tftp,
};
use provisioner_wire::Mac;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    process::Command,
    sync::Arc,
};
use tokio::net::{TcpListener, UdpSocket};

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x42]);

struct Deaf;

impl tftp::Hearing for Deaf {
    fn transferred(&self, _: tftp::Transferred) {}
}

fn contents(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(70_000).collect()
}

/// The boot files of one folder, behind both doors.
struct Doors {
    files: BootFiles,
    tftp: SocketAddr,
    http: SocketAddr,
}

impl Doors {
    async fn new() -> Self {
        Self::on(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    async fn on(ip: IpAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in IPXE.into_iter().chain(["vmlinuz", "initramfs.img"]) {
            fs::write(folder.path().join(name), contents(name)).unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        let files = BootFiles::load(folder.path(), &at("vmlinuz"), &at("initramfs.img")).unwrap();
        let udp = UdpSocket::bind((ip, 0)).await.unwrap();
        let tcp = TcpListener::bind((ip, 0)).await.unwrap();
        let doors =
            Self { tftp: udp.local_addr().unwrap(), http: tcp.local_addr().unwrap(), files: files.clone() };
        tokio::spawn(tftp::serve(
            udp,
            tftp::config::Settings::default(),
            tftp::Files::new(files.files()),
            Arc::new(Deaf),
        ));
        tokio::spawn(async move { axum::serve(tcp, files.router()).await });
        doors
    }

    /// Fetches with curl, as far from our own code as can be.
    async fn fetch(&self, url: String, more: &'static [&'static str]) -> Vec<u8> {
        let ran = tokio::task::spawn_blocking(move || {
            Command::new("curl").args(["-sf", "--max-time", "10"]).args(more).arg(url).output().unwrap()
        });
        let ran = ran.await.unwrap();
        assert!(ran.status.success(), "{ran:?}");
        ran.stdout
    }

    /// Where an offered file really is: tests have other ports than 69 and 8080.
    fn place(&self, offered: &str) -> String {
        match offered.split_once("://") {
            None => format!("tftp://{}/{offered}", self.tftp),
            Some(("tftp", rest)) => format!("tftp://{}/{}", self.tftp, rest.split_once('/').unwrap().1),
            Some((_, rest)) => format!("http://{}/{}", self.http, rest.split_once('/').unwrap().1),
        }
    }
}

/// By which answer a client is told its boot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// With its address.
    Server,
    /// Beside another server's answer.
    Proxy,
    /// Asked for after it has an address.
    Port4011,
}

/// What DHCP offers to a client of this class and architecture.
async fn offered(
    files: &BootFiles,
    way: Way,
    (class, architecture): (&str, u16),
    more: &[(u8, &[u8])],
) -> Option<String> {
    let serving = Serving {
        server: Ipv4Addr::new(10, 88, 0, 1),
        http: "http://10.88.0.1:8080".to_owned(),
        files: files.files().map(|(name, _)| name).collect(),
    };
    let who = Who::Known { name: "alpha".parse().unwrap(), address: None, netboot: true };
    let directory = Arc::new(Declared([(MAC, who)].into()));
    let (journal, ear) = (Arc::new(Journal::default()), Arc::new(Ear::default()));
    let class = format!("{class}:Arch:{architecture:05}:UNDI:003016");
    let number = architecture.to_be_bytes();
    let kind = if way == Way::Port4011 { [3] } else { [1] };
    let all: Vec<(u8, &[u8])> = [(53, &kind[..]), (60, class.as_bytes()), (93, &number[..])]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let mode = if way == Way::Server { Mode::Server } else { Mode::Proxy };
    let subnets: Vec<_> = subnets().into_iter().map(|subnet| Subnet { mode, ..subnet }).collect();
    let packet = packet(MAC, &all);
    let reply = if way == Way::Port4011 {
        let peer = SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, 60), 68);
        BootServer::new(subnets, serving, directory, ear).answer(&packet, peer, NOW).await
    } else {
        Server::new(subnets, serving, &[], directory, journal, ear).answer(&[packet], NOW).await.pop()
    };
    let reply = reply?;
    let file = option(&reply.bytes, 67).map(|file| String::from_utf8(file.to_vec()).unwrap());
    // U-Boot reads only the header, EDK2 only the option: they say the same.
    let header = reply.bytes[108..236].split(|b| *b == 0).next().unwrap();
    assert_eq!(file.as_deref().unwrap_or_default().as_bytes(), header, "{way:?} {class}");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_offered_to_any_architecture_in_any_mode_is_served() {
    let doors = Doors::new().await;
    let mut fetched = 0;
    for (number, way) in (0..=45).flat_map(|n| [Way::Server, Way::Proxy, Way::Port4011].map(|way| (n, way))) {
        let known = Architecture(number).platform().is_some();
        let no_http: &[(u8, &[u8])] = &[(77, b"iPXE"), (175, &[0x15, 1, 1])];
        for (class, more) in [("PXEClient", &[][..]), ("HTTPClient", &[]), ("PXEClient", no_http)] {
            let Some(file) = offered(&doors.files, way, (class, number), more).await else {
                assert!(!known, "architecture {number} is known and gets nothing ({way:?})");
                continue;
            };
            assert!(known, "architecture {number} is unknown and gets {file} ({way:?})");
            let name = file.rsplit('/').next().unwrap().to_owned();
            assert_eq!(file.starts_with("http://"), class == "HTTPClient", "{number} {way:?}: {file}");
            let got = doors.fetch(doors.place(&file), &["--tftp-blksize", "1468"]).await;
            assert!(got == contents(&name), "{number} {class} {way:?}: {file}");
            fetched += 1;
        }
    }
    assert!(fetched >= 150, "{fetched}");
}

/// What DHCPv6 tells this client to boot: with its address, or as information only.
async fn offered6(files: &BootFiles, kind: u8, options: &[Vec<u8>]) -> Option<String> {
    let serving =
        v6::server::Serving6 { files: files.files().map(|(name, _)| name).collect(), ..house6::serving() };
    let mode = if kind == house6::INFORMATION { house6::STATELESS } else { house6::STATEFUL };
    let (directory, journal, ear) = (
        Arc::<house6::Machines>::default(),
        Arc::<house6::Journal>::default(),
        Arc::<house6::Ear>::default(),
    );
    let mut server = v6::server::Server::new(house6::served(mode), serving, &[], directory, journal, ear);
    let mut all = vec![house6::client_id(), house6::ia(&[])];
    if kind == house6::INFORMATION {
        all.pop();
    }
    all.extend_from_slice(options);
    let from = SocketAddrV6::new(house6::PEER, 546, 0, 2);
    let packet = v6::server::Packet { bytes: house6::message(kind, &all), from, unicast: false };
    let reply = server.answer(&[packet], house6::NOW).await.pop()?;
    house6::Answer(reply.bytes).text(59)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_offered_over_ipv6_is_served() {
    let doors = Doors::on(IpAddr::V6(Ipv6Addr::LOCALHOST)).await;
    let mut fetched = 0;
    for number in 0..=45 {
        let known = Architecture(number).platform().is_some();
        for (class, kind) in ["PXEClient", "HTTPClient"]
            .into_iter()
            .flat_map(|class| [house6::SOLICIT, house6::INFORMATION].map(|kind| (class, kind)))
        {
            let Some(url) = offered6(&doors.files, kind, &[house6::uefi(class, number)]).await else {
                assert!(!known, "architecture {number} is known and gets nothing (message {kind})");
                continue;
            };
            assert!(known, "architecture {number} is unknown and gets {url} (message {kind})");
            let scheme = if class == "HTTPClient" { "http://" } else { "tftp://" };
            assert!(url.starts_with(scheme), "{number} {class}: {url}");
            let got = doors.fetch(doors.place(&url), &["-g", "--tftp-blksize", "1428"]).await;
            assert!(got == contents(url.rsplit('/').next().unwrap()), "{number} {class}: {url}");
            fetched += 1;
        }
    }
    assert!(fetched >= 60, "{fetched}");
    let ipxe = [house6::uefi("PXEClient", 7), house6::option(15, b"\0\x04iPXE")];
    let script = offered6(&doors.files, house6::SOLICIT, &ipxe).await;
    assert_eq!(script.unwrap(), format!("http://[fd88::1]:8080{}", script_path(house6::MAC)));
}

#[tokio::test]
async fn every_ipxe_is_sent_to_the_route_that_http_has() {
    let files = Doors::new().await.files;
    for (number, user_class) in [(0, &b"iPXE"[..]), (7, b"\x04iPXE"), (11, b"provisioner"), (999, b"iPXE")] {
        let told = [(77u8, user_class)];
        let url = offered(&files, Way::Server, ("PXEClient", number), &told).await.unwrap();
        for way in [Way::Proxy, Way::Port4011] {
            let same = offered(&files, way, ("PXEClient", number), &told).await;
            assert_eq!(same.as_ref(), Some(&url), "{way:?}");
        }
        let arch = if number == 11 { "?arch=arm64" } else { "" };
        assert_eq!(url, format!("http://10.88.0.1:8080/boot/52-54-00-00-00-42.ipxe{arch}"));
    }
    // `GET /boot/{mac}.ipxe` parses exactly this.
    let name = script_path(MAC);
    let mac = name.strip_prefix("/boot/").and_then(|n| n.strip_suffix(".ipxe")).unwrap();
    assert_eq!(mac.parse(), Ok(MAC));
}

#[test]
fn http_loads_whatever_dhcp_may_name() {
    use Platform::*;
    let all = [Bios, UefiX86, UefiX64, UefiArm32, UefiArm64, UefiRiscv64, UefiLoong64];
    let named: Vec<_> = all.into_iter().flat_map(candidates).collect();
    for name in &named {
        assert!(IPXE.contains(name), "{name} may be offered and is never loaded");
    }
    assert_eq!(named.len(), IPXE.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn uefi_http_boot_asks_for_the_size_first() {
    let doors = Doors::new().await;
    let url = doors.place(&offered(&doors.files, Way::Server, ("HTTPClient", 16), &[]).await.unwrap());
    let head = String::from_utf8(doors.fetch(url.clone(), &["--head"]).await).unwrap().to_lowercase();
    for line in ["http/1.1 200", "content-length: 70000", "content-type: application/efi"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("transfer-encoding"), "{head}");
    let part = doors.fetch(url.clone(), &["--range", "100-199"]).await;
    assert_eq!(part, &contents("snponly.efi")[100..200]);
    let tail = doors.fetch(url, &["--range", "-7"]).await;
    assert_eq!(tail, &contents("snponly.efi")[70_000 - 7..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_newer_ipxe_looks_for_first_is_refused_at_once() {
    let doors = Doors::new().await;
    for url in [
        format!("tftp://{}/autoexec.ipxe", doors.tftp),
        format!("http://{}/boot/files/autoexec.ipxe", doors.http),
        format!("http://{}/autoexec.ipxe", doors.http),
        format!("tftp://{}/../../etc/passwd", doors.tftp),
    ] {
        let started = std::time::Instant::now();
        let shown = url.clone();
        let ran = tokio::task::spawn_blocking(move || {
            Command::new("curl").args(["-sf", "--path-as-is", "--max-time", "10", &url]).status().unwrap()
        });
        assert!(!ran.await.unwrap().success(), "{shown}");
        assert!(started.elapsed().as_secs() < 3, "{shown}");
    }
}
