//! The issuer `webhook`: another program mints. One signed request a claim, with a key that makes it safe to repeat.

use super::{Clusters, Result, Trouble, api::unanswered, issue::lacks};
use crate::{
    inventory::{Cluster, Profile, cluster::secret},
    machine::Time,
    token::{Grant, Issued, MintRequest, PlainToken},
};
use hmac::{Hmac, KeyInit, Mac};
use provisioner_wire::ids::hex;
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const WITHIN: Duration = Duration::from_secs(8);
const ALL_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_MAX: usize = 64 * 1024;

/// What it answers to a mint.
#[derive(Deserialize)]
struct Answer {
    token: String,
    /// RFC 3339; where it lives shorter than was asked for.
    #[serde(default)]
    expires: Option<String>,
}

impl Clusters {
    pub(super) async fn webhook_mint(
        &self,
        cluster: &Cluster,
        profile: &Profile,
        request: &MintRequest<'_>,
        now: Time,
    ) -> Result<Grant> {
        let expires = now + request.ttl;
        let body = json!({
            "action": "mint",
            "id": id(cluster, request),
            "cluster": cluster.name.as_str(),
            "machine": request.machine.as_str(),
            "generation": request.generation.0,
            "role": profile.role.as_str(),
            "ttl_seconds": request.ttl.as_secs(),
        });
        let text = self.webhook(cluster, &id(cluster, request), &body, now).await?;
        let wrong = |what: &str| {
            Trouble::Lasting(format!("the webhook of the cluster {} answers {what}", cluster.name))
        };
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|_| wrong("something else than {\"token\": …}"))?;
        if !(16..=4096).contains(&answer.token.len()) || answer.token.chars().any(char::is_control) {
            return Err(wrong("a token that is none: 16 to 4096 characters on one line"));
        }
        let told = match answer.expires.as_deref() {
            Some(text) => crate::token::bootstrap::time(text)
                .ok_or_else(|| wrong("an `expires` that is not RFC 3339"))?,
            None => expires,
        };
        let token = PlainToken::new(answer.token);
        // Whatever it says: here the token is dead at its profile's time to live.
        Ok(Grant { hash: token.hash(), token, expires: told.min(expires), issued: Issued::default() })
    }

    pub(super) async fn webhook_revoke(&self, cluster: &Cluster, request: &MintRequest<'_>) -> Result<()> {
        let id = id(cluster, request);
        let body = json!({
            "action": "revoke",
            "id": id,
            "cluster": cluster.name.as_str(),
            "machine": request.machine.as_str(),
            "generation": request.generation.0,
        });
        self.webhook(cluster, &format!("{id}-revoke"), &body, self.clock.now()).await.map(drop)
    }

    /// A signed POST, repeated with the same idempotency key until it is answered or time is up.
    async fn webhook(
        &self,
        cluster: &Cluster,
        key: &str,
        body: &Value,
        now: Time,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let hook = cluster.webhook.as_ref().ok_or_else(|| lacks(cluster, "webhook"))?;
        let secret = self.secret(cluster, secret::WEBHOOK).await?;
        let failed = |why: String| format!("the webhook of the cluster {}: {why}", cluster.name);
        let url = Url::parse(hook.url.as_str()).map_err(|e| Trouble::Lasting(failed(e.to_string())))?;
        let named = |trouble| match trouble {
            Trouble::Passing(why) => Trouble::Passing(failed(why)),
            Trouble::Lasting(why) => Trouble::Lasting(failed(why)),
        };
        let client = self.webhook_client(cluster, &url).map_err(named)?;
        let text = serde_json::to_vec(body).map_err(|e| Trouble::Lasting(failed(e.to_string())))?;
        let (began, mut pause) = (Instant::now(), Duration::from_millis(250));
        loop {
            let stamp = (now.0 / 1000).to_string();
            let request = client
                .post(url.clone())
                .header("content-type", "application/json")
                .header("idempotency-key", key)
                .header("x-provisioner-timestamp", &stamp)
                .header("x-provisioner-signature", signature(secret.expose_secret(), &stamp, &text))
                .body(text.clone());
            let why = match answered(request).await {
                Ok((status, body)) if status.is_success() => return Ok(body),
                Ok((status, _)) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    format!("it answers {}", status.as_u16())
                }
                // Its body is not shown: nobody knows what stands in it.
                Ok((status, _)) => {
                    return Err(Trouble::Lasting(failed(format!("it refuses with {}", status.as_u16()))));
                }
                Err(Trouble::Passing(why)) => why,
                Err(lasting) => return Err(named(lasting)),
            };
            if began.elapsed() + pause + WITHIN >= ALL_WITHIN {
                return Err(Trouble::Passing(failed(why)));
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }

    fn webhook_client(&self, cluster: &Cluster, url: &Url) -> Result<reqwest::Client> {
        let hook = cluster.webhook.as_ref().ok_or_else(|| lacks(cluster, "webhook"))?;
        let reach = self.reach.with_private(hook.private);
        reach.literal(url).map_err(|refused| Trouble::Lasting(refused.to_string()))?;
        let mut builder = reach.builder().https_only(true).timeout(WITHIN);
        if let Some(ca) = &hook.ca_certificate {
            builder = builder.tls_built_in_root_certs(false);
            for certificate in ca.certificates() {
                let root = reqwest::Certificate::from_der(&certificate);
                builder = builder.add_root_certificate(root.map_err(|e| Trouble::Lasting(e.to_string()))?);
            }
        }
        builder.build().map_err(|e| Trouble::Lasting(super::api::deepest(&e)))
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Result<(StatusCode, Zeroizing<Vec<u8>>)> {
    let mut response = request.send().await.map_err(unanswered)?;
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(Trouble::Passing(format!("an answer of more than {ANSWER_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), body))
}

/// The same for each try of one claim. Not the boot id's hash itself: that stays here.
fn id(cluster: &Cluster, request: &MintRequest<'_>) -> String {
    let text = format!("{}|{}|{}|{}", cluster.name, request.machine, request.generation, request.boot_hash);
    hex(&Sha256::digest(text.as_bytes()))
}

/// `sha256=` and the HMAC-SHA-256, hexadecimal, of `TIMESTAMP.BODY`.
pub fn signature(secret: &str, stamp: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.trim().as_bytes()) else { return String::new() };
    mac.update(stamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}
