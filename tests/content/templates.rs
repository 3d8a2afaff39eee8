//! Rendering of the sample profiles, and hostile values in them.

use super::{repository, template_names, templates};
use proptest::prelude::*;
use provisioner::{
    inventory::{Hardware, Inventory, OperatingSystem, Profile, load},
    os::{Site, config, preflight, validate},
    render::Templates,
    token::{Grant, PlainToken, builtin},
};
use provisioner_wire::{
    Generation,
    order::{Config, ConfigFile},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::Command,
};

const TOKEN: &str = "abcdef.0123456789abcdef";

fn inventory() -> Inventory {
    load(&repository().join("hardware"), &template_names()).unwrap()
}

fn sample(profile: &str) -> (Profile, Hardware) {
    let inventory = inventory();
    let profile = inventory.profiles.into_iter().find(|p| p.name.as_str() == profile).unwrap();
    (profile, inventory.machines.into_iter().next().unwrap())
}

fn site() -> Site {
    Site {
        phone_home_url: "https://10.88.0.1:8443/node/v1/ready".into(),
        phone_home_http_url: "http://10.88.0.1:8080/node/v1/ready".into(),
        ca_pem: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(),
    }
}

fn render(profile: &Profile, hardware: &Hardware) -> Config {
    let token = Grant::from(PlainToken::new(TOKEN));
    config(&templates(), profile, hardware, Generation(3), &site(), None, &token)
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn file<'a>(config: &'a Config, name: &str) -> &'a ConfigFile {
    config.files.iter().find(|file| file.name == name).unwrap()
}

fn yaml(config: &Config, name: &str) -> Value {
    serde_saphyr::from_str(&file(config, name).contents).unwrap()
}

/// The content of one `write_files` entry.
fn written(user_data: &Value, path: &str) -> String {
    let files = user_data["write_files"].as_array().unwrap();
    files.iter().find(|f| f["path"] == path).unwrap()["content"].as_str().unwrap().to_owned()
}

#[test]
fn every_sample_profile_renders_for_every_sample_machine() {
    let inventory = inventory();
    for profile in &inventory.profiles {
        for hardware in &inventory.machines {
            preflight(&templates(), profile, hardware, &site(), None).unwrap_or_else(|p| panic!("{p:#?}"));
        }
    }
}

#[test]
fn the_cloud_init_seed_says_what_was_declared() {
    let (mut profile, mut hardware) = sample("debian-node");
    profile.values.insert("ssh_authorized_keys".into(), json!(["ssh-ed25519 AAAA a@b"]));
    hardware.nics[0].gateway = Some("10.88.0.1".parse().unwrap());
    let config = render(&profile, &hardware);
    let meta = yaml(&config, "meta-data");
    assert_eq!(meta["instance-id"], "88000000-0000-4000-8000-000000000001-3");
    assert_eq!(meta["local-hostname"], "lab-bios-1");
    assert_eq!(
        yaml(&config, "network-config")["network"]["ethernets"]["nic0"],
        json!({
            "match": {"macaddress": "52:54:00:88:00:01"},
            "dhcp4": false,
            "addresses": ["10.88.0.11/24"],
            "routes": [{"to": "0.0.0.0/0", "via": "10.88.0.1"}],
            "nameservers": {"addresses": ["10.88.0.1"]},
        })
    );
    let user = yaml(&config, "user-data");
    assert_eq!(user["hostname"], "lab-bios-1");
    assert_eq!(user["ssh_authorized_keys"], json!(["ssh-ed25519 AAAA a@b"]));
    assert_eq!(written(&user, "/etc/provisioner/role"), "worker\n");
    let told: Value = serde_json::from_str(&written(&user, "/run/provisioner/phone-home.json")).unwrap();
    assert_eq!(told["token"], TOKEN);
    assert_eq!(told["ca_pem"], site().ca_pem);
    assert!(config.files.iter().all(|file| file.mode & 0o077 == 0));
    assert!(!format!("{config:?}").contains(TOKEN));
}

