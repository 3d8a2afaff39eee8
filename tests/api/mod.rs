//! The real routes over real HTTP, with the real engine and an SQLite file; only the BMC and the renderer
//! are played.

mod agents;
mod boots;
mod cli;
mod firmware_tls;
mod guarded;
mod played;
mod records;
mod story;

use played::{Agent, Hands, PlayedContent};
use provisioner::{
    clock::Clock,
    http::{
        self, App, Parts, Settings, auth, fleet::Fleet, listen::Bound, live::Live, script::Builder,
        short_way::ShortWay, tls,
    },
    machine::{Machine, Time},
    store::{self, Db},
    workflow::Engine,
};
use provisioner_wire::{Mac, channel::PrivateKey, machine::Phase};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// One whole server, on free ports of the loopback.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub plain: String,
    pub tls: String,
    pub engine: Engine,
    pub admin: String,
    pub http: reqwest::Client,
    /// Added to the system's clock, milliseconds.
    later: Arc<AtomicI64>,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::serving(settings, Fleet::default()).await
    }

    pub async fn serving(settings: Settings, fleet: Fleet) -> Self {
        let pace = fleet.pace.clone();
        tokio::spawn(async move { pace.run().await });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("provisioner.db")).await.unwrap();
        let later = Arc::new(AtomicI64::new(0));
        let (system, offset) = (Clock::system(), later.clone());
        let clock = Clock::new(move || Time(system.now().0 + offset.load(Ordering::SeqCst)));
        let admin = auth::first_admin_token(&db, folder.path(), clock.now()).await.unwrap().unwrap();
        let engine = Engine::new(db, clock.clone());
        tokio::spawn(engine.clone().run(Arc::new(Hands)));
        let (plain, secure) = (
            Bound::new("127.0.0.1:0".parse().unwrap()).unwrap(),
            Bound::new("127.0.0.1:0".parse().unwrap()).unwrap(),
        );
        let (plain_url, tls_url) =
            (format!("http://{}", plain.address()), format!("https://{}", secure.address()));
        let builder = Builder::new(&plain_url).unwrap();
        let app = App::new(Parts {
            engine: engine.clone(),
            key: PrivateKey::from_bytes([5; 32]),
            content: Box::new(PlayedContent { folder: folder.path().to_owned() }),
            scripts: Box::new(move |script| builder.text(script)),
            live: Live::default(),
            boot_plane: Arc::new(http::boot_plane::NoBootPlane::default()),
            fleet,
            settings: Settings { plain_url: plain_url.clone(), ..settings },
        });
        let config = tls::server_config(folder.path(), "127.0.0.1", clock.now()).unwrap();
        let routes = http::plain(&app, axum::Router::new());
        let short_way = ShortWay::new(&app);
        tokio::spawn(plain.plain_with_chunks(routes, short_way, std::future::pending()));
        tokio::spawn(secure.tls(config, http::tls(&app, None), std::future::pending()));
        let ca = std::fs::read(tls::ca_file(folder.path())).unwrap();
        let http = reqwest::Client::builder()
            .add_root_certificate(reqwest::Certificate::from_pem(&ca).unwrap())
            .tls_built_in_root_certs(false)
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self { folder, plain: plain_url, tls: tls_url, engine, admin, http, later }
    }

    pub fn db(&self) -> &Db {
        self.engine.db()
    }

    pub fn pass(&self, span: Duration) {
        self.later.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// One API request as the admin: status and JSON (or text as a JSON string).
    pub async fn api(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.tls)).bearer_auth(&self.admin);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, value) = self.api(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    pub async fn post(&self, path: &str) -> (StatusCode, Value) {
        self.api(Method::POST, path, Some(json!({}))).await
    }

    /// Declares `name` with one NIC, a BMC and a profile.
    pub async fn declare(&self, name: &str, mac: &str) -> Value {
        self.declare_profile().await;
        let (status, value) =
            self.api(Method::PUT, &format!("/api/v1/machines/{name}"), Some(hardware(name, mac))).await;
        assert!(status.is_success(), "{value}");
        value
    }

    /// Declares the image and the profile that [`hardware`] names.
    pub async fn declare_profile(&self) {
        for (path, record) in [("images/debian-12", image()), ("profiles/debian", profile())] {
            let (status, value) = self.api(Method::PUT, &format!("/api/v1/{path}"), Some(record)).await;
            assert_eq!(status, 200, "{value}");
        }
    }

    /// Declares a machine and begins its provisioning; it is powered and waits for its script.
    pub async fn powered(&self, name: &str, mac: &str) {
        self.declare(name, mac).await;
        let (status, value) = self.post(&format!("/api/v1/machines/{name}/provision")).await;
        assert_eq!(status, 200, "{value}");
        self.until(name, |m| m.phase == Phase::Powering).await;
    }

    pub async fn machine(&self, name: &str) -> Option<Machine> {
        let mut tx = self.db().read().await.unwrap();
        store::machines::by_name(&mut tx, &name.parse().unwrap()).await.unwrap()
    }

    /// Waits until the machine is as wanted; fails after ten seconds with what it is.
    pub async fn until(&self, name: &str, wanted: impl Fn(&Machine) -> bool) -> Machine {
        let mut newest = self.engine.newest();
        for _ in 0..100 {
            if let Some(machine) = self.machine(name).await.filter(|m| wanted(m)) {
                return machine;
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), newest.changed()).await;
        }
        panic!("{:#?}", self.machine(name).await);
    }

    pub async fn script(&self, mac: &str) -> String {
        let response = self.http.get(format!("{}/boot/{mac}.ipxe", self.plain)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }

    /// Boots the machine from the network: its agent, not claimed yet.
    pub async fn boot(&self, mac: &str) -> Agent {
        Agent::from_script(self, &self.script(mac).await)
    }

    /// How many alarms stand in the machine's trail.
    pub async fn alarms(&self, name: &str) -> usize {
        let trail = self.get(&format!("/api/v1/machines/{name}/audit")).await;
        trail.as_array().unwrap().iter().filter(|row| row["kind"] == "alarm").count()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub const MAC: &str = "52:54:00:00:00:01";

pub fn hardware(name: &str, mac: &str) -> Value {
    json!({
        "name": name,
        "nics": [{ "mac": mac }],
        "bmc": { "url": format!("https://{name}.bmc.example"), "username": "admin", "password": { "value": "canary-bmc-password" } },
        "labels": { "rack": "a1" },
        "profile": "debian",
    })
}

pub fn image() -> Value {
    json!({ "name": "debian-12", "source": { "file": "d.raw" }, "format": "raw", "sha256": "ab".repeat(32) })
}

pub fn profile() -> Value {
    json!({
        "name": "debian", "image": "debian-12", "os": "cloud-init", "template": "debian", "role": "worker",
        "place": { "partition": { "label": "CIDATA" }, "directory": "/" },
    })
}

pub fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}
