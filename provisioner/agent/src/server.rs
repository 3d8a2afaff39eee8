//! The server as the agent sees it: six questions over plain HTTP, each signed with the channel, each asked again
//! until it is answered or patience ends.

use crate::{log::Log, patience::Patience};
use provisioner_wire::{
    channel::{AUTHORIZATION, Channel},
    order::{
        AskChallenge, Challenge, Claim, ClaimAnswer, ConfigRequest, LicenceGrant, Order, Progress, Refusal,
        SealedConfig, ShowReadBack, SpendLicence, StepResult, path,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Largest answer that is read; a sealed config is the largest one expected.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// 409 or 410: this boot or this generation is over, and nothing the agent does counts any more.
    #[error("{url}: {status}: {reason}")]
    Over { url: String, status: u16, reason: String },
    /// Any other answer that asking again will not change.
    #[error("{url} refused: {status}: {reason}")]
    Refused { url: String, status: u16, reason: String },
    #[error("{url} did not answer for {seconds} s; the last reason: {reason}")]
    Away { url: String, seconds: u64, reason: String },
    #[error("cannot write the question as JSON: {0}")]
    Question(String),
}

/// One for each thread that fetches chunks: without it, most would connect anew for each.
const IDLE_CONNECTIONS: usize = 20;

/// A connection-less client; cheap to share between threads.
#[derive(Debug)]
pub struct Server {
    http: ureq::Agent,
    base: String,
    channel: Channel,
    patience: Patience,
    log: Arc<Log>,
}

enum Answer {
    Body(Vec<u8>),
    Final(ServerError),
    Again(String),
}

impl Server {
    pub fn new(base: &str, channel: Channel, patience: Patience, log: Arc<Log>) -> Self {
        Self { http: http_client(&patience), base: base.to_owned(), channel, patience, log }
    }

    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The HTTP client, for image bodies.
    pub fn http(&self) -> &ureq::Agent {
        &self.http
    }

    /// An image's address: as it is where absolute, below the server's base URL where it is a path.
    pub fn absolute(&self, url: &str) -> String {
        if url.starts_with('/') { format!("{}{url}", self.base) } else { url.to_owned() }
    }

    /// Not signed: it carries the proof itself.
    pub fn claim(&self, claim: &Claim) -> Result<ClaimAnswer, ServerError> {
        self.ask(path::CLAIM, claim, false)
    }

    pub fn order(&self) -> Result<Order, ServerError> {
        self.ask(path::ORDER, &serde_json::json!({}), true)
    }

    pub fn spend_licence(&self, spend: &SpendLicence) -> Result<LicenceGrant, ServerError> {
        self.ask(path::LICENCE, spend, true)
    }

    pub fn config(&self, request: &ConfigRequest) -> Result<SealedConfig, ServerError> {
        self.ask(path::CONFIG, request, true)
    }

    pub fn challenge(&self, ask: &AskChallenge) -> Result<Challenge, ServerError> {
        self.ask(path::CHALLENGE, ask, true)
    }

    pub fn show_read_back(&self, shown: &ShowReadBack) -> Result<(), ServerError> {
        let body = json(shown)?;
        self.persist(path::READ_BACK, &body, true, |_| Ok(()))
    }

    /// Sent until heard.
    pub fn result(&self, result: &StepResult) -> Result<(), ServerError> {
        let body = json(result)?;
        self.persist(path::RESULT, &body, true, |_| Ok(()))
    }

    /// Sent once.
    pub fn progress(&self, progress: &Progress) -> Result<(), ServerError> {
        let body = json(progress)?;
        let url = format!("{}{}", self.base, path::PROGRESS);
        match self.post(&url, path::PROGRESS, &body, true) {
            Answer::Body(_) => Ok(()),
            Answer::Final(error) => Err(error),
            Answer::Again(reason) => Err(ServerError::Away { url, seconds: 0, reason }),
        }
    }

    fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
        signed: bool,
    ) -> Result<A, ServerError> {
        let body = json(question)?;
        // The parser's message is kept without the text it stumbled over: a config answer is sealed, but still.
        self.persist(path, &body, signed, |answer| {
            serde_json::from_slice(answer).map_err(|e| {
                format!("an answer that is not understood (line {}, column {})", e.line(), e.column())
            })
        })
    }

    /// Asks until there is an answer that `read` understands. Says once that the server is away, and once that it is back.
    fn persist<A>(
        &self,
        path: &str,
        body: &[u8],
        signed: bool,
        read: impl Fn(&[u8]) -> Result<A, String>,
    ) -> Result<A, ServerError> {
        let url = format!("{}{path}", self.base);
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            let reason = match self.post(&url, path, body, signed) {
                Answer::Body(answer) => match read(&answer) {
                    Ok(answer) => {
                        if attempt > 0 {
                            self.log.say(format_args!("{url} answers again"));
                        }
                        return Ok(answer);
                    }
                    Err(reason) => reason,
                },
                Answer::Final(error) => return Err(error),
                Answer::Again(reason) => reason,
            };
            if began.elapsed() >= self.patience.give_up_after {
                return Err(ServerError::Away { url, seconds: began.elapsed().as_secs(), reason });
            }
            if attempt == 0 {
                self.log.say(format_args!("{url}: {reason}; trying again"));
            }
            std::thread::sleep(self.patience.pause(attempt));
            attempt += 1;
        }
    }

    fn post(&self, url: &str, path: &str, body: &[u8], signed: bool) -> Answer {
        let mut request = self.http.post(url).content_type("application/json");
        if signed {
            request = request.header(AUTHORIZATION, self.channel.authorization("POST", path, body));
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return Answer::Again(error.to_string()),
        };
        let status = response.status().as_u16();
        let answer = match response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec() {
            Ok(answer) => answer,
            Err(error) => return Answer::Again(format!("{status}, then {error}")),
        };
        let url = url.to_owned();
        match status {
            200..=299 => Answer::Body(answer),
            409 | 410 => Answer::Final(ServerError::Over { url, status, reason: refusal(&answer) }),
            408 | 425 | 429 | 500..=599 => Answer::Again(format!("{status}: {}", refusal(&answer))),
            _ => Answer::Final(ServerError::Refused { url, status, reason: refusal(&answer) }),
        }
    }
}

/// Plain HTTP, statuses as values, nothing that waits for ever.
pub fn http_client(patience: &Patience) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("provisioner-agent/", env!("CARGO_PKG_VERSION")))
        .max_redirects(3)
        .input_buffer_size(256 << 10)
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(Some(patience.stall))
        .timeout_per_write(Some(patience.stall))
        .timeout_resolve(Some(patience.connect))
        .timeout_recv_response(Some(patience.stall.saturating_mul(2)))
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .max_idle_connections(IDLE_CONNECTIONS)
        .max_idle_age(Duration::from_secs(5))
        .build()
        .into()
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, ServerError> {
    serde_json::to_vec(value).map_err(|e| ServerError::Question(e.to_string()))
}

/// The refusal's reason, or the start of whatever came instead, cleaned for the console.
fn refusal(answer: &[u8]) -> String {
    let text = serde_json::from_slice::<Refusal>(answer)
        .map_or_else(|_| String::from_utf8_lossy(answer).into_owned(), |refusal| refusal.reason);
    let text = provisioner_wire::report::clean(&text);
    if text.is_empty() { "no reason given".into() } else { text }
}
