//! Mints and revokes, at whichever issuer the profile names.

use super::{Clusters, Result, Trouble, api::Api};
use crate::{
    inventory::{Cluster, Hardware, IssuerKind, Profile, cluster::secret},
    machine::{ActResult, Machine, Time, join::dead, state::Owed},
    token::{Grant, Issued, MintRequest, Minted, bootstrap, builtin, k3s},
};
use provisioner_wire::Generation;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

impl Clusters {
    /// All that the config of this claim is rendered with. The same claim gets the same token.
    pub async fn mint(
        &self,
        profile: &Profile,
        cluster: Option<&Cluster>,
        request: &MintRequest<'_>,
        now: Time,
    ) -> Result<Grant> {
        let Some(cluster) = cluster.filter(|_| profile.token.issuer != IssuerKind::Builtin) else {
            return self.builtin(request, now);
        };
        let control_plane = profile.is_control_plane();
        match profile.token.issuer {
            IssuerKind::Builtin => self.builtin(request, now),
            IssuerKind::Kubernetes => self.bootstrap(cluster, request, now).await,
            IssuerKind::Talos => {
                let bundle = self.talos(cluster).await?;
                // A control plane machine carries the lasting token: nothing is minted for it.
                let join = match cluster.kubernetes.is_some() && !control_plane {
                    true => Some(self.bootstrap(cluster, request, now).await?),
                    false => None,
                };
                let issued = bundle.issued(control_plane, join.as_ref().map(|grant| grant.token.reveal()));
                let grant = match join {
                    Some(grant) => grant,
                    None => self.builtin(request, now)?,
                };
                Ok(Grant { issued, ..grant })
            }
            IssuerKind::K3s | IssuerKind::Rke2 => self.k3s(cluster, control_plane, request, now).await,
            IssuerKind::Webhook => self.webhook_mint(cluster, profile, request, now).await,
        }
    }

    fn builtin(&self, request: &MintRequest<'_>, now: Time) -> Result<Grant> {
        let key = self.keyring.derive(builtin::PURPOSE);
        let minted = builtin::mint(&key, request, now).map_err(|e| Trouble::Lasting(e.to_string()))?;
        let expires = minted.expires;
        Ok(Grant { token: minted.token, hash: minted.hash, expires, issued: Issued::default() })
    }

    async fn k3s(
        &self,
        cluster: &Cluster,
        control_plane: bool,
        request: &MintRequest<'_>,
        now: Time,
    ) -> Result<Grant> {
        let k3s = cluster.k3s.as_ref().ok_or_else(|| lacks(cluster, "k3s"))?;
        if control_plane {
            let token = self.secret(cluster, secret::K3S).await?;
            let issued = k3s::issued(k3s.server.as_str(), token.expose_secret().trim());
            return Ok(Grant { issued, ..self.builtin(request, now)? });
        }
        let grant = self.bootstrap(cluster, request, now).await?;
        let join = k3s::agent_token(&cluster.ca_certificate.text_hash(), &grant.token);
        Ok(Grant { issued: k3s::issued(k3s.server.as_str(), &join), ..grant })
    }

    /// The token of this claim, derived: known again after a crash, and by the janitor.
    pub(super) fn derived(&self, cluster: &str, request: &MintRequest<'_>, now: Time) -> Result<Minted> {
        let key = self.keyring.derive(&format!("{}{cluster}", bootstrap::PURPOSE));
        bootstrap::derive(&key, request, now).map_err(|e| Trouble::Lasting(e.to_string()))
    }

