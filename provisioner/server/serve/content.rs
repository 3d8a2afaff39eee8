//! What the routes ask of inventory, rendering, tokens and images.

use super::{House, certificates, images};
use crate::{
    cluster::{Clusters, Trouble},
    http::{
        boot::REDACTED,
        checked,
        content::{
            Answer, Change, Checked, Content, Declared, Facts, ImageCheck, ImageState, ImagesRemoved, Piece,
            Rendered, Unrendered,
        },
        error::Problem,
    },
    image::{self, ImageError, Images, bounds::Bounds, custody::Running},
    inventory::{
        Cluster, Hardware, ImageDeclaration, Profile, RecordName, SignaturesRequired, matching::choose_disk,
    },
    machine::{Machine, Time},
    os::{self, Run, Site},
    render::Templates,
    secret::Keyring,
    store::{self, Db, declared},
    token::MintRequest,
};
use provisioner_wire::{
    MachineName, chunks::Sha, ids::hex, order::Config, report::Disk, wipe::SignedCertificate,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

pub struct Real {
    db: Db,
    keyring: Arc<Keyring>,
    templates: Arc<Templates>,
    images: Arc<Images>,
    clusters: Arc<Clusters>,
    site: Arc<dyn Fn(&MachineName) -> Site + Send + Sync>,
    secrets_dir: Option<PathBuf>,
    signatures: SignaturesRequired,
    bounds: Bounds,
}

impl Real {
    pub fn new(house: &House) -> Self {
        Self {
            db: house.db.clone(),
            keyring: house.keyring.clone(),
            templates: house.templates.clone(),
            images: house.images.clone(),
            clusters: house.clusters.clone(),
            site: house.site.clone(),
            secrets_dir: house.config.hardware_dir.clone(),
            signatures: house.config.signatures.required.clone(),
            bounds: (&house.config.images).into(),
        }
    }

    /// What the site has against an image as it is declared: that nobody signs it, or its size.
    fn complaint(&self, spec: &Value) -> Option<Problem> {
        let image = ImageDeclaration::deserialize(spec).ok()?;
        let problem = |place: &str, what| Problem { place: place.to_owned(), what };
        let unsigned = self.signatures.complaint(&image).map(|what| problem("signature", what));
        let large = self.bounds.check(image.raw_size.map(|size| size.0)).err();
        unsigned.or_else(|| large.map(|what| problem("raw_size", what.to_string())))
    }

    async fn hardware(&self, machine: &Machine) -> Result<Hardware, String> {
        let mut tx = self.db.read().await.map_err(|e| e.to_string())?;
        let found = declared::get(&mut tx, declared::Kind::Machine, machine.name.as_str()).await;
        found.map_err(|e| e.to_string())?.ok_or_else(|| format!("{} is not declared", machine.name))
    }

    async fn check_provision(
        &self,
        machine: &Machine,
        profile: Option<&str>,
    ) -> Result<String, Vec<Problem>> {
        let problem = |place: &str, what: String| vec![Problem { place: place.to_owned(), what }];
        let hardware = self.hardware(machine).await.map_err(|e| problem("", e))?;
        let named = profile.or(hardware.profile.as_ref().map(RecordName::as_str));
        let name = named
            .ok_or_else(|| problem("profile", format!("{} has no profile; say which", machine.name)))?
            .to_owned();
        let mut tx = self.db.read().await.map_err(|e| problem("", e.to_string()))?;
        let profile: Option<Profile> = declared::get(&mut tx, declared::Kind::Profile, &name)
            .await
            .map_err(|e| problem("profile", e.to_string()))?;
        let profile = profile.ok_or_else(|| problem("profile", format!("there is no profile {name}")))?;
        let image: Option<ImageDeclaration> =
            declared::get(&mut tx, declared::Kind::Image, profile.image.as_str())
                .await
                .map_err(|e| problem("profile.image", e.to_string()))?;
        drop(tx);
        let image =
            image.ok_or_else(|| problem("profile.image", format!("there is no image {}", profile.image)))?;
        match self.images.verified(&image).await {
            // The engine fetches it before any power change.
            Ok(_) | Err(ImageError::NotFetched { .. }) => {}
            Err(error) => return Err(problem("profile.image", error.to_string())),
        }
        let told = |ps: Vec<crate::inventory::Problem>| {
            ps.into_iter().map(|p| Problem { place: p.place, what: p.message }).collect::<Vec<_>>()
        };
        let cluster = self.cluster(&profile).await.map_err(|e| problem("profile.cluster", e))?;
        let site = (self.site)(&machine.name);
        let config = os::preflight(&self.templates, &profile, &hardware, &site, cluster.as_ref());
        os::pointer::fetchable(&profile, &config.map_err(told)?).map_err(|e| problem("profile", e))?;
        Ok(name)
    }

    async fn rendered(&self, machine: &Machine, now: Time) -> Result<Rendered, Unrendered> {
        let hardware = self.hardware(machine).await?;
        let frozen = machine.target().map(|t| t.profile.clone()).ok_or("no target was frozen")?;
        let profile: Profile = serde_json::from_value(frozen).map_err(|e| e.to_string())?;
        let minted_for = machine.minted_for().ok_or("nobody has claimed the machine")?;
        let request = MintRequest {
            machine: &machine.name,
            generation: machine.generation,
            boot_hash: minted_for,
            ttl: profile.token.ttl.duration(),
        };
        let cluster = self.cluster(&profile).await?;
        let grant = self.clusters.mint(&profile, cluster.as_ref(), &request, now).await?;
        let site = (self.site)(&machine.name);
        let disk = disk(machine, &profile, &hardware);
        let run = Run { generation: machine.generation, disk: disk.as_ref() };
        let config = os::config(&self.templates, &profile, &hardware, run, &site, cluster.as_ref(), &grant)
            .map_err(|ps| ps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let mut hasher = Sha256::new();
        for file in &config.files {
            hasher.update(file.name.as_bytes());
            hasher.update([0]);
            hasher.update(file.contents.as_bytes());
            hasher.update([0]);
        }
        let token_hash = grant.hash.as_str().to_owned();
        Ok(Rendered {
            config,
            token_hash,
            token_expires: grant.expires,
            config_hash: hex(&hasher.finalize()),
        })
    }

    /// The profile that is frozen for the workflow, or the one that the record names.
    async fn previewed(&self, machine: &Machine) -> Result<Config, String> {
        let hardware = self.hardware(machine).await?;
        let frozen =
            machine.target().map(|t| t.profile.clone()).filter(|p| machine.is_busy() && !p.is_null());
        let profile: Profile = match frozen {
            Some(frozen) => serde_json::from_value(frozen).map_err(|e| e.to_string())?,
            None => {
                let name =
                    hardware.profile.as_ref().ok_or_else(|| format!("{} has no profile", machine.name))?;
                let mut tx = self.db.read().await.map_err(|e| e.to_string())?;
                let found = declared::get(&mut tx, declared::Kind::Profile, name.as_str()).await;
                found.map_err(|e| e.to_string())?.ok_or_else(|| format!("there is no profile {name}"))?
            }
        };
        let (site, grant) = ((self.site)(&machine.name), os::dummy(&profile));
        let cluster = self.cluster(&profile).await?;
        let disk = disk(machine, &profile, &hardware);
        let run = Run { generation: machine.generation, disk: disk.as_ref() };
        let rendered = os::config(&self.templates, &profile, &hardware, run, &site, cluster.as_ref(), &grant);
        let mut config =
            rendered.map_err(|ps| ps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        os::redact(&mut config, &grant.secrets(), REDACTED);
        Ok(config)
    }

    async fn cluster(&self, profile: &Profile) -> Result<Option<Cluster>, String> {
        let Some(name) = &profile.cluster else { return Ok(None) };
        self.clusters.record(name.as_str()).await.map(Some).map_err(|e| e.to_string())
    }

    /// Of a declared image, or of one that a running workflow has although it is declared otherwise by now.
    async fn image_with(&self, sha256: &str) -> Option<PathBuf> {
        let mut tx = self.db.read().await.ok()?;
        let images: Vec<ImageDeclaration> = declared::all(&mut tx, declared::Kind::Image).await.ok()?;
        drop(tx);
        for image in images {
            if let Ok(verified) = self.images.verified(&image).await
                && verified.sha256() == sha256
            {
                return verified.file().map(PathBuf::from);
            }
        }
        let machines = store::machines::all(&mut self.db.read().await.ok()?).await.ok()?;
        let running = machines.iter().filter_map(Running::of).filter_map(|running| running.images);
        let is_needed = running.flatten().any(|image| image.sha256 == sha256);
        is_needed.then(|| self.images.with_sha256(sha256)).flatten()
    }
}

/// The disk of the licence; without one, that which the hints name among the disks that an agent has seen.
fn disk(machine: &Machine, profile: &Profile, hardware: &Hardware) -> Option<Disk> {
    let report = machine.report.as_ref()?;
    let licensed = machine.licence.as_ref().and_then(|licence| licence.disks.first());
    match licensed {
        Some(licensed) => report.disks.iter().find(|disk| disk.identity() == *licensed).cloned(),
        None => choose_disk(profile.disk_of(hardware), report).ok(),
    }
}

impl From<Trouble> for Unrendered {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(reason) => Self::Later(reason),
            Trouble::Lasting(reason) => Self::Never(reason),
        }
    }
}

impl Content for Real {
    fn image_waits(&self, declared: &ImageDeclaration) -> Option<String> {
        let taken = self.images.taken(declared);
        (taken.phase != image::progress::Phase::Ready).then(|| taken.sentence())
    }

    fn image_state<'a>(&'a self, name: &'a str) -> Answer<'a, Result<ImageState, String>> {
        Box::pin(images::state(&self.db, &self.images, name))
    }

    fn verify_image<'a>(&'a self, name: &'a str) -> Answer<'a, Result<ImageCheck, String>> {
        Box::pin(images::verify(&self.db, &self.images, name))
    }

    fn collect_images(&self, dry_run: bool) -> Answer<'_, Result<ImagesRemoved, String>> {
        Box::pin(images::collect(&self.db, &self.images, dry_run))
    }

    fn check(&self, declared: &Declared, change: Change<'_>) -> Result<Checked, Vec<Problem>> {
        let complaint = match &change {
            Change::Put { kind: declared::Kind::Image, spec, .. } => self.complaint(spec),
            _ => None,
        };
        let checked = checked::check(declared, change, &names(&self.templates), self.secrets_dir.as_deref())?;
        match complaint {
            Some(problem) => Err(vec![problem]),
            None => Ok(checked),
        }
    }

    fn facts(&self, spec: &Value) -> Facts {
        checked::facts(spec)
    }

    fn preflight<'a>(
        &'a self,
        machine: &'a Machine,
        profile: Option<&'a str>,
    ) -> Answer<'a, Result<String, Vec<Problem>>> {
        Box::pin(self.check_provision(machine, profile))
    }

    fn render<'a>(&'a self, machine: &'a Machine, now: Time) -> Answer<'a, Result<Rendered, Unrendered>> {
        Box::pin(self.rendered(machine, now))
    }

    fn preview<'a>(&'a self, machine: &'a Machine) -> Answer<'a, Result<Config, String>> {
        Box::pin(self.previewed(machine))
    }

    fn image_file<'a>(&'a self, sha256: &'a str) -> Answer<'a, Option<PathBuf>> {
        Box::pin(self.image_with(sha256))
    }

    fn piece(&self, piece: Piece, sha256: &Sha) -> Option<PathBuf> {
        let store = self.images.chunks()?;
        Some(match piece {
            Piece::Manifest => store.manifest_file(sha256),
            Piece::Chunk => store.chunk_file(sha256),
        })
    }

    fn read_back<'a>(
        &'a self,
        root: Sha,
        nonce: provisioner_wire::read_back::Nonce,
        disk_bytes: u64,
    ) -> Answer<'a, Result<String, String>> {
        let store = self.images.chunks().cloned();
        Box::pin(async move {
            let store = store.ok_or("this server keeps no chunks")?;
            let work = move || image::read_back::expected(&store, &root, &nonce, disk_bytes);
            let done = tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?;
            done.map_err(|e| format!("the chunks of {root}: {e}"))
        })
    }

    fn certify(&self, certificate: String) -> Result<SignedCertificate, String> {
        certificates::sign(&self.keyring, certificate)
    }

    fn seal(&self, owner: &str, field: &str, secret: &SecretString) -> Result<Vec<u8>, String> {
        self.keyring.seal(owner, field, secret.expose_secret().as_bytes()).map_err(|e| e.to_string())
    }
}

/// The template sets that profiles may name.
pub fn names(templates: &Templates) -> BTreeSet<RecordName> {
    templates.names().iter().filter_map(|name| name.parse().ok()).collect()
}
