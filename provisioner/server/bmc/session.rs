//! One conversation with one BMC: log in, read with patience, change with care, log out.
//! Reads are repeated freely; what a change may repeat is decided by its caller.

use super::{
    Cause,
    document::{etag_of, has_message, sessions_of},
    http::{Http, NO_ETAG},
    http_error::HttpError,
    retry::{Patience, again},
    target::BmcTarget,
};
use nv_redfish::{
    bmc_http::{BmcCredentials, CacheSettings, HttpBmc},
    core::{
        Action, Bmc as _, ModificationResponse, ODataETag, ODataId, Raw, action::ActionTarget,
        repair::RepairError,
    },
    quirks::{BmcQuirks, CompatBmc, RootEvidence},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The spans and counts of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one answer.
    pub answer: Duration,
    pub patience: Patience,
    /// Between two looks at a state that is expected to change.
    pub poll: Duration,
    /// How long a BMC may take to show a change it has accepted.
    pub settle: Duration,
}

impl Limits {
    pub const USUAL: Self = Self {
        answer: Duration::from_secs(20),
        patience: Patience::USUAL,
        poll: Duration::from_secs(1),
        settle: Duration::from_secs(15),
    };
}

const ROOT: &str = "/redfish/v1";

/// The body of a login (DSP0266 §13.3.4).
#[derive(Serialize)]
struct Login<'a> {
    #[serde(rename = "UserName")]
    user: &'a str,
    #[serde(rename = "Password")]
    password: &'a str,
}

/// See the module.
pub struct Session {
    target: BmcTarget,
    http: Http,
    bmc: CompatBmc<HttpBmc<Http>>,
    /// Where sessions are made; `None`: the BMC has no session service.
    sessions: Option<String>,
    root: Value,
    /// The session to be deleted at the end.
    open: Mutex<Option<ODataId>>,
    /// The last trouble that was waited out, for the message of a timeout.
    trouble: Arc<Mutex<Option<String>>>,
    pub limits: Limits,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.target.address)
    }
}

impl Session {
    /// Reads the service root (which needs no login), then logs in.
    pub async fn open(
        target: BmcTarget,
        limits: Limits,
        trouble: Arc<Mutex<Option<String>>>,
        until: Instant,
    ) -> Result<Self, Cause> {
        let http = Http::new(target.pin, limits.answer).map_err(HttpError::into_cause)?;
        let origin = target.address.origin().clone();
        let cache = CacheSettings::with_capacity(0);
        let bmc = Arc::new(HttpBmc::new(http.clone(), origin, BmcCredentials::anonymous(), cache));
        let nobody = BmcQuirks::classify(&RootEvidence::from_root(&Value::Null));
        let mut session = Self {
            target,
            http,
            bmc: CompatBmc::new(bmc.clone(), Arc::new(nobody)),
            sessions: None,
            root: Value::Null,
            open: Mutex::default(),
            trouble,
            limits,
        };
        let root = session.get(ROOT, until).await.map_err(HttpError::into_cause)?;
        let quirks = BmcQuirks::classify(&RootEvidence::from_root(&root));
        session.bmc = CompatBmc::new(bmc, Arc::new(quirks));
        // Some roots leave out links to what is there all the same.
        let unlinked = session.bmc.quirks().bug_missing_root_nav_properties();
        session.sessions =
            sessions_of(&root).or_else(|| unlinked.then(|| format!("{ROOT}/SessionService/Sessions")));
        session.root = root;
        session.identify(until).await?;
        Ok(session)
    }

    pub fn root(&self) -> &Value {
        &self.root
    }

    pub fn http(&self) -> &Http {
        &self.http
    }

    /// nv-redfish's word on which members of the systems are systems.
    pub fn is_system(&self, path: &str) -> bool {
        self.bmc.quirks().filter_computer_system_odata_ids().is_none_or(|keep| keep(path))
    }

