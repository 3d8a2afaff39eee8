//! The played parts: hands that always succeed, a renderer without templates, and an agent that speaks the wire.

use super::{MAC, Server};
use provisioner::{
    http::{
        checked,
        content::{Answer, Change, Checked, Content, Declared, Facts, Piece, Rendered, Unrendered},
        error::Problem,
    },
    inventory::ImageDeclaration,
    machine::{
        Act, ActResult, Machine, Time,
        join::dead,
        state::{ByUrl, Netboot, Target},
    },
    workflow,
};
use provisioner_wire::{
    BootId,
    channel::{AUTHORIZATION, Channel, PrivateKey, config_context},
    chunks::{Chunks, Sha},
    order::{
        Claim, Config, ConfigFile, Image, ImageFormat, LicenceId, PartitionSelector, Place, SealedConfig,
        WipeMethod, cmdline, path,
    },
    report::{Disk, HardwareReport},
    wipe::SignedCertificate,
};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::PathBuf,
    pin::Pin,
};
use uuid::Uuid;

pub struct Hands;

impl workflow::Hands for Hands {
    fn perform(&self, machine: Machine, act: Act) -> Pin<Box<dyn Future<Output = ActResult> + Send + '_>> {
        Box::pin(async move {
            match act {
                Act::Preflight if profile_of(&machine).starts_with("waits") => {
                    ActResult::Failed { reason: "image debian-12: it is not fetched yet".into() }
                }
                Act::Preflight => ActResult::Preflighted { target: Box::new(target_of(&machine)) },
                Act::ChooseDisks => {
                    let disks = machine.report.iter().flat_map(|r| &r.disks).map(Disk::identity).collect();
                    ActResult::DisksChosen { licence: LicenceId(Uuid::new_v4()), disks }
                }
                Act::NetworkBoot | Act::PowerOff | Act::Leave => ActResult::Done,
                Act::Revoke => {
                    let minted_for = dead(&machine).map(|owed| owed.minted_for.clone()).collect();
                    ActResult::Revoked { minted_for }
                }
                Act::AwaitReady => ActResult::Failed { reason: "nobody looks".into() },
            }
        })
    }
}

fn profile_of(machine: &Machine) -> &str {
    machine.workflow.as_ref().and_then(|w| w.profile.as_deref()).unwrap_or_default()
}

/// As the profile's name says: `netboot…` or `by-url…`, with `-tls` by HTTPS only, with `-own` from its own address only.
fn target_of(machine: &Machine) -> Target {
    let name = machine.workflow.as_ref().and_then(|w| w.profile.clone()).unwrap_or_default();
    let mut target = target();
    if !name.starts_with("netboot") && !name.starts_with("by-url") {
        return target;
    }
    let (tls, own_address) = (name.contains("-tls"), name.contains("-own"));
    target.by_url = Some(ByUrl { tls, own_address, files: vec!["user-data".into()] });
    let ignition = name.starts_with("netboot") || name.contains("-ignition");
    let os = if ignition { "flatcar" } else { "cloud-init" };
    target.profile =
        json!({ "name": name, "image": "debian-12", "os": os, "template": "debian", "role": "worker" });
    if let Some(kernel) = target.image.take_if(|_| name.starts_with("netboot")) {
        let initramfs = vec![Image { url: "/images/initramfs".into(), ..kernel.clone() }];
        target.netboot =
            Some(Netboot { kernel, initramfs, rootfs: None, arguments: vec!["console=ttyS0".into()] });
    }
    target
}

fn target() -> Target {
    Target {
        image: Some(Image {
            name: "debian".into(),
            url: "/images/x".into(),
            format: ImageFormat::Raw,
            sha256: "ab".repeat(32),
            size_bytes: 10,
            raw_sha256: None,
            raw_size_bytes: None,
            chunks: Some(Chunks { root: "cd".repeat(32), base: "/images".into(), caches: vec![] }),
        }),
        place: Some(Place { partition: PartitionSelector::Number(1), directory: "/seed".into() }),
        netboot: None,
        by_url: None,
        wipe: WipeMethod::Metadata,
        read_back: None,
        token_ttl_ms: 3_600_000,
        join: None,
        ready_deadline_ms: 600_000,
        kernel_arguments: vec!["quiet".into()],
        profile: json!({}),
    }
}

