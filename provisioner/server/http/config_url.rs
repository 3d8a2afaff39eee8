//! `GET /config/{machine}/{capability}/{file}`: a node fetches its config by itself, once (design.md §7).
//!
//! The first request for a file wins it; only then is the token minted and the config rendered. A second request for the
//! same file means that somebody else may have it: 410, an alarm, and what the first got is revoked. A request counts from
//! when the engine has recorded it, before the first byte of the answer: a connection that is cut in between cannot be told
//! from one that was read to its end by somebody else. Refusals that give out nothing do not count.

use super::{
    App, api,
    boot::Door,
    content::{Rendered, Unrendered},
    error::{ApiError, Path, Result, accepted},
    minted,
};
use crate::{
    inventory::Hardware,
    machine::{Event, Machine, Refusal, state::ByUrl},
    os::pointer::WHOLE,
    store,
};
use axum::{
    extract::{ConnectInfo, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use provisioner_wire::{
    BootId, MachineName,
    ids::hex,
    machine::Phase,
    order::{Config, ConfigFile},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::time::Instant;

/// From the making of a URL that stands in a boot script to its first fetch: kernel, initramfs and root file system come
/// in between.
pub const NETBOOT_URL_LIVES: Duration = crate::machine::wants::NETBOOT_WITHIN;

/// Ignition and cloud-init wait at least so long for an answer.
const ISSUER_PATIENCE: Duration = Duration::from_secs(6);
const ISSUER_PAUSE: Duration = Duration::from_secs(3);

type Named = Path<(String, String, String)>;
type Peer = ConnectInfo<SocketAddr>;

/// On the plain listener: only for profiles that say so.
pub async fn by_plain(State(app): State<App>, peer: Peer, named: Named) -> Result<Response> {
    fetch(&app, peer, named, Door::Plain).await
}

/// On the TLS listener.
pub async fn by_tls(State(app): State<App>, peer: Peer, named: Named) -> Result<Response> {
    fetch(&app, peer, named, Door::Tls).await
}

/// `HEAD`: a look would be a fetch, so there is none.
pub async fn head() -> ApiError {
    ApiError::Method(axum::http::Method::HEAD)
}

async fn fetch(app: &App, ConnectInfo(peer): Peer, Path(named): Named, door: Door) -> Result<Response> {
    let (name, capability, file) = named;
    let gone = || ApiError::Gone("this address has been used, or never was one".to_owned());
    let name: MachineName = name.parse().map_err(|_| gone())?;
    let url_hash = capability.parse::<BootId>().map_err(|_| gone())?.hash();
    let machine = store::machines::by_name(&mut app.db().read().await?, &name).await?;
    let knows = |m: &Machine| m.config_url.as_ref().is_some_and(|url| url.knows(&url_hash));
    let machine = machine.filter(knows).ok_or_else(gone)?;
    let by_url = machine.target().and_then(|t| t.by_url.clone()).ok_or_else(gone)?;
    admit(app, &machine, &by_url, peer.ip().to_canonical(), door).await?;
    match known(&by_url, &file) {
        Known::Yes => {}
        // cloud-init asks for it always, and waits where it is missing.
        Known::Empty => return Ok(text(String::new())),
        Known::No => return Err(ApiError::NotFound("this config has no such file".to_owned())),
    }
    let (won, fetch) = win(app, &machine, &url_hash, &file).await?;
    let config = render(app, &won, &url_hash, (&file, fetch)).await?;
    answer(&config, &file)
}

/// Who may ask at all. A refusal here gives out nothing and uses up nothing, so that nobody can burn a URL from afar.
async fn admit(app: &App, machine: &Machine, by_url: &ByUrl, peer: IpAddr, door: Door) -> Result<()> {
    if by_url.tls && door != Door::Tls {
        return Err(ApiError::Refused("this config is given out by HTTPS only".to_owned()));
    }
    if by_url.own_address && !is_own(app, machine, peer).await? {
        if app.live().may_alarm(machine.id, app.engine().now()) {
            let what = format!("ALARM: {peer} asked for its config, and is not an address of this machine");
            tracing::warn!(machine = %machine.name, %peer, "somebody else knows the URL of its config");
            app.engine().record(machine.id, &Event::Heard { what }).await?;
        }
        return Err(ApiError::Refused("this config is for another address".to_owned()));
    }
    Ok(())
}

/// Whether `peer` is an address that the machine has by its declaration, or by a live lease of ours. Where none of the
/// address family is known, any may be its own.
async fn is_own(app: &App, machine: &Machine, peer: IpAddr) -> Result<bool> {
    let mut tx = app.db().read().await?;
    let declared: Option<Hardware> =
        store::declared::get(&mut tx, store::declared::Kind::Machine, machine.name.as_str()).await?;
    let nics = declared.iter().flat_map(|hardware| &hardware.nics);
    let mut own: Vec<IpAddr> = match peer {
        IpAddr::V4(_) => nics.filter_map(|nic| nic.address).map(|net| net.addr().into()).collect(),
        IpAddr::V6(_) => nics.filter_map(|nic| nic.address6).map(|net| net.addr().into()).collect(),
    };
    if peer.is_ipv4() {
        let macs: Vec<String> =
            store::machines::macs(&mut tx, machine.id).await?.iter().map(ToString::to_string).collect();
        let now = app.engine().now().0;
        let leases = store::leases::all(&mut tx).await?;
        let live = leases.into_iter().filter(|l| l.state == "bound" && l.expires_at > now);
        own.extend(live.filter(|l| macs.contains(&l.mac)).filter_map(|l| l.ip.parse::<IpAddr>().ok()));
    }
    Ok(own.is_empty() || own.contains(&peer))
}

enum Known {
    Yes,
    Empty,
    No,
}

/// What is not a file of this config uses up nothing.
fn known(by_url: &ByUrl, file: &str) -> Known {
    match by_url.files.iter().any(|known| known == file) || (file == WHOLE && by_url.files.len() == 1) {
        true => Known::Yes,
        false if file == "vendor-data" => Known::Empty,
        false => Known::No,
    }
}

/// The machine, where this request is the one that has the file; and the request's own name.
async fn win(app: &App, machine: &Machine, url_hash: &str, file: &str) -> Result<(Machine, String)> {
    // What can only be another alarm goes into the trail now and then: a node may ask for ever.
    if cannot_win(machine, url_hash) && !app.live().may_alarm(machine.id, app.engine().now()) {
        return Err(ApiError::Gone("this address has been used".to_owned()));
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal("no random numbers from the system"))?;
    let fetch = hex(&bytes);
    let event = Event::ConfigAsked {
        url_hash: url_hash.to_owned(),
        generation: machine.generation,
        file: file.to_owned(),
        fetch: fetch.clone(),
    };
    accepted(app.engine().submit(machine.id, &event).await?).map_err(gone_for)?;
    let now = store::machines::find(&mut app.db().read().await?, machine.id).await?;
    let won = |m: &Machine| {
        let url = m.config_url.as_ref().filter(|url| url.hash == url_hash);
        m.phase == Phase::Rebooting && url.and_then(|url| url.fetched.get(file)) == Some(&fetch)
    };
    let Some(now) = now.filter(won) else {
        tracing::warn!(machine = %machine.name, file, "its config was fetched a second time: revoked");
        return Err(ApiError::Gone("this address has been used".to_owned()));
    };
    Ok((now, fetch))
}

/// Whether asking can neither be the first nor end anything any more.
fn cannot_win(machine: &Machine, url_hash: &str) -> bool {
    let url = machine.config_url.as_ref();
    let is_older = url.is_some_and(|url| url.hash != url_hash && url.fetched.is_empty());
    is_older || matches!(machine.phase, Phase::Installing | Phase::Ready | Phase::Failed)
}

/// Nobody learns more than that there is nothing to be had.
fn gone_for(refusal: Refusal) -> ApiError {
    tracing::info!("no config by its URL: {refusal}");
    ApiError::Gone("this address has been used".to_owned())
}

/// An issuer that is down is waited for here, as long as a client waits for an answer.
async fn with_patience(app: &App, machine: &Machine) -> Result<std::result::Result<Rendered, Unrendered>> {
    let until = Instant::now() + ISSUER_PATIENCE;
    loop {
        match minted::rendered(app, machine).await? {
            Ok(rendered) => return Ok(Ok(rendered)),
            Err(Unrendered::Later(_)) if Instant::now() < until => tokio::time::sleep(ISSUER_PAUSE).await,
            Err(unrendered) => return Ok(Err(unrendered)),
        }
    }
}

/// Mints and renders for who has won. Asked for another file of the same URL, the issuer gives the same token.
/// An issuer that does not answer is no fetch: nothing was given out.
async fn render(
    app: &App,
    machine: &Machine,
    url_hash: &str,
    (file, fetch): (&str, String),
) -> Result<Config> {
    let (boot_hash, generation) = (url_hash.to_owned(), machine.generation);
    let rendered = match with_patience(app, machine).await? {
        Ok(rendered) => rendered,
        Err(Unrendered::Later(reason)) => {
            let (url_hash, file) = (url_hash.to_owned(), file.to_owned());
            let event = Event::ConfigReturned { url_hash, generation, file, fetch };
            accepted(app.engine().submit(machine.id, &event).await?).map_err(gone_for)?;
            return Err(ApiError::Busy(reason));
        }
        Err(Unrendered::Never(reason)) => {
            let event = Event::ConfigRefused { boot_hash, generation, reason: reason.clone() };
            accepted(app.engine().submit(machine.id, &event).await?).map_err(gone_for)?;
            return Err(ApiError::internal(format!(
                "{}: the config could not be made: {reason}",
                machine.name
            )));
        }
    };
    let event = Event::ConfigRendered {
        boot_hash,
        generation,
        token_hash: rendered.token_hash,
        token_expires: rendered.token_expires,
        config_hash: rendered.config_hash,
    };
    // Refused where somebody else has asked meanwhile, or the workflow was cancelled: then nothing leaves.
    accepted(app.engine().submit(machine.id, &event).await?).map_err(gone_for)?;
    api::configs::keep(app, machine).await;
    Ok(rendered.config)
}

fn answer(config: &Config, file: &str) -> Result<Response> {
    let contents = match (config.files.as_slice(), file) {
        ([one], WHOLE) => Some(one.contents.clone()),
        (files, _) => files.iter().find(|f| f.name == file).map(|f: &ConfigFile| f.contents.clone()),
    };
    // The template was changed under a running workflow.
    let contents =
        contents.ok_or_else(|| ApiError::NotFound("this config has no such file now".to_owned()))?;
    Ok(text(contents))
}

fn text(contents: String) -> Response {
    let kind =
        if contents.trim_start().starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, contents).into_response()
}
