//! Does one act and answers with its result. Reads what it needs from the store, never holds a transaction across the
//! network, and looks at the machine once more right before it touches it.

use super::{engine::Hands, plan};
use crate::{
    bmc::{Bmc, BmcError, BmcTarget, Cause, NetBoot, PowerChange, governor::Kind, visit::Visits},
    clock::Clock,
    cluster::{Clusters, Trouble},
    image::{ImageError, Images, VerifiedImage, custody::ForWorkflow},
    inventory::{BMC_PASSWORD, Hardware, ImageDeclaration, Method, Profile, RecordName},
    machine::{Act, ActResult, Machine, state::Target},
    os::{self, Site},
    render::Templates,
    secret::Keyring,
    store::{self, Db, StoreError, declared},
};
use provisioner_wire::{
    MachineName,
    machine::{Phase, WorkflowKind},
    order::{Image, LicenceId},
};
use secrecy::SecretString;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use uuid::Uuid;

/// One act at a BMC. Shorter than [`crate::machine::wants::IN_FLIGHT_MAX`], so that two can never overlap.
const BMC_WITHIN: Duration = Duration::from_secs(120);

/// What acts are done with.
pub struct Performer {
    pub db: Db,
    pub clock: Clock,
    pub keyring: Arc<Keyring>,
    pub templates: Arc<Templates>,
    pub images: Arc<Images>,
    pub site: Arc<dyn Fn(&MachineName) -> Site + Send + Sync>,
    pub visits: Visits,
    pub clusters: Arc<Clusters>,
}

impl std::fmt::Debug for Performer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Performer")
    }
}

/// Why an act was not done.
enum Failure {
    /// May pass by itself.
    Passing(String),
    /// Needs a person.
    Lasting(String),
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        match error.is_lasting() {
            true => Self::Lasting(error.to_string()),
            false => Self::Passing(error.to_string()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Passing(error.to_string())
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(reason) => Self::Passing(reason),
            Trouble::Lasting(reason) => Self::Lasting(reason),
        }
    }
}

impl From<BmcError> for Failure {
    fn from(error: BmcError) -> Self {
        if error.is_transient() { Self::Passing(error.to_string()) } else { Self::Lasting(error.to_string()) }
    }
}

impl Hands for Performer {
    fn perform(&self, machine: Machine, act: Act) -> Pin<Box<dyn Future<Output = ActResult> + Send + '_>> {
        Box::pin(async move {
            let done = match act {
                Act::Preflight => self.preflight(&machine).await,
                Act::ChooseDisks => self.choose_disks(&machine).await,
                Act::NetworkBoot => self.network_boot(&machine).await,
                Act::PowerOff => self.power_off(&machine).await,
                Act::Revoke => Ok(self.clusters.revoke_dead(&machine).await),
                Act::AwaitReady => self.await_ready(&machine).await,
                Act::Leave => self.leave(&machine).await,
            };
            match done {
                Ok(result) => result,
                Err(Failure::Passing(reason)) => ActResult::Failed { reason },
                Err(Failure::Lasting(reason)) => ActResult::Refused { reason },
            }
        })
    }
}

impl Performer {
    async fn hardware(&self, machine: &Machine) -> Result<Hardware, Failure> {
        let mut tx = self.db.read().await?;
        declared::get(&mut tx, declared::Kind::Machine, machine.name.as_str()).await?.ok_or_else(|| {
            Failure::Lasting(format!("{} is not declared: apply its hardware record", machine.name))
        })
    }

    async fn profile(&self, name: &str) -> Result<Profile, Failure> {
        let mut tx = self.db.read().await?;
        declared::get(&mut tx, declared::Kind::Profile, name)
            .await?
            .ok_or_else(|| Failure::Lasting(format!("there is no profile {name}")))
    }

    async fn preflight(&self, machine: &Machine) -> Result<ActResult, Failure> {
        let hardware = self.hardware(machine).await?;
        let workflow = machine.workflow.as_ref();
        let target = match workflow.map(|w| (w.kind, w.profile.as_deref())) {
            Some((WorkflowKind::Provision, Some(name))) => {
                self.provision_target(machine.into(), &hardware, name).await?
            }
            _ => {
                let profile = match &hardware.profile {
                    Some(name) => Some(self.profile(name.as_str()).await?),
                    None => None,
                };
                plan::without_image(profile.as_ref(), &hardware)
            }
        };
        Ok(ActResult::Preflighted { target: Box::new(target) })
    }