pub struct PlayedContent {
    pub folder: PathBuf,
}

fn sha(text: &str) -> String {
    provisioner_wire::ids::hex(&Sha256::digest(text))
}

/// The token that `render` mints for a claim.
pub fn token_of(boot_hash: &str) -> String {
    format!("canary-token.{}", &boot_hash[..16])
}

/// A config that writes the token to a file.
fn ignition(token: &str) -> String {
    let source = format!("data:,{token}");
    let file = json!({ "path": "/etc/node/token", "mode": 0o600, "contents": { "source": source } });
    json!({ "ignition": { "version": "3.3.0" }, "storage": { "files": [file] } }).to_string()
}

impl Content for PlayedContent {
    fn certify(&self, certificate: String) -> Result<SignedCertificate, String> {
        Ok(SignedCertificate { certificate, signature: "played".into(), public_key: "played".into() })
    }

    fn image_waits(&self, declared: &ImageDeclaration) -> Option<String> {
        (declared.name.as_str() == "debian-12").then(|| "fetching, 34 %, 12 MB/s, about 3 min".to_owned())
    }

    fn piece(&self, _: Piece, sha256: &Sha) -> Option<PathBuf> {
        Some(self.folder.join(format!("chunk-{sha256}"))).filter(|file| file.exists())
    }

    fn check(&self, declared: &Declared, change: Change<'_>) -> Result<Checked, Vec<Problem>> {
        checked::check(declared, change, &BTreeSet::from(["debian".parse().unwrap()]), None)
    }

    fn facts(&self, spec: &Value) -> Facts {
        checked::facts(spec)
    }

    fn preflight<'a>(
        &'a self,
        _: &'a Machine,
        profile: Option<&'a str>,
    ) -> Answer<'a, Result<String, Vec<Problem>>> {
        Box::pin(async move {
            match profile.unwrap_or("debian") {
                "broken" => Err(vec![Problem {
                    place: "machine-config/broken/user-data:3:7".into(),
                    what: "node.gateway has no value".into(),
                }]),
                name => Ok(name.to_owned()),
            }
        })
    }

    fn render<'a>(&'a self, machine: &'a Machine, now: Time) -> Answer<'a, Result<Rendered, Unrendered>> {
        Box::pin(async move {
            let profile = machine.workflow.as_ref().and_then(|w| w.profile.as_deref());
            if profile == Some("unmintable") {
                return Err("the issuer does not answer".into());
            }
            if profile == Some("netboot-down") && !self.folder.join("issuer-is-up").exists() {
                return Err(Unrendered::Later("the issuer does not answer".to_owned()));
            }
            if profile == Some("netboot-slow") {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
            let token = token_of(machine.minted_for().unwrap());
            let expires =
                machine.token.as_ref().map_or(now + std::time::Duration::from_secs(3600), |t| t.expires);
            let contents = match profile {
                Some(name) if name.contains("-ignition") => ignition(&token),
                _ => token.clone(),
            };
            let file = ConfigFile { name: "user-data".into(), contents, mode: 0o600 };
            Ok(Rendered {
                config: Config { files: vec![file] },
                token_hash: sha(&token),
                token_expires: expires,
                config_hash: sha("config"),
            })
        })
    }

    fn image_file<'a>(&'a self, sha256: &'a str) -> Answer<'a, Option<PathBuf>> {
        Box::pin(async move { Some(self.folder.join(sha256)).filter(|f| f.exists()) })
    }

    fn seal(&self, _: &str, _: &str, secret: &SecretString) -> Result<Vec<u8>, String> {
        Ok(secret.expose_secret().bytes().map(|b| b ^ 0x55).collect())
    }
}

/// What runs on the machine: its boot id from the kernel command line, its fresh key, its channel.
pub struct Agent {
    http: reqwest::Client,
    base: String,
    pub boot: BootId,
    key: PrivateKey,
    server_key: String,
    pub channel: Channel,
}

