//! The talk with agents: `/agent/v1/*` (see [`provisioner_wire::order`]). Each request but the claim is bound by its
//! HMAC to the key that won the claim of the machine's live boot id.

use super::{
    App, api,
    boot::fresh,
    certificates,
    content::Unrendered,
    error::{ApiError, accepted, from_bytes, parse},
    minted, netboot,
};
use crate::{
    machine::{Event, Machine, RefusalKind, boot::orders},
    store::{self, declared},
};
use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use provisioner_wire::{
    Generation,
    channel::{AUTHORIZATION, Channel, config_context, split_authorization},
    machine::Phase,
    order::{
        Claim, ClaimAnswer, Config, ConfigRequest, LicenceGrant, Order, Progress, Refusal, SealedConfig,
        SpendLicence, Step, StepResult,
    },
    report::clean_to,
};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Longest reason of a failed step, in characters: some list every disk of the machine.
const REASON_MAX: usize = 4000;

/// A refusal as agents read it.
#[derive(Debug)]
pub struct Refused(ApiError);

impl<E: Into<ApiError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.log();
        (self.0.status(), Json(Refusal { reason: self.0.to_string() })).into_response()
    }
}

pub(super) type Result<T> = std::result::Result<T, Refused>;

/// The claimant, and what it sent.
pub struct Spoken {
    machine: Machine,
    boot_hash: String,
    channel: Channel,
    body: Bytes,
    peer: Option<IpAddr>,
}

impl std::fmt::Debug for Spoken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spoken({}, {} bytes)", self.machine.name, self.body.len())
    }
}

impl FromRequest<App> for Spoken {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(address)| address.ip().to_canonical());
        let header = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let header = header.ok_or(ApiError::Unauthenticated)?;
        let (boot_hash, hmac) = split_authorization(&header).ok_or(ApiError::Unauthenticated)?;
        let body = Bytes::from_request(request, app).await.map_err(from_bytes)?;
        let found = store::machines::by_boot(&mut app.db().read().await?, boot_hash).await?;
        let dead =
            || ApiError::Gone("this boot id is dead: another boot or workflow has taken over".to_owned());
        let machine = found.ok_or_else(dead)?;
        let claim = machine.claim.as_ref().filter(|c| c.boot_hash == boot_hash);
        let claim = claim.ok_or(ApiError::Unauthenticated)?;
        let channel = Channel::new(app.key(), &claim.public_key, boot_hash)
            .map_err(|e| ApiError::internal(format!("{}: stored claim: {e}", machine.name)))?;
        if !channel.authorizes(hmac, method.as_str(), &path, &body) {
            return Err(ApiError::Unauthenticated.into());
        }
        Ok(Self { boot_hash: boot_hash.to_owned(), machine, channel, body, peer })
    }
}

impl Spoken {
    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) fn boot_hash(&self) -> &str {
        &self.boot_hash
    }

    pub(super) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        Ok(parse(&self.body)?)
    }

    /// Hands an event to the engine; the agent is told a stale generation as a conflict, so that it asks anew.
    pub(super) async fn submit(&self, app: &App, event: &Event) -> Result<()> {
        self.submitted(app, event).await?.map_err(|refusal| {
            Refused(match refusal.kind {
                RefusalKind::Stale => ApiError::Conflict(refusal.reason),
                _ => refusal.into(),
            })
        })
    }
}

impl Spoken {
    /// The same with the engine's own refusal.
    pub(super) async fn submitted(
        &self,
        app: &App,
        event: &Event,
    ) -> Result<std::result::Result<(), crate::machine::Refusal>> {
        Ok(accepted(app.engine().submit(self.machine.id, event).await?))
    }
}

