//! The inventory loader on real files, and the sample data centre.

use super::{repository, template_names};
use proptest::prelude::*;
use provisioner::inventory::{
    DeclaredSha256, DiskHints, Hardware, Inventory, KernelArgument, Password, Problem, Profile, check, load,
    matching::{Identity, Seen, choose_disk, compare, identify},
};
use provisioner_wire::report::{Disk, Firmware, HardwareReport, Nic};
use std::fs;

const PROFILE: &str = "\
name: p
image: i
os: cloud-init
template: cloud-init
role: worker
place: {partition: {number: 1}, directory: /seed}
";
const IMAGE: &str = "\
name: i
source: {file: i.raw}
format: raw
sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
";
const MACHINE: &str = "\
name: a
uuid: 11111111-2222-4333-8444-555555555555
serial: S1
nics:
  - mac: 52:54:00:00:00:01
    address: 10.0.0.11/24
    gateway: 10.0.0.1
bmc:
  url: https://10.0.1.1
  username: root
  password: {env: P}
profile: p
";

/// Loads `machines` (one file each, a.yaml, b.yaml, …), `profile` and `image`; file names without their folder.
fn load_text(machines: &[&str], profile: &str, image: &str) -> Result<Inventory, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["machines", "profiles", "images"] {
        fs::create_dir(folder.path().join(kind)).unwrap();
    }
    for (text, name) in machines.iter().zip(["a", "b", "c"]) {
        fs::write(folder.path().join("machines").join(format!("{name}.yaml")), text).unwrap();
    }
    fs::write(folder.path().join("profiles/p.yaml"), profile).unwrap();
    fs::write(folder.path().join("images/i.yaml"), image).unwrap();
    let prefix = format!("{}/", folder.path().display());
    load(folder.path(), &template_names())
        .map_err(|problems| problems.iter().map(|p| p.to_string().replace(&prefix, "")).collect())
}

fn machine(text: &str) -> Hardware {
    load_text(&[text], PROFILE, IMAGE).unwrap().machines.remove(0)
}

#[test]
fn the_sample_data_centre_is_valid_as_it_stands() {
    let inventory = load(&repository().join("hardware"), &template_names())
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(inventory.machines.len(), 2);
    assert_eq!(inventory.profiles.len(), 2);
    assert_eq!(inventory.images.len(), 2);
    assert!(inventory.images.iter().all(|image| matches!(image.sha256, DeclaredSha256::In { .. })));
}

/// (what is replaced in MACHINE, by what, place, part of the message)
const MACHINE_MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("serial: S1", "serail: S1", "machines/a.yaml:3:", "unknown field"),
    ("52:54:00:00:00:01", "52:54:00:00:00", "machines/a.yaml:5:", "is not a MAC address"),
    ("52:54:00:00:00:01", "01:00:5e:00:00:01", "machines/a.yaml:5:", "multicast"),
    ("name: a", "name: A_1", "machines/a.yaml:1:7", "is not a name"),
    ("name: a", "name: a\nname: b", "machines/a.yaml:2:1", "duplicate"),
    ("11111111-2222", "1111-2222", "machines/a.yaml:2:", "UUID"),
    (
        "11111111-2222-4333-8444-555555555555",
        "03000200-0400-0500-0006-000700080009",
        "machines/a.yaml:2:7",
        "filler",
    ),
    ("serial: S1", "serial: Default string", "machines/a.yaml:3:9", "filler"),
    ("10.0.0.11/24", "10.0.0.11", "machines/a.yaml:6:", "address"),
    ("10.0.0.11/24", "10.0.0.255/24", "machines/a.yaml:6:14", "broadcast"),
    ("gateway: 10.0.0.1", "gateway: 10.0.1.1", "machines/a.yaml:7:14", "outside 10.0.0.0/24"),
    ("https://10.0.1.1", "ftp://10.0.1.1", "machines/a.yaml:9:", "http"),
    ("https://10.0.1.1", "https://u:hunter2@10.0.1.1", "machines/a.yaml:9:", "user name or password"),
    ("{env: P}", "{value: hunter2}", "machines/a.yaml:11:", "does not belong into a file"),
    ("{env: P}", "stored", "machines/a.yaml:11:13", "does not belong into a file"),
    ("{env: P}", "hunter2", "machines/a.yaml:11:", ""),
    ("{env: P}", "{file: ../../etc/shadow}", "machines/a.yaml:11:", "without '..'"),
    ("profile: p", "profile: q", "machines/a.yaml:12:10", "no profile q (there is: p)"),
    ("profile: p", "kernel_arguments: [\"a\\nb\"]", "machines/a.yaml:12:", "kernel argument"),
    ("profile: p", "disk: {min_size: 2TB, max_size: 1TB}", "machines/a.yaml:12:18", "above max_size"),
    ("profile: p", "disk: {min_size: 20 giga}", "machines/a.yaml:12:", "is not a size"),
    ("nics:", "nics: []\nnots:", "machines/a.yaml:5:", "unknown field"),
];