impl Agent {
    pub fn from_script(server: &Server, script: &str) -> Self {
        let line =
            script.lines().find_map(|l| l.strip_prefix("kernel ")).unwrap_or_else(|| panic!("{script}"));
        let words: BTreeMap<&str, &str> = line.split(' ').filter_map(|w| w.split_once('=')).collect();
        let boot: BootId = words[cmdline::BOOT_ID].parse().unwrap();
        Self::new(&server.http, words[cmdline::SERVER], words[cmdline::SERVER_KEY], boot)
    }

    fn new(http: &reqwest::Client, base: &str, server_key: &str, boot: BootId) -> Self {
        let key = PrivateKey::generate().unwrap();
        let channel = Channel::new(&key, server_key, &boot.hash()).unwrap();
        Self { http: http.clone(), base: base.into(), boot, key, server_key: server_key.into(), channel }
    }

    /// Another program that has read the same boot id, with a key of its own.
    pub fn twin(&self) -> Self {
        Self::new(&self.http, &self.base, &self.server_key, self.boot.clone())
    }

    pub async fn claim(&self) -> (StatusCode, Value) {
        self.claim_with(self.channel.proof(&self.boot)).await
    }

    pub async fn claim_with(&self, proof: String) -> (StatusCode, Value) {
        let (public_key, report) = (self.key.public(), report());
        let claim = Claim { boot_id: self.boot.clone(), public_key, proof, report, evidence: None };
        let request = self.http.post(format!("{}{}", self.base, path::CLAIM)).json(&claim);
        answer(request.send().await.unwrap()).await
    }

    pub async fn say<T: Serialize>(&self, path: &str, body: &T) -> (StatusCode, Value) {
        let body = serde_json::to_vec(body).unwrap();
        let authorization = self.channel.authorization("POST", path, &body);
        self.say_as(path, body, &authorization).await
    }

    pub async fn say_as(&self, path: &str, body: Vec<u8>, authorization: &str) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).header(AUTHORIZATION, authorization);
        answer(request.body(body).send().await.unwrap()).await
    }

    /// Asks until there is an order other than to wait.
    pub async fn order(&self) -> Value {
        for _ in 0..200 {
            let (status, order) = self.say(path::ORDER, &json!({})).await;
            assert_eq!(status, 200, "{order}");
            if order["order"] != "wait" {
                return order;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("only waits")
    }

    pub async fn done(&self, generation: u64, step: &str) -> (StatusCode, Value) {
        let body = json!({ "generation": generation, "step": step, "outcome": { "done": {} } });
        self.say(path::RESULT, &body).await
    }

    /// Spends the licence of `order` on the disk it names.
    pub async fn spend(&self, generation: u64, order: &Value) -> (StatusCode, Value) {
        let body = json!({ "generation": generation, "licence": order["licence"], "disks": [order["disk"]] });
        self.say(path::LICENCE, &body).await
    }

    pub async fn config(&self, name: &str, generation: u64) -> (StatusCode, Result<Config, Value>) {
        let (status, value) = self.say(path::CONFIG, &json!({ "generation": generation })).await;
        if status != 200 {
            return (status, Err(value));
        }
        let sealed: SealedConfig = serde_json::from_value(value).unwrap();
        let context = config_context(&name.parse().unwrap(), provisioner_wire::Generation(generation));
        let opened = self.channel.open(&sealed.sealed, &context).unwrap();
        (status, Ok(serde_json::from_slice(&opened).unwrap()))
    }

    /// Claims, writes the image; the config is next.
    pub async fn write(&self) {
        let (status, value) = self.claim().await;
        assert_eq!(status, 200, "{value}");
        let order = self.order().await;
        assert_eq!(order["order"], "write-image", "{order}");
        let (status, value) = self.spend(1, &order).await;
        assert_eq!((status, &value), (StatusCode::OK, &json!({ "resume": false })));
        assert_eq!(self.done(1, "write-image").await.0, 200);
        assert_eq!(self.order().await["order"], "place-config");
    }
}

async fn answer(response: reqwest::Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub fn report() -> HardwareReport {
    let disk =
        Disk { name: "vda".into(), serial: Some("DISK1".into()), size_bytes: 1 << 30, ..Disk::default() };
    HardwareReport { disks: vec![disk], boot_mac: MAC.parse().ok(), ..HardwareReport::default() }
}
