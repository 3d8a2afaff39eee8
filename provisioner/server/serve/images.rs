//! The declared images, taken in when the server starts and when one is declared, so that the first workflow need not
//! wait; and what nobody needs, removed.

use crate::{
    http::content::{ImageCheck, ImageState, ImagesRemoved},
    image::{
        Images, Removed,
        custody::{Needs, Running, TellsNeeds},
    },
    inventory::{ImageDeclaration, Profile},
    store::{self, Db, declared},
};
use anyhow::Result;
use provisioner_wire::chunks::Sha;
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

/// How soon a new declaration is seen, whichever server took it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After a failure that may pass by itself.
const AGAIN_AFTER: Duration = Duration::from_secs(300);

/// Ends only with the server.
pub async fn take_in_all(db: Db, images: Arc<Images>) -> Result<()> {
    if let Err(why) = collect(&db, &images, false).await {
        tracing::info!("nothing is removed of the images: {why}");
    }
    let mut seen = Seen::default();
    take_in_new(&db, &images, &mut seen).await?;
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

/// What is declared, and what workflows run.
pub struct InStore(pub Db);

impl TellsNeeds for InStore {
    fn needs(&self) -> Pin<Box<dyn Future<Output = Result<Needs, String>> + Send + '_>> {
        Box::pin(async {
            let text = |error: store::StoreError| error.to_string();
            let mut tx = self.0.read().await.map_err(text)?;
            let declared = declared::all(&mut tx, declared::Kind::Image).await.map_err(text)?;
            let machines = store::machines::all(&mut tx).await.map_err(text)?;
            Ok(Needs { declared, running: machines.iter().filter_map(Running::of).collect() })
        })
    }
}

/// Removes what neither a declaration nor a running workflow names.
pub async fn collect(db: &Db, images: &Arc<Images>, dry_run: bool) -> Result<ImagesRemoved, String> {
    let Removed { manifests, chunks, files, bytes } = images.collect(&InStore(db.clone()), dry_run).await?;
    if !dry_run && manifests + chunks + files > 0 {
        tracing::info!(manifests, chunks, files, bytes, "old images removed");
    }
    Ok(ImagesRemoved { dry_run, manifests, chunks, files, bytes })
}