#[test]
fn every_mistake_has_its_place_and_changes_nothing() {
    for (good, bad, place, message) in MACHINE_MISTAKES {
        assert!(MACHINE.contains(good), "{good}");
        let problems = load_text(&[&MACHINE.replacen(good, bad, 1)], PROFILE, IMAGE).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{bad}: {problems:#?}") };
        assert!(problem.starts_with(place) && problem.contains(message), "{bad}: {problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    let places = [
        (PROFILE.replace("image: i", "image: j"), "profiles/p.yaml:2:8", "no image j"),
        (PROFILE.replace("template: cloud-init", "template: x"), "profiles/p.yaml:4:11", "no template x"),
        (PROFILE.replace("number: 1", "number: 0"), "profiles/p.yaml:6:", "counted from 1"),
        (PROFILE.replace("/seed", "/a/../b"), "profiles/p.yaml:6:", "absolute directory"),
        (format!("{PROFILE}token: {{ttl: 3h}}\n"), "profiles/p.yaml:7:", "1m to 2h"),
        (format!("{PROFILE}kernel_arguments: ['a b']\n"), "profiles/p.yaml:7:", "kernel argument"),
        (format!("{PROFILE}ready: {{by: hope}}\n"), "profiles/p.yaml:7:", "phone-home"),
    ];
    for (profile, place, message) in places {
        let problems = load_text(&[MACHINE], &profile, IMAGE).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
        assert!(problem.starts_with(place) && problem.contains(message), "{problem}");
    }
    for (image, place, message) in [
        (IMAGE.replace("sha256", "raw_sha256"), "images/i.yaml:1:1", "the hash decides"),
        (
            format!("{IMAGE}mirrors: ['http://y/i']\n"),
            "images/i.yaml:5:",
            "only an image from a URL has mirrors",
        ),
        (format!("{IMAGE}architecture: arm64\n"), "images/i.yaml:5:", "chosen by architecture"),
        (
            IMAGE.replace("{file: i.raw}", "{oci: 'talos:v1'}"),
            "images/i.yaml:2:",
            "not REGISTRY/REPOSITORY:TAG",
        ),
    ] {
        let problems = load_text(&[MACHINE], PROFILE, &image).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
        assert!(problem.starts_with(place) && problem.contains(message), "{problem}");
    }
    let problems = load_text(&[MACHINE], PROFILE, &IMAGE.replace("aaaa", "xyz")).unwrap_err();
    assert!(problems[0].starts_with("images/i.yaml:4:"), "{problems:?}");
}

/// By the operating system of the machine's profile: others can have it.
#[test]
fn a_network_that_bottlerocket_cannot_have_is_refused_where_it_stands() {
    let network = "network:\n  links:\n    eno1:\n      mac: 52:54:00:00:00:01\n      dhcp: true\n      \
                   routes: [{to: 10.9.0.0/16, via: 10.0.0.2}]\n      mtu: 9000\n";
    let machine = format!("{MACHINE}{network}");
    load_text(&[&machine], PROFILE, IMAGE).unwrap();
    let profile = PROFILE.replace("os: cloud-init", "os: bottlerocket");
    let problems = load_text(&[&machine], &profile, IMAGE).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("machines/a.yaml:18:"), "{problems:#?}");
    assert!(problems[0].contains("Bottlerocket takes no routes on a link with dhcp"), "{problems:#?}");
    assert!(problems[1].starts_with("machines/a.yaml:19:"), "{problems:#?}");
    assert!(problems[1].contains("Bottlerocket has no setting for the MTU"), "{problems:#?}");
}

#[test]
fn what_must_be_there_once_names_both_places() {
    let other = MACHINE
        .replace("name: a", "name: b")
        .replace("11111111", "99999999")
        .replace("S1", "S2")
        .replace("00:00:01", "00:00:02")
        .replace("10.0.0.11", "10.0.0.12")
        .replace("10.0.1.1", "10.0.1.2");
    load_text(&[MACHINE, &other], PROFILE, IMAGE).unwrap();
    let cases = [
        ("name: b", "name: a", "1:7", "machine name a"),
        ("99999999-2222-4333", "11111111-2222-4333", "2:7", "UUID"),
        // The same UUID as firmware with the other byte order shows it.
        ("99999999-2222-4333", "11111111-2222-3343", "2:7", "UUID"),
        ("S2", "S1", "3:9", "serial S1"),
        ("00:00:02", "00:00:01", "5:10", "MAC 52:54:00:00:00:01"),
        ("10.0.0.12", "10.0.0.11", "6:14", "address 10.0.0.11"),
        ("10.0.1.2", "10.0.1.1", "9:8", "BMC URL"),
    ];
    for (good, twin, place, message) in cases {
        let problems = load_text(&[MACHINE, &other.replace(good, twin)], PROFILE, IMAGE).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{twin}: {problems:#?}") };
        assert!(problem.starts_with(&format!("machines/b.yaml:{place}: {message}")), "{problem}");
        assert!(problem.contains("machine a (machines/a.yaml:"), "{problem}");
    }
    // Two documents in one file: each has its own lines.
    let both = format!("{MACHINE}---\n{MACHINE}");
    let problems = load_text(&[&both], PROFILE, IMAGE).unwrap_err();
    assert_eq!(problems.len(), 6, "{problems:#?}");
    assert!(problems[0].starts_with("machines/a.yaml:14:7: machine name a"), "{problems:?}");
}

#[test]
fn the_api_gets_json_paths() {
    let inventory = Inventory { machines: vec![machine(MACHINE); 2], ..Inventory::default() };
    let problems: Vec<Problem> = check(&inventory, &template_names(), str::to_owned);
    assert!(problems.iter().any(|p| p.place == "/machines/1/nics/0/mac"), "{problems:?}");
    assert!(problems.iter().any(|p| p.place == "/machines/0/profile"), "{problems:?}");
}

#[test]
fn records_come_back_from_json_and_no_password_does() {
    let mut hardware = machine(MACHINE);
    let profile: Profile = serde_json::from_value(serde_json::json!({
        "name": "p", "image": "i", "os": "cloud-init", "template": "t", "role": "worker",
        "disk": {"min_size": "20GiB", "rotational": false, "wwn": "0x5000"},
        "place": {"partition": {"part-label": "root"}, "directory": "/x"},
        "token": {"ttl": "30m"}, "values": {"a": [1, {"b": null}]},
    }))
    .unwrap();
    let json = serde_json::to_value(&profile).unwrap();
    assert_eq!(json["disk"]["min_size"], "20GiB");
    assert_eq!(json["ready"], serde_json::json!({"by": "phone-home", "deadline": "20m"}));
    assert_eq!(serde_json::from_value::<Profile>(json).unwrap(), profile);

    let json = serde_json::to_value(&hardware).unwrap();
    let again: Hardware = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(again).unwrap(), json);
    hardware.bmc.as_mut().unwrap().password = Password::Value("hunter2".to_owned().into());
    let text = format!("{} {hardware:?}", serde_json::to_string(&hardware).unwrap());
    assert!(text.contains("\"password\":\"stored\"") && !text.contains("hunter2"), "{text}");
}

#[test]
fn identities_that_disagree_are_a_conflict_never_a_merge() {
    let other = MACHINE.replace("name: a", "name: b").replace("11111111", "99999999").replace("S1", "S2");
    let (a, b) = (machine(MACHINE), machine(&other.replace("00:00:01", "00:00:02")));
    let machines = [a, b];
    let seen = |macs: &[&str], uuid: Option<&str>, serial: Option<&str>| Seen {
        macs: macs.iter().map(|mac| mac.parse().unwrap()).collect(),
        uuid: uuid.map(|uuid| uuid.parse().unwrap()),
        serial: serial.map(str::to_owned),
    };
    let (mac_a, mac_b, mac_x) = ("52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:99");
    let (uuid_a, uuid_b) = ("11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555");
    let swapped = "11111111-2222-3343-8444-555555555555";
    let (filler, stranger) = ("03000200-0400-0500-0006-000700080009", "77777777-2222-4333-8444-555555555555");
    let cases = [
        (seen(&[mac_a], None, None), "a"),
        (seen(&[mac_a], Some(uuid_a), Some("S1")), "a"),
        (seen(&[mac_x], Some(swapped), None), "a"),
        (seen(&[mac_x, mac_b], Some(filler), Some("To be filled by O.E.M.")), "b"),
        (seen(&[mac_x], None, None), "unknown"),
        (seen(&[], Some(filler), Some("0000")), "unknown"),
        (seen(&[mac_a], Some(uuid_b), None), "conflict"),
        (seen(&[mac_a, mac_b], None, None), "conflict"),
        (seen(&[mac_a], Some(stranger), None), "conflict"),
        (seen(&[mac_a], Some(uuid_a), Some("S2")), "conflict"),
        (seen(&[mac_a], Some(uuid_a), Some("S9")), "conflict"),
    ];
    for (seen, expected) in cases {
        let found = match identify(&machines, &seen) {
            Identity::Machine(machine) => machine.name.to_string(),
            Identity::Unknown => "unknown".to_owned(),
            Identity::Conflict(conflict) => {
                assert!(conflict.to_string().starts_with("conflicting identity: "));
                "conflict".to_owned()
            }
        };
        assert_eq!(found, expected, "{seen:?}");
    }
}

#[test]
fn a_machine_that_is_not_as_declared_is_told_so() {
    let mut hardware = machine(MACHINE);
    hardware.firmware = Some(Firmware::Uefi);
    let nic = Nic {
        name: "eth0".into(),
        mac: "52:54:00:00:00:01".parse().unwrap(),
        link: true,
        speed_mbit: None,
        driver: None,
    };
    let mut report =
        HardwareReport { firmware: Firmware::Uefi, nics: vec![nic], ..HardwareReport::default() };
    report.dmi.uuid = Some("11111111-2222-4333-8444-555555555555".into());
    report.dmi.serial = Some("s1 ".into());
    assert_eq!(compare(&hardware, &report), Vec::<String>::new());
    let empty = HardwareReport::default();
    let reasons = compare(&hardware, &empty);
    assert_eq!(reasons.len(), 4, "{reasons:#?}");
}

fn disk(name: &str, serial: &str, gib: u64) -> Disk {
    Disk {
        name: name.into(),
        serial: Some(serial.into()),
        model: Some("QEMU HARDDISK".into()),
        size_bytes: gib << 30,
        transport: Some("virtio".into()),
        ..Disk::default()
    }
}

#[test]
fn hints_choose_exactly_one_disk_or_refuse_with_all_that_were_seen() {
    let mut usb = disk("sda", "USB1", 64);
    usb.removable = true;
    let mut used = disk("sdb", "USED", 64);
    used.in_use = true;
    let mut locked = disk("sdc", "LOCK", 64);
    locked.read_only = true;
    let mut nameless = disk("sdd", "", 64);
    nameless.serial = None;
    let mut wwn = disk("sde", "0000000", 100);
    wwn.wwn = Some("naa.5000C500A1B2C3D4".into());
    wwn.rotational = true;
    let disks = vec![disk("vda", "A", 10), disk("vdb", "B", 20), usb, used, locked, nameless, wwn];
    let report = HardwareReport { disks, ..HardwareReport::default() };
    let choose = |yaml: &str| {
        let hints: DiskHints = serde_json::from_str(yaml).unwrap();
        choose_disk(&hints, &report).map(|disk| disk.name)
    };
    for (hints, name) in [
        (r#"{"serial": "a"}"#, "vda"),
        (r#"{"max_size": "10GiB"}"#, "vda"),
        (r#"{"min_size": "20GiB", "rotational": false}"#, "vdb"),
        (r#"{"wwn": "0x5000c500a1b2c3d4"}"#, "sde"),
        (r#"{"model": "harddisk", "rotational": true}"#, "sde"),
    ] {
        assert_eq!(choose(hints).unwrap(), name, "{hints}");
    }
    for (hints, matched) in [
        ("{}", 3),
        (r#"{"transport": "virtio", "max_size": "20GiB"}"#, 2),
        (r#"{"serial": "USB1"}"#, 0),
        (r#"{"serial": "USED"}"#, 0),
        (r#"{"serial": "LOCK"}"#, 0),
        (r#"{"min_size": "64GiB", "max_size": "64GiB"}"#, 0),
        (r#"{"by_path": "pci-0000:00:01.0"}"#, 0),
    ] {
        let refusal = choose(hints).unwrap_err();
        assert_eq!(refusal.matched(), matched, "{refusal}");
        let text = refusal.to_string();
        assert!(report.disks.iter().all(|disk| text.contains(&disk.name)), "{text}");
    }
    let twins = HardwareReport { disks: vec![disk("sda", "T", 5), disk("sdb", "T", 5)], ..report.clone() };
    let refusal = choose_disk(&DiskHints::default(), &twins).unwrap_err();
    assert!(refusal.matched() == 0 && refusal.to_string().contains("same WWN, serial and size"), "{refusal}");
    assert!(choose_disk(&DiskHints::default(), &HardwareReport::default()).is_err());
}

proptest! {
    #[test]
    fn a_kernel_argument_is_one_word_of_one_line(text in "\\PC{0,20}|[ -~]{0,20}|a=b[\\s\"'\\x00-\\x1f]c") {
        if let Ok(argument) = text.parse::<KernelArgument>() {
            prop_assert!(argument.as_str().split_whitespace().count() == 1);
            prop_assert!(argument.as_str().bytes().all(|c| c.is_ascii_graphic() && !b"\"'$#".contains(&c)));
        } else {
            let odd = |c: u8| !c.is_ascii_graphic() || b"\"'`\\$#|&".contains(&c);
            prop_assert!(text.is_empty() || text.bytes().any(odd));
        }
    }

    #[test]
    fn no_bytes_in_a_file_make_the_reader_panic(text in "(\\PC|\\n|[:{}\\[\\]\\-,&*!|>'\"%@` ]){0,200}") {
        let _ = load_text(&[&text], &text, &text);
    }
}