/// The shell script is run by a shell and the Python one is compiled by Python: what the node will do.
#[test]
fn the_phone_home_scripts_are_programs() {
    let folder = tempfile::tempdir().unwrap();
    let (profile, hardware) = sample("tiny-node");
    let script = render(&profile, &hardware);
    let script = file(&script, "phone-home");
    assert_eq!(script.mode, 0o700);
    let path = folder.path().join("phone-home");
    // A wget that shows what it was asked to send.
    let stub = format!("wget() {{ for a; do echo \"[$a]\"; done; }}\n{}", script.contents);
    fs::write(&path, stub).unwrap();
    let output = Command::new("sh").arg(&path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !path.exists(), "{text}");
    assert!(text.contains(&format!("[{{\"token\":\"{TOKEN}\"}}]")), "{text}");
    assert!(text.contains("[http://10.88.0.1:8080/node/v1/ready]"), "{text}");

    let (profile, hardware) = sample("debian-node");
    let user = yaml(&render(&profile, &hardware), "user-data");
    let path = folder.path().join("phone-home.py");
    fs::write(&path, written(&user, "/run/provisioner/phone-home")).unwrap();
    let output = Command::new("python3").args(["-m", "py_compile"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Python runs the script against a real TLS server: it shows the token once, trusts the site's authority, and leaves
/// nothing behind.
#[test]
fn the_node_shows_its_token_over_tls_and_forgets_it() {
    for (answer, success) in [("200 OK", true), ("403 Forbidden", false)] {
        let mut site = site();
        let server = TlsServer::start(answer);
        site.ca_pem = server.ca_pem.clone();
        site.phone_home_url = format!("https://127.0.0.1:{}/node/v1/lab-bios-1/ready", server.port);
        let (profile, hardware) = sample("debian-node");
        let token = Grant::from(PlainToken::new(TOKEN));
        let rendered = config(&templates(), &profile, &hardware, Generation(1), &site, None, &token).unwrap();
        let user = yaml(&rendered, "user-data");
        let folder = tempfile::tempdir().unwrap();
        let seed = folder.path().join("provisioner");
        fs::create_dir(&seed).unwrap();
        for name in ["phone-home", "phone-home.json"] {
            fs::write(seed.join(name), written(&user, &format!("/run/provisioner/{name}"))).unwrap();
        }
        let output =
            Command::new("timeout").args(["30", "python3"]).arg(seed.join("phone-home")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), success, "{said} {}", String::from_utf8_lossy(&output.stderr));
        let request = server.request();
        assert!(request.starts_with("POST /node/v1/lab-bios-1/ready HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with(&format!("\r\n\r\n{{\"token\": \"{TOKEN}\"}}")), "{request}");
        assert!(!seed.exists() && !said.contains(TOKEN), "{said}");
    }
}

/// Answers one request over TLS with a certificate for 127.0.0.1 from an authority of its own.
struct TlsServer {
    port: u16,
    ca_pem: String,
    thread: std::thread::JoinHandle<String>,
}

impl TlsServer {
    fn start(answer: &'static str) -> Self {
        let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        // OpenSSL takes a certificate for its own issuer where both have the same name.
        authority.distinguished_name.push(rcgen::DnType::CommonName, "site authority");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let ca_pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
            let session = rustls::ServerConnection::new(std::sync::Arc::new(tls)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket);
            let (mut request, mut buffer) = (String::new(), [0; 4096]);
            while !request.contains(TOKEN) || !request.ends_with('}') {
                let count = stream.read(&mut buffer).unwrap();
                request.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
            }
            write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            request
        });
        Self { port, ca_pem, thread }
    }

    fn request(self) -> String {
        self.thread.join().unwrap()
    }
}

#[test]
fn a_missing_value_or_a_wrong_type_is_refused_before_anything_happens() {
    let (mut profile, hardware) = sample("debian-node");
    profile.values.clear();
    let problems = preflight(&templates(), &profile, &hardware, &site(), None).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "cloud-init/user-data.yaml.j2:5: the value values.ssh_authorized_keys is not given"
    );
    profile.values.insert("ssh_authorized_keys".into(), json!({"a": TOKEN}));
    let token = Grant::from(PlainToken::new(TOKEN));
    let problems =
        config(&templates(), &profile, &hardware, Generation(1), &site(), None, &token).unwrap_err();
    let text = format!("{problems:?}");
    assert!(problems[0].place.starts_with("user-data:5:"), "{text}");
    assert!(text.contains("ssh_authorized_keys") && !text.contains(TOKEN), "{text}");
}

fn seed(user: &str, meta: &str, network: &str) -> Config {
    let file =
        |name: &str, contents: &str| ConfigFile { name: name.into(), contents: contents.into(), mode: 0o600 };
    Config { files: vec![file("user-data", user), file("meta-data", meta), file("network-config", network)] }
}