    /// Everything that can be known to be wrong is found here, before any power change.
    async fn provision_target(
        &self,
        workflow: ForWorkflow,
        hardware: &Hardware,
        name: &str,
    ) -> Result<Target, Failure> {
        let profile = self.profile(name).await?;
        let declaration = self.image(&profile.image).await?;
        let image = match profile.method {
            Method::Disk => self.images.ready_for(workflow, &declaration).await?,
            // Served as it is: nobody takes it apart.
            Method::Netboot => own(self.images.here_for(workflow, &declaration).await?)?,
        };
        let cluster = match &profile.cluster {
            Some(name) => Some(self.clusters.record(name.as_str()).await?),
            None => None,
        };
        let site = (self.site)(&hardware.name);
        let config = os::preflight(&self.templates, &profile, hardware, &site, cluster.as_ref());
        let config = config.map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Failure::Lasting(lines.join("; "))
        })?;
        let beside = self.beside(workflow, &profile).await?;
        let target = plan::provision(&profile, hardware, image.wire(), beside, (&config, cluster.as_ref()))
            .map_err(Failure::Lasting)?;
        os::pointer::fetchable(&profile, &config).map_err(Failure::Lasting)?;
        if target.by_url.as_ref().is_some_and(|by_url| !by_url.tls) {
            tracing::warn!(
                machine = %hardware.name,
                "its config and token will be fetched by plain HTTP: who listens on the wire reads them"
            );
        }
        if let Some(cluster) = &cluster {
            self.clusters.could_mint(cluster, &profile, hardware).await?;
        }
        Ok(target)
    }

    async fn image(&self, name: &RecordName) -> Result<ImageDeclaration, Failure> {
        let mut tx = self.db.read().await?;
        let found = declared::get(&mut tx, declared::Kind::Image, name.as_str()).await?;
        found.ok_or_else(|| Failure::Lasting(format!("there is no image {name}")))
    }

    /// What the operating system's own kernel is booted with; each file verified as an image is.
    async fn beside(
        &self,
        workflow: ForWorkflow,
        profile: &Profile,
    ) -> Result<Option<plan::Beside>, Failure> {
        let Some(files) = profile.netboot.as_ref().filter(|_| profile.method == Method::Netboot) else {
            return Ok(None);
        };
        let mut beside = plan::Beside::default();
        for name in &files.initramfs {
            beside.initramfs.push(self.served_whole(workflow, name).await?);
        }
        if let Some(name) = &files.rootfs {
            beside.rootfs = Some(self.served_whole(workflow, name).await?);
        }
        Ok(Some(beside))
    }

    async fn served_whole(&self, workflow: ForWorkflow, name: &RecordName) -> Result<Image, Failure> {
        let declaration = self.image(name).await?;
        Ok(own(self.images.here_for(workflow, &declaration).await?)?.wire())
    }

    async fn choose_disks(&self, machine: &Machine) -> Result<ActResult, Failure> {
        let hardware = self.hardware(machine).await?;
        let lost = |what: &str| Failure::Lasting(format!("{} has no {what}", machine.name));
        let report = machine.report.as_ref().ok_or_else(|| lost("report"))?;
        let kind = machine.kind().ok_or_else(|| lost("workflow"))?;
        let frozen = machine.target().map(|t| &t.profile).filter(|p| !p.is_null());
        let profile: Option<Profile> = frozen
            .map(|p| serde_json::from_value(p.clone()))
            .transpose()
            .map_err(|e| Failure::Lasting(format!("the profile of {} cannot be read: {e}", machine.name)))?;
        let disks = plan::disks(kind, &hardware, profile.as_ref(), report).map_err(Failure::Lasting)?;
        Ok(ActResult::DisksChosen { licence: LicenceId(Uuid::new_v4()), disks })
    }

    async fn await_ready(&self, machine: &Machine) -> Result<ActResult, Failure> {
        let hardware = self.hardware(machine).await?;
        let frozen = machine.target().map(|t| t.profile.clone()).unwrap_or_default();
        let profile: Profile = serde_json::from_value(frozen)
            .map_err(|e| Failure::Lasting(format!("the profile of {} cannot be read: {e}", machine.name)))?;
        let up = self.clusters.await_ready(machine, &hardware, &profile).await?;
        Ok(ActResult::IsReady { how: up.how, missing: up.missing })
    }

    async fn leave(&self, machine: &Machine) -> Result<ActResult, Failure> {
        let how = machine.workflow.as_ref().map(|w| w.leaving).unwrap_or_default();
        if let Some(joined) = &machine.joined {
            self.clusters.leave(machine, joined, how).await?;
        }
        Ok(ActResult::Done)
    }

    async fn network_boot(&self, machine: &Machine) -> Result<ActResult, Failure> {
        let still = self.still(machine, Phase::Powering);
        self.visit(machine, move |bmc, within| {
            Box::pin(async move {
                bmc.network_boot_once(NetBoot::Pxe, within).await?;
                if still.await {
                    bmc.set_power(PowerChange::Cycle, within).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn power_off(&self, machine: &Machine) -> Result<ActResult, Failure> {
        let still = self.still(machine, Phase::PoweringOff);
        self.visit(machine, move |bmc, within| {
            Box::pin(async move {
                if still.await {
                    bmc.set_power(PowerChange::ForceOff, within).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Whether the machine is where it was when the act began: a machine that has gone on by itself meanwhile (a
    /// person pressed its button) must not lose its power in the middle of a write (I10).
    fn still(&self, machine: &Machine, phase: Phase) -> impl Future<Output = bool> + Send + use<> {
        let (db, id, generation) = (self.db.clone(), machine.id, machine.generation);
        async move {
            let Ok(mut tx) = db.read().await else { return false };
            let now = store::machines::find(&mut tx, id).await;
            now.is_ok_and(|m| m.is_some_and(|m| m.phase == phase && m.generation == generation))
        }
    }

    async fn visit<A>(&self, machine: &Machine, act: A) -> Result<ActResult, Failure>
    where
        A: for<'a> FnOnce(&'a dyn Bmc, Duration) -> crate::bmc::Answer<'a, ()>,
    {
        let hardware = self.hardware(machine).await?;
        let target = self.bmc(&hardware).await?;
        let (known, address) = (target.pin, target.address.to_string());
        let visit = self.visits.pay(target, Kind::Change, BMC_WITHIN, act).await;
        if let (None, Some(pin)) = (known, visit.pin) {
            tracing::info!(machine = %machine.name, bmc = address, %pin, "the BMC's key is pinned from now on");
            let mut tx = self.db.write().await?;
            store::pins::pin(&mut tx, &address, &pin.to_string(), self.clock.now()).await?;
            tx.commit().await?;
        }
        match visit.outcome {
            Ok(()) => Ok(ActResult::Done),
            // Not asked at all: held back by our own governor, for its own short while.
            Err(error) if matches!(error.cause, Cause::Held(_)) => Err(Failure::Passing(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    async fn bmc(&self, hardware: &Hardware) -> Result<BmcTarget, Failure> {
        let name = hardware.name.as_str();
        let wrong = |what: String| Failure::Lasting(format!("the BMC of {name}: {what}"));
        let bmc = hardware.bmc.as_ref().ok_or_else(|| wrong("none is declared".to_owned()))?;
        let address: crate::bmc::BmcAddress =
            bmc.url.as_str().parse().map_err(|e: crate::bmc::target::AddressError| wrong(e.to_string()))?;
        let mut tx = self.db.read().await?;
        let sealed = store::secrets::get(&mut tx, name, BMC_PASSWORD).await?;
        let pin = store::pins::get(&mut tx, &address.to_string()).await?;
        drop(tx);
        let password = match sealed {
            Some(sealed) => {
                let plain =
                    self.keyring.unseal(name, BMC_PASSWORD, &sealed).map_err(|e| wrong(e.to_string()))?;
                let text =
                    std::str::from_utf8(&plain).map_err(|_| wrong("its password is not text".to_owned()))?;
                SecretString::from(text.to_owned())
            }
            None => {
                return Err(wrong("its password is not stored; apply the record again with it".to_owned()));
            }
        };
        let declared = bmc.public_key_sha256.as_ref().map(|key| format!("sha256:{}", key.as_str()));
        let pin = declared
            .or(pin)
            .map(|p| p.parse())
            .transpose()
            .map_err(|e: crate::bmc::pin::PinError| wrong(e.to_string()))?;
        Ok(BmcTarget { address, user: bmc.username.as_str().to_owned(), password, pin })
    }
}

/// Firmware checks no hash: what it boots must be a file that this server has verified and serves itself.
fn own(image: VerifiedImage) -> Result<VerifiedImage, Failure> {
    if image.file().is_some() {
        return Ok(image);
    }
    let name = image.wire().name;
    Err(Failure::Lasting(format!(
        "image {name} is not on this server: what is booted from the network must be"
    )))
}
