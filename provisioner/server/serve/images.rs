//! The declared images, taken in when the server starts and when one is declared, so that the first workflow need not
//! wait; and what nobody needs, removed.

use crate::{
    http::content::{ImageCheck, ImageState, ImagesRemoved},
    image::{Images, progress::Phase},
    inventory::{ImageDeclaration, Profile},
    store::{self, Db, declared},
};
use anyhow::Result;
use provisioner_wire::chunks::Sha;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// How soon a new declaration is seen, whichever server took it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After a failure that may pass by itself.
const AGAIN_AFTER: Duration = Duration::from_secs(300);

/// Ends only with the server.
pub async fn take_in_all(db: Db, images: Arc<Images>) -> Result<()> {
    let mut seen = Seen::default();
    take_in_new(&db, &images, &mut seen).await?;
    if let Err(why) = collect(&db, &images, false).await {
        tracing::info!("nothing is removed of the images: {why}");
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        take_in_new(&db, &images, &mut seen).await?;
    }
}

/// What was taken in, as it was declared then; and when one that failed is tried again.
#[derive(Default)]
struct Seen(BTreeMap<String, (ImageDeclaration, Option<Instant>)>);

impl Seen {
    fn is_new(&self, image: &ImageDeclaration) -> bool {
        match self.0.get(image.name.as_str()) {
            Some((known, again)) => known != image || again.is_some_and(|at| Instant::now() >= at),
            None => true,
        }
    }
}

async fn take_in_new(db: &Db, images: &Images, seen: &mut Seen) -> Result<()> {
    let profiles: Vec<Profile> = declared::all(&mut db.read().await?, declared::Kind::Profile).await?;
    for image in declared(db).await? {
        if !seen.is_new(&image) {
            continue;
        }
        // Who asks for this image hears of it again, with the machine's name.
        // A kernel is served as it is.
        let whole = profiles.iter().any(|profile| profile.netboots(&image.name));
        let taken = if whole { images.here(&image).await } else { images.ready(&image).await };
        let again = match taken {
            Ok(_) => None,
            Err(error) => {
                tracing::warn!("{error}");
                (!error.is_lasting()).then(|| Instant::now() + AGAIN_AFTER)
            }
        };
        seen.0.insert(image.name.to_string(), (image, again));
    }
    Ok(())
}

async fn declared(db: &Db) -> Result<Vec<ImageDeclaration>, store::StoreError> {
    declared::all(&mut db.read().await?, declared::Kind::Image).await
}

async fn one(db: &Db, name: &str) -> Result<ImageDeclaration, String> {
    let mut tx = db.read().await.map_err(|e| e.to_string())?;
    let found = declared::get(&mut tx, declared::Kind::Image, name).await.map_err(|e| e.to_string())?;
    found.ok_or_else(|| format!("there is no image {name}"))
}

pub async fn state(db: &Db, images: &Images, name: &str) -> Result<ImageState, String> {
    let image = one(db, name).await?;
    let taken = images.taken(&image);
    let root = taken.root.as_deref().and_then(Sha::from_hex);
    let manifest = images.chunks().zip(root).and_then(|(chunks, root)| chunks.manifest(&root).ok());
    let packed = |m: &provisioner_wire::chunks::Manifest| {
        m.chunks.iter().flatten().map(|chunk| u64::from(chunk.packed_bytes)).sum()
    };
    Ok(ImageState {
        taken,
        pinned: images.fetcher().and_then(|fetcher| fetcher.pinned(&image)),
        raw_bytes: manifest.as_ref().map(|m| m.raw_bytes),
        packed_bytes: manifest.as_ref().map(packed),
    })
}

pub async fn verify(db: &Db, images: &Images, name: &str) -> Result<ImageCheck, String> {
    let image = one(db, name).await?;
    let checked = images.recheck(&image).await.map_err(|e| e.to_string())?;
    Ok(ImageCheck { chunks: checked.chunks, bytes: checked.bytes, damaged: checked.damaged })
}

/// Removes what neither a declaration nor a running workflow names. Not while a declared image is being taken in: its
/// chunks may be half of what is there.
pub async fn collect(db: &Db, images: &Images, dry_run: bool) -> Result<ImagesRemoved, String> {
    let text = |error: store::StoreError| error.to_string();
    let all = declared(db).await.map_err(text)?;
    let mut wanted = HashSet::new();
    for image in &all {
        let taken = images.taken(image);
        // What failed has nothing to lose: it may be the cache's limit that it failed for.
        if !matches!(taken.phase, Phase::Ready | Phase::Failed) {
            return Err(format!("image {} is still being taken in", image.name));
        }
        wanted.extend(taken.root.as_deref().and_then(Sha::from_hex));
    }
    for machine in store::machines::all(&mut db.read().await.map_err(text)?).await.map_err(text)? {
        let image = machine.target().and_then(|target| target.image.as_ref());
        let root = image.and_then(|image| Sha::from_hex(&image.chunks.as_ref()?.root));
        wanted.extend(root.filter(|_| machine.is_busy()));
    }
    let mut gone = ImagesRemoved { dry_run, ..ImagesRemoved::default() };
    if let Some(chunks) = images.chunks().cloned() {
        let done =
            tokio::task::spawn_blocking(move || chunks.collect(dry_run, |root| wanted.contains(root))).await;
        let done = done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        (gone.manifests, gone.chunks, gone.bytes) = (done.manifests as u64, done.chunks as u64, done.bytes);
    }
    if let Some(fetcher) = images.fetcher() {
        let (files, bytes) = fetcher.collect(&all, dry_run).map_err(|e| format!("fetched images: {e}"))?;
        gone.files = files as u64;
        gone.bytes += bytes;
    }
    if !dry_run && gone != ImagesRemoved::default() {
        let ImagesRemoved { manifests, chunks, files, bytes, .. } = gone;
        tracing::info!(manifests, chunks, files, bytes, "old images removed");
    }
    Ok(gone)
}