    async fn bootstrap(&self, cluster: &Cluster, request: &MintRequest<'_>, now: Time) -> Result<Grant> {
        let access = cluster.kubernetes.as_ref().ok_or_else(|| lacks(cluster, "kubernetes"))?;
        let minted = self.derived(cluster.name.as_str(), request, now)?;
        let groups: Vec<&str> = access.groups.iter().map(|group| group.as_str()).collect();
        let body = bootstrap::secret(&minted, request, &groups, access.signing);
        let api = self.api(cluster).await?;
        let answer = api.call(Method::POST, SECRETS, &[], Some(&body)).await?;
        let expires = match answer.status {
            StatusCode::CONFLICT => existing(&api, cluster, &minted, request).await?,
            status if status.is_success() => minted.expires,
            _ => return Err(api.refused(&Method::POST, SECRETS, &answer)),
        };
        if expires <= now {
            // Its time has run out before it was delivered; the next boot of the agent gets another.
            return Err(Trouble::Lasting(
                "the token's time to live ended before it was delivered".to_owned(),
            ));
        }
        Ok(bootstrap::grant(minted, expires))
    }

    /// Whether the issuer will mint for this profile: asked before any power change, with nothing made there.
    pub async fn could_mint(&self, cluster: &Cluster, profile: &Profile, hardware: &Hardware) -> Result<()> {
        if profile.token.issuer == IssuerKind::Talos {
            self.talos(cluster).await?;
        }
        let Some(access) = cluster.kubernetes.as_ref() else { return Ok(()) };
        let ttl = profile.token.ttl.duration();
        let (machine, generation) = (&hardware.name, Generation(0));
        let request = MintRequest { machine, generation, boot_hash: "dry run", ttl };
        let minted = self.derived(cluster.name.as_str(), &request, self.clock.now())?;
        let groups: Vec<&str> = access.groups.iter().map(|group| group.as_str()).collect();
        let body = bootstrap::secret(&minted, &request, &groups, access.signing);
        let api = self.api(cluster).await?;
        api.must(Method::POST, SECRETS, &[("dryRun", "All")], Some(&body)).await.map(drop)
    }

    /// Everything dead that `machine` owes, at its issuers.
    pub async fn revoke_dead(&self, machine: &Machine) -> ActResult {
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        for owed in dead(machine) {
            match self.revoke(machine, owed).await {
                Ok(()) => gone.push(owed.minted_for.clone()),
                Err(trouble) => left.push(trouble.to_string()),
            }
        }
        match left.is_empty() || !gone.is_empty() {
            true => ActResult::Revoked { minted_for: gone },
            false => ActResult::Failed { reason: left.join("; ") },
        }
    }

    async fn revoke(&self, machine: &Machine, owed: &Owed) -> Result<()> {
        let cluster = self.record(&owed.minter.cluster).await?;
        let request = MintRequest {
            machine: &machine.name,
            generation: owed.generation,
            boot_hash: &owed.minted_for,
            ttl: std::time::Duration::ZERO,
        };
        if owed.minter.issuer == IssuerKind::Webhook.word() {
            return self.webhook_revoke(&cluster, &request).await;
        }
        let minted = self.derived(cluster.name.as_str(), &request, self.clock.now())?;
        let path = format!("{SECRETS}/{}", bootstrap::secret_name(&minted.token));
        let api = self.api(&cluster).await?;
        let answer = api.call(Method::DELETE, &path, &[], None).await?;
        match answer.status {
            // Not there: never made, used up, or deleted by the cluster at its time.
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => {
                tracing::info!(machine = %machine.name, cluster = %cluster.name, "its token is revoked");
                Ok(())
            }
            _ => Err(api.refused(&Method::DELETE, &path, &answer)),
        }
    }
}

/// A Secret of the derived name is there: ours, from a try whose answer was lost, or somebody else's.
async fn existing(api: &Api, cluster: &Cluster, minted: &Minted, request: &MintRequest<'_>) -> Result<Time> {
    let path = format!("{SECRETS}/{}", bootstrap::secret_name(&minted.token));
    let found = api.must(Method::GET, &path, &[], None).await?;
    bootstrap::ours(&found, minted, request).ok_or_else(|| {
        Trouble::Lasting(format!(
            "the cluster {}: there is a Secret {} that was not made for {} by this server",
            cluster.name,
            bootstrap::secret_name(&minted.token),
            request.machine
        ))
    })
}

pub(super) fn lacks(cluster: &Cluster, part: &str) -> Trouble {
    Trouble::Lasting(format!("the cluster {} has no `{part}` any more", cluster.name))
}