#[test]
fn what_cloud_init_would_not_take_is_found_with_its_line() {
    let (user, meta) = ("#cloud-config\nhostname: a\n", "instance-id: x\n");
    let network = "version: 2\nethernets:\n  a:\n    dhcp4: true\n";
    validate(OperatingSystem::CloudInit, &seed(user, meta, network)).unwrap();
    let cases = [
        (seed("hostname: a\n", meta, network), "user-data:1:1", "#cloud-config"),
        (seed("#cloud-config\nhostname: a\nhostname: b\n", meta, network), "user-data:3:1", "duplicate"),
        (seed("#cloud-config\na: [\n", meta, network), "user-data:", ""),
        (seed("#cloud-config\n- a\n", meta, network), "user-data:1:1", "mapping"),
        (seed("#cloud-config\nruncmd: 7\n", meta, network), "user-data:2:9", "runcmd"),
        (seed("#cloud-config\nhostnam: a\n", meta, network), "user-data:2:1", "not allowed"),
        (seed("#cloud-config\nwrite_files:\n  - content: x\n", meta, network), "user-data:3:5", "path"),
        (seed(user, "local-hostname: a\n", network), "meta-data:1:1", "instance-id"),
        (seed(user, "instance-id: 7\n", network), "meta-data:1:14", "instance-id"),
        (seed(user, "instance-id: x\nlocal-hostname: a b\n", network), "meta-data:2:17", "host name"),
        (seed(user, meta, "version: 1\nconfig: []\n"), "network-config:1:10", "version"),
        (seed(user, meta, &network.replace("true", "maybe")), "network-config:4:12", "dhcp4"),
    ];
    for (config, place, message) in cases {
        let Err(problems) = validate(OperatingSystem::CloudInit, &config) else {
            panic!("{place} {message}: taken")
        };
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let found = texts.iter().any(|text| text.starts_with(place) && text.contains(message));
        assert!(found, "{place} {message}: {texts:#?}");
    }
    let none = Config { files: Vec::new() };
    assert_eq!(validate(OperatingSystem::CloudInit, &none).unwrap_err().len(), 2);
}

/// cloud-init's own examples are the proof that the check is not stricter than cloud-init, but for four: two show
/// alternatives below each other under one key, one writes file modes as numbers, which its schema refuses, and one
/// holds shortened base64.
#[test]
fn cloud_inits_own_examples_are_taken() {
    let examples = repository().join("tests/fixtures/cloud-init/doc/examples");
    let (mut taken, mut refused) = (0, Vec::new());
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap_or_default();
        if !name.starts_with("cloud-config") || text.lines().next() != Some("#cloud-config") {
            continue;
        }
        match validate(OperatingSystem::CloudInit, &seed(&text, "instance-id: x\n", "version: 2\n")) {
            Ok(()) => taken += 1,
            Err(problems) => refused.push((name, problems)),
        }
    }
    refused.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
    let known = ["add-apt-repos", "ansible-controller", "disk-setup", "write-files"];
    let known = known.map(|name| format!("cloud-config-{name}.txt"));
    assert!(names == known && taken >= 10, "{taken} {refused:#?}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = "\\PC{0,30}|[ -~\\n\\t\\x00-\\x1f\\x7f-\\u{a0}\\u{2028}\\u{feff}:#'\"{}\\[\\]%]{0,30}|(yes|no|null|~|017|1e3|12:30:45|=|<<|- a|a: b)";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever an operator sets comes out as that value where YAML is parsed, never as structure.
    #[test]
    fn any_value_stays_that_value_in_yaml(value in any_json()) {
        let source = "a: {{ values.x }}\nb:\n  - {{ values.x | toyaml }}\nc: {{ values.x | tojson }}\n";
        let templates = Templates::new([("s/f.yaml.j2".to_owned(), source.to_owned())]).unwrap();
        let files = templates.render("s", &json!({"values": {"x": value}}), &[]).unwrap();
        let options = serde_saphyr::options! { strict_booleans: true };
        let read: Value = serde_saphyr::from_str_with_options(&files[0].contents, options).unwrap();
        prop_assert_eq!(&read["a"], &value);
        prop_assert_eq!(&read["b"], &json!([value]));
        prop_assert_eq!(read["c"].as_str().and_then(|c| serde_json::from_str::<Value>(c).ok()), Some(value));
        prop_assert_eq!(read.as_object().unwrap().len(), 3);
    }

    #[test]
    fn any_text_stays_one_word_in_a_shell(text in "[^\\x00]{0,40}") {
        let templates =
            Templates::new([("s/f.sh.j2".to_owned(), "printf %s {{ x }}".to_owned())]).unwrap();
        let files = templates.render("s", &json!({"x": text}), &[]).unwrap();
        let output = Command::new("sh").arg("-c").arg(&files[0].contents).output().unwrap();
        prop_assert_eq!(output.stdout, text.into_bytes());
    }
}

/// A whole seed with hostile values still says only what was declared.
#[test]
fn hostile_values_do_not_change_the_seed() {
    let (mut profile, mut hardware) = sample("debian-node");
    let evil = "x\"]\nruncmd:\n  - [reboot]\n#{{ token }}${token}";
    let key = evil.replace('\n', "\u{2028}");
    profile.values.insert("ssh_authorized_keys".into(), json!([key]));
    hardware.labels.insert("l".into(), evil.into());
    let user = yaml(&render(&profile, &hardware), "user-data");
    assert_eq!(user["ssh_authorized_keys"], json!([key]));
    assert_eq!(user["runcmd"], json!([["/usr/bin/python3", "/run/provisioner/phone-home"]]));
    let labels: Value = serde_json::from_str(&written(&user, "/etc/provisioner/labels.json")).unwrap();
    assert_eq!(labels["l"], evil);
    assert!(builtin::is_well_formed(TOKEN));
}