    /// A session where the BMC has them. Basic only where it says it has none: it is slower, and on a BMC with
    /// sessions a failed one would be hidden.
    async fn identify(&self, until: Instant) -> Result<(), Cause> {
        if self.target.user.is_empty() {
            return Ok(());
        }
        if self.sessions.is_some() {
            return self.login(until).await;
        }
        tracing::info!(bmc = %self.target.address, "the BMC has no session service: HTTP Basic is used");
        let password = self.target.password.expose_secret().to_owned();
        self.use_credentials(BmcCredentials::new(self.target.user.clone(), password));
        Ok(())
    }

    fn use_credentials(&self, credentials: BmcCredentials) {
        self.bmc.inner().set_credentials(credentials);
    }

    async fn login(&self, until: Instant) -> Result<(), Cause> {
        let place = ODataId::from(self.sessions.clone().unwrap_or_default());
        let body = Login { user: &self.target.user, password: self.target.password.expose_secret() };
        let mut attempt = 1;
        let made = loop {
            match self.bmc.create_session::<_, Value>(&place, &body).await.map_err(plain) {
                Ok(made) => break made,
                Err(error) => {
                    self.wait_out(error, &mut attempt, until).await.map_err(HttpError::into_cause)?
                }
            }
        };
        self.use_credentials(BmcCredentials::token(made.auth_token));
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(made.location).filter(|location| !location.to_string().is_empty());
        if has_message(&made.entity.to_string(), "PasswordChangeRequired") {
            self.close(until).await;
            return Err(Cause::PasswordChangeRequired);
        }
        Ok(())
    }

    /// Deletes the session. Nobody can act on a failure: it is logged, and the BMC will expire the session.
    pub async fn close(&self, until: Instant) {
        let Some(session) = self.open.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        if let Err(error) = delete(&self.bmc, &session, self, until).await {
            tracing::warn!(bmc = %self.target.address, %error, "the BMC session could not be closed");
        }
    }

    /// Reads a document, with patience; one new login when the session has expired.
    pub async fn get(&self, path: &str, until: Instant) -> Result<Value, HttpError> {
        let id = ODataId::from(path.to_owned());
        let (mut attempt, mut renewed) = (1, false);
        loop {
            let error = match self.bmc.get::<Raw>(&id).await.map_err(plain) {
                Ok(raw) => {
                    return Ok(Arc::try_unwrap(raw).map_or_else(|raw| raw.value().clone(), Raw::into_value));
                }
                Err(error) => error,
            };
            if !self.renew(&error, &mut renewed, until).await {
                self.wait_out(error, &mut attempt, until).await?;
            }
        }
    }

    /// The same, where not finding it is an answer.
    pub async fn find(&self, path: &str, until: Instant) -> Result<Option<Value>, Cause> {
        match self.get(path, until).await {
            Ok(document) => Ok(Some(document)),
            Err(HttpError::Status { status: 404 | 405 | 410 | 501, .. }) => Ok(None),
            Err(error) => Err(error.into_cause()),
        }
    }

    /// Changes a resource. Only for changes that may be made twice. Where the ETag is not taken (412, 428) the fresh
    /// one is tried in its strong form, then none (sushy's experience with real BMCs).
    pub async fn patch<B: Serialize + Send + Sync>(
        &self,
        path: &str,
        etag: Option<&str>,
        body: &B,
        until: Instant,
    ) -> Result<(), HttpError> {
        let id = ODataId::from(path.to_owned());
        let (mut attempt, mut renewed, mut refusals) = (1, false, 0);
        let mut tag = etag.unwrap_or(NO_ETAG).to_owned();
        loop {
            let etag = ODataETag::from(tag.clone());
            let sent = if refusals == 0 {
                self.bmc.update::<_, Value>(&id, Some(&etag), body).await.map_err(plain)
            } else {
                self.bmc.inner().update::<_, Value>(&id, Some(&etag), body).await
            };
            let error = match sent {
                Ok(answer) => return self.finish(answer, until).await,
                Err(error) => error,
            };
            match error.status() {
                Some(412 | 428) if refusals < 2 => {
                    let fresh = if refusals == 0 { etag_of(&self.get(path, until).await?) } else { None };
                    let strong = fresh.map(|etag| etag.trim_start_matches("W/").to_owned());
                    tag = strong.unwrap_or_else(|| NO_ETAG.to_owned());
                    refusals += 1;
                }
                _ if self.renew(&error, &mut renewed, until).await => {}
                _ => self.wait_out(error, &mut attempt, until).await?,
            }
        }
    }

