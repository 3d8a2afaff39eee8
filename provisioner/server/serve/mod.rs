//! Wires the rooms and runs the server: the only place that knows them all.

mod boot_plane;
mod boot_plane6;
mod certificates;
mod content;
mod directory;
mod grub;
mod hardware;
mod hearing;
mod images;
mod lease_journal;
mod lease_journal6;
mod recorder;
mod signs;
mod what_if;

pub use hardware::check;

use crate::{
    bmc::{governor::Policy, redfish::RedfishDoor, visit::Visits},
    clock::Clock,
    cluster::Clusters,
    config::{self, Config, Database},
    http::{
        self, App, Parts, Settings,
        boot_files::BootFiles,
        fair::{Limits, Rate},
        firmware_tls,
        fleet::{Choices, Fleet, HOT_BYTES, NearCache},
        listen::Bound,
        live::Live,
        script,
        short_way::ShortWay,
        tls,
    },
    image::{Images, trust::Trust},
    inventory::Size,
    os::{self, Site},
    reach::Reach,
    render::Templates,
    secret::{KeySource, Keyring},
    store::Db,
    workflow::{Engine, perform::Performer},
};
use anyhow::{Context, Result};
use boot_plane::Plane;
use provisioner_wire::{MachineName, channel::PrivateKey};
use std::{fs, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};

/// What the agent channel's key is derived from the keyring for.
const AGENT_CHANNEL: &str = "agent channel";
/// A second of commits is moved quickly.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// Runs the server until it is told to end (SIGINT, SIGTERM) or a part of it dies.
pub fn run(file: &Path) -> Result<()> {
    let config = Config::read(file)?;
    start_logging();
    // The ring provider first thing: rustls has none of its own here.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(config))
}

/// `PROVISIONER_LOG` as in tracing's env filter; JSON lines where standard error is no terminal.
pub fn start_logging() {
    use std::io::IsTerminal;
    let filter = std::env::var("PROVISIONER_LOG").unwrap_or_else(|_| "info".to_owned());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { builder.init() } else { builder.json().init() }
}

/// What the parts share, opened in the order of their needs.
struct House {
    config: Config,
    clock: Clock,
    db: Db,
    keyring: Arc<Keyring>,
    templates: Arc<Templates>,
    images: Arc<Images>,
    clusters: Arc<Clusters>,
    site: Arc<dyn Fn(&MachineName) -> Site + Send + Sync>,
}

async fn serve(config: Config) -> Result<()> {
    let clock = Clock::system();
    let plain = Bound::new(config.http.listen)?;
    let secure = Bound::new(config.http.tls_listen)?;
    make_private(&config.data_dir)?;
    let certify = if config.http.firmware_tls { firmware_tls::server_config } else { tls::server_config };
    let certificates = certify(&config.data_dir, &config.http.public_host, clock.now())?;
    let files = boot_files(&config.boot)?;
    let house = open(config, clock, &plain, &secure).await?;
    let engine = Engine::new(house.db.clone(), house.clock.clone());
    hardware::declare_all(&house, &engine).await?;
    print_first_token(&house).await?;
    let (plane, telling) = Plane::open(&house, &files, plain.address(), secure.address()).await?;
    let app = app(&house, &engine, &plain, &secure, plane.clone())?;

    let (stop, stopped) = watch::channel(false);
    let mut parts = JoinSet::new();
    let hands = Arc::new(performer(&house));
    let running = engine.clone();
    parts.spawn(async move { running.run(hands).await.context("the engine") });
    let db = house.db.clone();
    parts.spawn(async move { keep_log_short(&db).await });
    let ending = until(stopped.clone());
    let routes = boot_plane6::told_address(http::plain(&app, files.router()), &house.config);
    let (plain_address, secure_address) = (plain.address(), secure.address());
    let short_way = ShortWay::new(&app);
    parts
        .spawn(async move { plain.plain_with_chunks(routes, short_way, ending).await.context("plain HTTP") });
    boot_plane6::listen(&mut parts, &house, &app, &files, plain_address, &stopped)?;
    let pace = app.fleet().pace.clone();
    parts.spawn(async move {
        pace.run().await;
        Ok(())
    });
    let (ending, routes) =
        (until(stopped), http::tls(&app, house.config.http.firmware_tls.then(|| files.router())));
    parts.spawn(async move { secure.tls(certificates, routes, ending).await.context("HTTPS") });
    let taking_in = images::take_in_all(house.db.clone(), house.images.clone(), house.clock.clone());
    parts.spawn(async move { taking_in.await.context("the images") });
    let approving = house.clusters.clone();
    parts.spawn(async move { approving.approve_all().await.context("the approver of certificates") });
    plane.start(&mut parts, &house, &app, &files, (telling, plain_address)).await?;
    tracing::info!(http = %plain_address, https = %secure_address, data = %house.config.data_dir.display(), "ready");
    let ended = tokio::select! {
        signal = signal() => signal,
        // A dead part must not look alive: the process ends with it.
        part = parts.join_next() => ended_by_itself(part),
    };
    stop.send_replace(true);
    parts.abort_all();
    house.db.close().await;
    ended
}