/// `POST claim`: 200, 401 (no proof), 409 (another key has won: an alarm), 410 (dead or unknown boot id).
pub async fn claim(
    State(app): State<App>,
    body: std::result::Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<ClaimAnswer>> {
    let claim: Claim = parse(&body.map_err(from_bytes)?)?;
    let boot_hash = claim.boot_id.hash();
    let found = store::machines::by_boot(&mut app.db().read().await?, &boot_hash).await?;
    let machine = found.ok_or_else(|| ApiError::Gone("no such live boot id".to_owned()))?;
    let channel = Channel::new(app.key(), &claim.public_key, &boot_hash)
        .map_err(|e| ApiError::malformed("public_key", e.to_string()))?;
    if !channel.proof_holds(&claim.boot_id, &claim.proof) {
        return Err(ApiError::Unauthenticated.into());
    }
    let report = Box::new(claim.report.cleaned());
    let event = Event::Claimed { boot_hash, public_key: claim.public_key, report };
    accepted(app.engine().submit(machine.id, &event).await?).map_err(|refusal| {
        Refused(match refusal.kind {
            RefusalKind::Alarm => ApiError::Conflict(refusal.reason),
            _ => ApiError::Gone(refusal.reason),
        })
    })?;
    Ok(Json(ClaimAnswer { machine: machine.name, generation: machine.generation }))
}

/// `POST order`: what to do next.
pub async fn order(State(app): State<App>, spoken: Spoken) -> Result<Json<Order>> {
    let mut order = orders(&spoken.machine);
    let mut domain = None;
    if let Some(peer) = spoken.peer.filter(|_| app.fleet().wants_domains()) {
        let name = spoken.machine.name.as_str();
        let declared = declared::get(&mut app.db().read().await?, declared::Kind::Machine, name).await?;
        let labels = declared.map(|spec| app.content().facts(&spec).labels).unwrap_or_default();
        domain = app.fleet().met(peer, &labels);
    }
    app.fleet().lead_to_caches(&mut order, spoken.peer, domain.as_deref());
    Ok(Json(order))
}

/// `POST licence`: spends it. 403 where it is refused, whatever the reason: the agent must not write.
pub async fn licence(State(app): State<App>, spoken: Spoken) -> Result<Json<LicenceGrant>> {
    let asked: SpendLicence = spoken.read()?;
    let event = Event::SpendLicence {
        boot_hash: spoken.boot_hash.clone(),
        generation: asked.generation,
        licence: asked.licence,
        disks: asked.disks,
    };
    accepted(app.engine().submit(spoken.machine.id, &event).await?)
        .map_err(|refusal| ApiError::Refused(refusal.reason))?;
    let now = store::machines::find(&mut app.db().read().await?, spoken.machine.id).await?;
    let spent = now
        .and_then(|m| m.licence)
        .filter(|l| l.id == asked.licence && l.generation == asked.generation)
        .and_then(|l| l.spent)
        .ok_or_else(|| ApiError::Refused("the licence ended while it was spent".to_owned()))?;
    Ok(Json(LicenceGrant { resume: spent.times > 1 }))
}

/// `POST config`: renders for the live claim, mints its token, seals both to the agent's key. 409 where it is not the
/// time, 422 where it cannot be rendered: the workflow has failed then.
pub async fn config(State(app): State<App>, spoken: Spoken) -> Result<Json<SealedConfig>> {
    let asked: ConfigRequest = spoken.read()?;
    let machine = &spoken.machine;
    of_generation(machine, asked.generation)?;
    if machine.phase != Phase::Installing || !machine.has_done(Step::WriteImage) {
        return Err(ApiError::Conflict(format!("{} has no image on its disk yet", machine.name)).into());
    }
    let (boot_hash, generation) = (spoken.boot_hash.clone(), asked.generation);
    if machine.target().is_some_and(|t| t.by_url.is_some()) {
        let pointer = pointer(&app, &spoken, generation).await?;
        return seal(&spoken, &pointer, generation);
    }
    let rendered = match minted::rendered(&app, machine).await? {
        Ok(rendered) => rendered,
        Err(Unrendered::Later(reason)) => return Err(ApiError::Busy(reason).into()),
        Err(Unrendered::Never(reason)) => {
            let event = Event::ConfigRefused { boot_hash, generation, reason: reason.clone() };
            spoken.submit(&app, &event).await?;
            return Err(ApiError::invalid("", reason).into());
        }
    };
    let event = Event::ConfigRendered {
        boot_hash,
        generation,
        token_hash: rendered.token_hash,
        token_expires: rendered.token_expires,
        config_hash: rendered.config_hash,
    };
    spoken.submit(&app, &event).await?;
    api::configs::keep(&app, machine).await;
    seal(&spoken, &rendered.config, generation)
}

fn seal(spoken: &Spoken, config: &Config, generation: Generation) -> Result<Json<SealedConfig>> {
    let text = zeroize::Zeroizing::new(serde_json::to_vec(config).map_err(ApiError::internal)?);
    let context = config_context(&spoken.machine.name, generation);
    let sealed = spoken.channel.seal(&text, &context).map_err(ApiError::internal)?;
    Ok(Json(SealedConfig { sealed }))
}

/// What leads the node to its one-shot URL; no token is minted before that is fetched.
async fn pointer(app: &App, spoken: &Spoken, generation: Generation) -> Result<Config> {
    let (machine, capability) = (&spoken.machine, fresh()?);
    let made =
        netboot::pointer(app, machine, &capability).await.map_err(|what| ApiError::invalid("", what))?;
    let lives = machine.target().map_or(0, |target| target.ready_deadline_ms);
    let event = Event::ConfigUrlMade {
        boot_hash: spoken.boot_hash.clone(),
        generation,
        url_hash: capability.hash(),
        expires: app.engine().now() + Duration::from_millis(u64::try_from(lives).unwrap_or_default()),
    };
    spoken.submit(app, &event).await?;
    Ok(made)
}

/// `POST result`: a step has ended. 409 where its generation is over.
pub async fn result(State(app): State<App>, spoken: Spoken) -> Result<StatusCode> {
    let said: StepResult = spoken.read()?;
    let objection = certificates::objection(spoken.machine(), &said);
    let is_wiped = said.step == Step::Wipe
        && objection.is_none()
        && matches!(said.outcome, provisioner_wire::order::Outcome::Done { .. });
    let outcome = match said.outcome {
        _ if objection.is_some() => {
            provisioner_wire::order::Outcome::Failed { reason: objection.unwrap_or_default() }
        }
        provisioner_wire::order::Outcome::Failed { reason } => {
            provisioner_wire::order::Outcome::Failed { reason: clean_to(&reason, REASON_MAX) }
        }
        done => done,
    };
    let event = Event::StepEnded {
        boot_hash: spoken.boot_hash.clone(),
        generation: said.generation,
        step: said.step,
        outcome,
    };
    spoken.submit(&app, &event).await?;
    // After the engine has taken it, and before the agent is told so: it says it again until then.
    if is_wiped {
        certificates::keep(&app, &spoken, said.generation, said.wiped).await?;
    }
    Ok(StatusCode::OK)
}

/// `POST progress`: kept in memory. The engine hears of it now and then: only an agent's word tells that it lives.
pub async fn progress(State(app): State<App>, spoken: Spoken) -> Result<StatusCode> {
    let said: Progress = spoken.read()?;
    of_generation(&spoken.machine, said.generation)?;
    let (id, generation) = (spoken.machine.id, said.generation);
    app.live().heard(id, said);
    if spoken.machine.heard.is_some() && app.live().may_record(id, app.engine().now()) {
        app.engine().record(id, &Event::AgentHeard { boot_hash: spoken.boot_hash, generation }).await?;
    }
    Ok(StatusCode::OK)
}

fn of_generation(machine: &Machine, generation: Generation) -> Result<()> {
    if machine.generation == generation {
        return Ok(());
    }
    let now = machine.generation;
    Err(ApiError::Conflict(format!("{} is in generation {now}, not {generation}", machine.name)).into())
}