    /// Runs an action once: what its failure means, the caller must find out.
    pub async fn post<B: Serialize + Send + Sync>(
        &self,
        target: &str,
        body: &B,
        until: Instant,
    ) -> Result<(), HttpError> {
        let action = Action::<B, Value>::new(ActionTarget::new(target.to_owned()));
        let answer = self.bmc.action(&action, body).await.map_err(plain)?;
        self.finish(answer, until).await
    }

    /// Waits for the task of a change that was accepted. A task monitor that is gone has ended.
    async fn finish(&self, mut answer: ModificationResponse<Value>, until: Instant) -> Result<(), HttpError> {
        while let ModificationResponse::Task(task) = answer {
            let wait = task.retry_after.unwrap_or(self.limits.poll).min(Duration::from_secs(10));
            if Instant::now() + wait >= until {
                return Err(HttpError::Lost("its task did not end in time".to_owned()));
            }
            sleep(wait).await;
            answer = match self.bmc.poll(&task.location.0).await.map_err(plain) {
                Ok(answer) => answer,
                Err(HttpError::Status { status: 404 | 410, .. }) => return Ok(()),
                Err(error @ (HttpError::Lost(_) | HttpError::NotSent(_))) => {
                    self.note(&error);
                    ModificationResponse::Task(task)
                }
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Logs in again, once an operation, when `error` says that the session is not known any more.
    pub async fn renew(&self, error: &HttpError, renewed: &mut bool, until: Instant) -> bool {
        if error.status() != Some(401) || *renewed || self.sessions.is_none() || self.target.user.is_empty() {
            return false;
        }
        *renewed = true;
        self.login(until).await.is_ok()
    }

    /// Sleeps as long as `error` calls for, or gives it back when waiting will not help or there is no time.
    pub async fn wait_out(
        &self,
        error: HttpError,
        attempt: &mut u32,
        until: Instant,
    ) -> Result<(), HttpError> {
        let wait =
            again(self.limits.patience, *attempt, error.fault(), jitter()).filter(|_| !error.is_final());
        match wait {
            Some(wait) if Instant::now() + wait < until => {
                self.note(&error);
                sleep(wait).await;
                *attempt += 1;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn note(&self, error: &HttpError) {
        tracing::debug!(bmc = %self.target.address, %error, "BMC trouble, trying again");
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }
}

impl Drop for Session {
    /// A caller that went away (a cancelled act, a timeout while opening) must not cost the BMC one of its sessions.
    fn drop(&mut self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(session), Ok(runtime)) = (open, tokio::runtime::Handle::try_current()) {
            let bmc = self.bmc.clone();
            runtime.spawn(async move { bmc.delete::<Raw>(&session).await.map(|_| ()).map_err(plain) });
        }
    }
}

/// Deletes a session; one that is not there is deleted.
async fn delete(
    bmc: &CompatBmc<HttpBmc<Http>>,
    id: &ODataId,
    session: &Session,
    until: Instant,
) -> Result<(), HttpError> {
    let mut attempt = 1;
    loop {
        match bmc.delete::<Raw>(id).await.map_err(plain) {
            Ok(_) | Err(HttpError::Status { status: 401 | 404 | 410, .. }) => return Ok(()),
            // Answered with a body that is no document: done all the same.
            Err(HttpError::Undecodable(_)) => return Ok(()),
            Err(error) => session.wait_out(error, &mut attempt, until).await?,
        }
    }
}

/// nv-redfish's two error kinds as ours.
fn plain(error: RepairError<HttpError>) -> HttpError {
    match error {
        RepairError::Transport(error) => error,
        RepairError::Decode(error) => HttpError::Undecodable(error),
    }
}

/// A random byte; none at all only makes racks ask in step.
fn jitter() -> u8 {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    let [byte] = byte;
    byte
}
