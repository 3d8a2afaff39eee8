//! `what-if` answers as the server does, and leaves no trace.

use super::{MAC, SERVING, Site, X64, declared, program, site::good};
use provisioner_wire::ids::hex;
use sha2::{Digest, Sha256};
use std::{fs, path::Path};

fn site() -> Site {
    Site::new(
        &[("snponly.efi", program(X64)), ("undionly.kpxe", vec![1; 70_000])],
        SERVING,
        Some(&declared()),
    )
}

/// Hashes of the database's files.
fn database(site: &Site) -> Vec<String> {
    let files = ["data/provisioner.db", "data/provisioner.db-wal"];
    files.map(|name| hex(&Sha256::digest(fs::read(site.path(name)).unwrap_or_default()))).to_vec()
}

fn fixture(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    assert!(file.exists(), "{}", file.display());
    file.display().to_string()
}

#[test]
fn the_answer_is_the_servers_and_nothing_is_changed() {
    let site = site();
    good(site.rom(7, ""));
    let pcap = fixture("firmware-captures/aavmf-arm64.pcap");
    let _ = site.said("boot-plane");
    // What the machine itself has left is written down first.
    let mut last = database(&site);
    let settled = super::site::until(std::time::Duration::from_secs(30), || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        let written = site.json("explain node-1")["timeline"].to_string().contains("acknowledged");
        let now = database(&site);
        (std::mem::replace(&mut last, now.clone()) == now && written).then_some(())
    });
    assert!(settled.is_some(), "{}", site.log());
    let before = (database(&site), site.json("boot-plane")["counts"].clone());
    let answer = site.json(&format!("what-if {MAC} --firmware uefi --arch x86_64"));
    let shown = site.said(&format!("what-if {MAC} --firmware uefi-http --bytes"));
    let unknown = site.json("what-if 52:54:00:99:99:99 --firmware bios");
    let captured = site.json(&format!("what-if --pcap {pcap}"));
    assert_eq!((database(&site), site.json("boot-plane")["counts"].clone()), before, "what-if left a trace");

    let said: Vec<_> =
        answer["exchanges"].as_array().unwrap().iter().map(|e| e["said"].as_str().unwrap()).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(said[0], "offered 10.88.0.11, boot file snponly.efi");
    assert_eq!(said[1], "acknowledged 10.88.0.11, boot file snponly.efi");
    assert!(said[2].contains("/boot/52-54-00-00-00-42.ipxe"), "{said:?}");
    let fields = answer["exchanges"][0]["fields"].as_array().unwrap();
    let value = |code: &str| fields.iter().find(|f| f["code"] == code).map(|f| f["value"].as_str().unwrap());
    assert_eq!((value("53"), value("67"), value("51")), (Some("offer"), Some("snponly.efi"), Some("3600")));
    // The machine boots its disk now; what it would become is shown without its token.
    let machine = &answer["machines"][0];
    assert_eq!(machine["machine"], "node-1");
    assert!(machine["script"].as_str().unwrap().contains("sanboot"), "{machine:#}");
    let config = machine["config"].to_string();
    assert!(config.contains("REDACTED") && !config.contains("dryrun"), "{machine:#}");
    assert!(
        shown.contains("67 boot file") && shown.contains("http://10.88.0.1:8080/boot/files/snponly.efi"),
        "{shown}"
    );
    assert!(unknown["exchanges"][0]["said"].as_str().unwrap().contains("no boot file"), "{unknown:#}");
    assert_eq!(unknown["machines"][0]["machine"], serde_json::Value::Null);
    // Real firmware that nobody declared, discovery off: an address, and nothing to boot.
    let first = &captured["exchanges"][0];
    assert!(first["asked"].as_str().unwrap().contains("UEFI"), "{first:#}");
    let said = first["said"].as_str().unwrap();
    assert!(said.starts_with("offered 10.88.0.1") && said.ends_with(", no boot file"), "{first:#}");
    assert_eq!(first["answer_bytes"].as_str().unwrap()[..8], *"02010600");
}

#[test]
fn every_captured_exchange_is_answered_or_refused() {
    let site = site();
    let mut asked = 0;
    for folder in ["firmware-captures", "firmware-captures-2", "pcap-netboot", "pcap-tcpdump", "pcap-zeek"] {
        let Ok(entries) = fs::read_dir(fixture(folder)) else { continue };
        for entry in entries {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|e| e == "pcap" || e == "pcapng") {
                let ran = site.cli(&format!("what-if --output json --pcap {}", file.display()));
                let code = ran.status.code().unwrap();
                assert!(matches!(code, 0 | 2 | 4), "{}: {ran:?}", file.display());
                asked += usize::from(code == 0);
            }
        }
    }
    assert!(asked >= 5, "{asked}");
    assert!(site.cli("boot-plane").status.success(), "the server lives");
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let site = site();
    for (line, says) in [
        (format!("what-if {MAC} --firmware toaster"), "\"toaster\" is none of"),
        (format!("what-if {MAC} --arch vax"), "\"vax\" is none of"),
        (format!("what-if {MAC} --relay 192.0.2.1"), "no subnet that is served holds 192.0.2.1"),
        ("what-if not-a-mac".to_owned(), "not-a-mac"),
    ] {
        let ran = site.cli(&line);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(4) && said.contains(says), "{line}: {said}");
    }
}