/// For ever. An error costs nothing but time: the log grows until a commit moves it.
async fn keep_log_short(db: &Db) -> Result<()> {
    loop {
        tokio::time::sleep(CHECKPOINT_EVERY).await;
        if let Err(error) = db.checkpoint().await {
            tracing::warn!("the database's log could not be shortened: {error}");
        }
    }
}

/// No part ends before it is told to: one that did without an error is an error, too.
fn ended_by_itself(part: Option<std::result::Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    if let Some(joined) = part {
        joined??;
    }
    anyhow::bail!("a part of the server has ended by itself")
}

async fn open(config: Config, clock: Clock, plain: &Bound, secure: &Bound) -> Result<House> {
    let keyring = Arc::new(Keyring::open(&config.data_dir, key_source().as_ref())?);
    let db = match &config.database {
        Database::Sqlite(file) => Db::sqlite(file).await?,
        Database::Postgres(url) => Db::postgres(secrecy::ExposeSecret::expose_secret(url)).await?,
    };
    let templates = Arc::new(os::read_templates(&config.templates_dir.join("machine-config"))?);
    let images = Arc::new(images(&config, &clock)?);
    images.needs_told_by(images::InStore(db.clone()));
    let ca_file = tls::ca_file(&config.data_dir);
    let ca_pem = fs::read_to_string(&ca_file).with_context(|| ca_file.display().to_string())?;
    let http_url = config.http.plain_url(plain.address().port());
    let https_url = config.http.tls_url(secure.address().port());
    let site = move |machine: &MachineName| Site {
        phone_home_url: format!("{https_url}/node/v1/{machine}/ready"),
        phone_home_http_url: format!("{http_url}/node/v1/{machine}/ready"),
        ca_pem: ca_pem.clone(),
    };
    let clusters = Arc::new(
        Clusters::new(db.clone(), keyring.clone(), clock.clone()).reaching(Reach::new(config.fetch.rules())),
    );
    Ok(House { config, clock, db, keyring, templates, images, clusters, site: Arc::new(site) })
}

fn images(config: &Config, clock: &Clock) -> Result<Images> {
    let (required, clock) = (config.signatures.required.clone(), clock.clone());
    let trust = Trust::new(required, &config.images_dir, &config.data_dir, Box::new(move || clock.now()))
        .reaching(config.fetch.client()?);
    let fetcher = config.fetch.fetcher(&config.registries, &config.data_dir)?;
    let images = Images::keeping_within(&config.images_dir, &config.data_dir, (&config.images).into())?;
    Ok(images.trusting(trust).fetching(fetcher))
}

