//! Every route of the server on one screen. In: requests of iPXE, agents, nodes, operators. Out: events for the engine
//! and answers from the store; nothing here changes a machine by itself.

pub mod agent;
pub mod api;
pub mod auth;
pub mod boot;
pub mod boot_files;
pub mod boot_plane;
pub mod by_hash;
pub mod certificates;
pub mod checked;
pub mod config_url;
pub mod content;
pub mod error;
pub mod fair;
pub mod firmware_tls;
pub mod fleet;
pub mod grub;
pub mod hot;
pub mod images;
pub mod listen;
pub mod live;
pub mod minted;
pub mod netboot;
pub mod node;
pub mod pace;
pub mod proof;
pub mod script;
pub mod script6;
pub mod short_way;
pub mod tls;

use crate::{store::Db, workflow::Engine};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware,
    routing::{get, post},
};
use boot_plane::BootPlane;
use content::Content;
use fleet::Fleet;
use live::Live;
use provisioner_wire::{channel::PrivateKey, order::path};
use std::{sync::Arc, time::Duration};
use tower_http::{timeout::TimeoutLayer, trace::TraceLayer};

/// From a request's head to its answer's head; a body that trickles in ends here. Bodies of answers may take longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Where a node fetches its config; the second part is a secret.
const CONFIG_URL: &str = "/config/{machine}/{capability}/{file}";

/// What the routes share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>, Option<Arc<Reached>>);

/// How machines reach one listener, where it is otherwise than usual.
struct Reached {
    settings: Settings,
    scripts: Box<boot::Scripts>,
}

/// What `serve` brings together.
pub struct Parts {
    pub engine: Engine,
    /// The server's lasting X25519 key; agents are told its public half by their boot script.
    pub key: PrivateKey,
    pub content: Box<dyn Content>,
    /// Makes iPXE scripts.
    pub scripts: Box<boot::Scripts>,
    pub live: Live,
    pub boot_plane: Arc<dyn BootPlane>,
    pub fleet: Fleet,
    pub settings: Settings,
}

/// Values of the configuration that answers are made of.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Base URL of the plain listener as machines reach it.
    pub plain_url: String,
    /// The same of the TLS listener.
    pub tls_url: String,
    /// The authority that the TLS listener's certificate follows from.
    pub ca_pem: String,
    pub discovery: bool,
    /// Added to the agent's kernel command line.
    pub kernel_arguments: Vec<String>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl App {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts), None)
    }

    /// The same for a listener that machines reach by other URLs.
    #[must_use]
    pub fn reached_by(&self, settings: Settings, scripts: Box<boot::Scripts>) -> Self {
        Self(self.0.clone(), Some(Arc::new(Reached { settings, scripts })))
    }

    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub fn db(&self) -> &Db {
        self.0.engine.db()
    }

    pub fn key(&self) -> &PrivateKey {
        &self.0.key
    }

    pub fn content(&self) -> &dyn Content {
        &*self.0.content
    }

    pub fn scripts(&self) -> &boot::Scripts {
        self.1.as_ref().map_or(&*self.0.scripts, |reached| &*reached.scripts)
    }

    pub fn live(&self) -> &Live {
        &self.0.live
    }

    pub fn boot_plane(&self) -> &Arc<dyn BootPlane> {
        &self.0.boot_plane
    }

    pub fn fleet(&self) -> &Fleet {
        &self.0.fleet
    }

    pub fn settings(&self) -> &Settings {
        self.1.as_ref().map_or(&self.0.settings, |reached| &reached.settings)
    }
}

/// The plain listener: what firmware, iPXE and agents can speak. `boot_files` serves the kernel, the initramfs and
/// the iPXE binaries. The API answers here only to this host itself.
pub fn plain(app: &App, boot_files: Router) -> Router {
    let witness = middleware::from_fn_with_state(app.boot_plane().clone(), boot_plane::witness);
    let boot = Router::new()
        .route("/boot/{file}", get(boot::script).head(boot::head))
        .route(netboot::AUTHORITY, get(netboot::authority));
    let routes = Router::new()
        .route(path::CLAIM, post(agent::claim))
        .route(path::ORDER, post(agent::order))
        .route(path::LICENCE, post(agent::licence))
        .route(path::CONFIG, post(agent::config))
        .route(path::RESULT, post(agent::result))
        .route(path::PROGRESS, post(agent::progress))
        .route(path::CHALLENGE, post(proof::challenge))
        .route(path::READ_BACK, post(proof::read_back))
        .route(CONFIG_URL, get(config_url::by_plain).head(config_url::head))
        .route("/images/{sha256}", get(images::image))
        .route("/images/manifests/{sha256}", get(images::manifest))
        .route("/images/chunks/{sha256}", get(images::chunk));
    let boot = boot.with_state(app.clone()).merge(boot_files).layer(witness);
    let routes = routes.merge(common()).with_state(app.clone()).merge(boot);
    finish(routes.merge(listen::loopback_only(api::routes(app))))
}

/// The TLS listener: operators, and nodes that phone home. With `boot_files` also machines whose firmware knows this
/// server's authority.
pub fn tls(app: &App, boot_files: Option<Router>) -> Router {
    let by_url = Router::new().route(CONFIG_URL, get(config_url::by_tls).head(config_url::head));
    let mut routes = common().merge(by_url).with_state(app.clone());
    if let Some(files) = boot_files {
        let witness = middleware::from_fn_with_state(app.boot_plane().clone(), boot_plane::witness);
        let script = get(boot::script_by_tls).head(boot::head);
        let boot = Router::new().route("/boot/{file}", script).with_state(app.clone());
        routes = routes.merge(boot.merge(files).layer(witness));
    }
    finish(routes.merge(api::routes(app)))
}

fn common() -> Router<App> {
    Router::new().route("/node/v1/{machine}/ready", post(node::ready)).route("/healthz", get(healthz))
}

/// Alive, and the database answers.
async fn healthz(axum::extract::State(app): axum::extract::State<App>) -> error::Result<&'static str> {
    crate::store::events::last(&mut app.db().read().await?).await?;
    Ok("ok\n")
}

/// As the trace layer's own, without the secret that stands in the path of a one-shot URL.
fn span(request: &Request) -> tracing::Span {
    let path = request.uri().path();
    let path = if path.starts_with("/config/") { "/config/…" } else { path };
    tracing::debug_span!("request", method = %request.method(), path, version = ?request.version())
}

fn finish(routes: Router) -> Router {
    routes
        .layer(DefaultBodyLimit::max(error::BODY_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, ANSWER_WITHIN))
        .layer(TraceLayer::new_for_http().make_span_with(span))
}