/// The master key from `PROVISIONER_KEY_FILE` or `PROVISIONER_KEY`, where the site keeps it out of the data folder.
fn key_source() -> Option<KeySource> {
    let file = std::env::var_os("PROVISIONER_KEY_FILE").map(|file| KeySource::File(file.into()));
    file.or_else(|| std::env::var("PROVISIONER_KEY").ok().map(|text| KeySource::Text(text.into())))
}

fn make_private(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("the data folder {}", folder.display()))
}

async fn print_first_token(house: &House) -> Result<()> {
    let folder = &house.config.data_dir;
    if let Some(token) = http::auth::first_admin_token(&house.db, folder, house.clock.now()).await? {
        println!("first admin token (shown once; also in {}):", folder.join("admin-token").display());
        println!("{token}");
    }
    Ok(())
}

/// All that the configuration names.
fn boot_files(boot: &config::Boot) -> Result<BootFiles> {
    let mut files = BootFiles::load(&boot.ipxe_dir, &boot.kernel, &boot.initramfs)?;
    if let Some(file) = &boot.signed_agent {
        files = files.with_signed_agent(file)?;
    }
    if let Some(folder) = &boot.shim_dir {
        files = files.with_shim(folder)?;
    }
    Ok(files)
}

fn app(house: &House, engine: &Engine, plain: &Bound, secure: &Bound, boot_plane: Arc<Plane>) -> Result<App> {
    let plain_url = house.config.http.plain_url(plain.address().port());
    let tls_url = house.config.http.tls_url(secure.address().port());
    let scripts = script::Builder::new(&plain_url)
        .and_then(|scripts| scripts.with_tls(&tls_url))
        .map_err(anyhow::Error::msg)?
        .with_signed_agent(house.config.boot.signed_agent.is_some());
    let settings = Settings {
        plain_url,
        tls_url,
        ca_pem: (house.site)(&"any".parse().map_err(anyhow::Error::msg)?).ca_pem,
        discovery: house.config.discovery,
        kernel_arguments: house.config.boot.arguments.clone(),
    };
    let key = PrivateKey::from_bytes(*house.keyring.derive(AGENT_CHANNEL));
    // For `boot-assets --server-key`.
    let public = house.config.data_dir.join("agent-key.pub");
    fs::write(&public, format!("{}\n", key.public())).with_context(|| public.display().to_string())?;
    Ok(App::new(Parts {
        engine: engine.clone(),
        key,
        content: Box::new(content::Real::new(house)),
        scripts: Box::new(move |script| scripts.text(script)),
        live: Live::default(),
        boot_plane,
        fleet: fleet(&house.config.fleet),
        settings,
    }))
}

fn fleet(of: &config::Fleet) -> Fleet {
    let rate = |size: Option<Size>| size.map(|size| Rate(size.0));
    let near = |cache: &config::FleetCache| NearCache {
        url: cache.url.clone(),
        domains: cache.domains.clone(),
        networks: cache.networks.clone(),
    };
    let memory = of.memory.and_then(|size| usize::try_from(size.0).ok());
    Fleet::new(Choices {
        domain_label: of.domain_label.clone(),
        limits: Limits { server: rate(of.server_rate), domain: rate(of.domain_rate) },
        hot_bytes: memory.unwrap_or(HOT_BYTES),
        caches: of.caches.iter().map(near).collect(),
    })
}

fn performer(house: &House) -> Performer {
    let clock = house.clock.clone();
    let now = move || clock.now();
    Performer {
        db: house.db.clone(),
        clock: house.clock.clone(),
        keyring: house.keyring.clone(),
        templates: house.templates.clone(),
        images: house.images.clone(),
        site: house.site.clone(),
        clusters: house.clusters.clone(),
        visits: Visits::new(Box::new(RedfishDoor::default()), Policy::USUAL, now),
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end, too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("told to end");
    Ok(())
}
