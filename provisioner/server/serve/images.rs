//! The declared images, taken in when the server starts and when one is declared, so that the first workflow need not
//! wait; and what nobody needs, removed.

use crate::{
    clock::Clock,
    http::content::{ImageCheck, ImageState, ImagesRemoved},
    image::{
        Images, Removed,
        custody::{Needs, Running, TellsNeeds},
        intake::{Form, Intake},
    },
    inventory::{ImageDeclaration, Profile},
    store::{self, Db, declared},
};
use anyhow::Result;
use provisioner_wire::chunks::Sha;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

/// How soon a new declaration is seen, whichever server took it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at how far images are.
const PACE: Duration = Duration::from_secs(1);

/// Ends only with the server.
pub async fn take_in_all(db: Db, images: Arc<Images>, clock: Clock) -> Result<()> {
    if let Err(why) = collect(&db, &images, false).await {
        tracing::info!("nothing is removed of the images: {why}");
    }
    let now = clock.clone();
    let mut intake = Intake::new(images.clone(), move || now.now());
    let mut looked = tokio::time::interval(LOOK_EVERY);
    let mut paced = tokio::time::interval(PACE);
    loop {
        tokio::select! {
            _ = looked.tick() => intake.take_in(wanted(&db).await?),
            _ = paced.tick() => images.look(clock.now()),
        }
    }
}

/// A kernel is served as it is.
async fn wanted(db: &Db) -> Result<Vec<(ImageDeclaration, Form)>> {
    let mut tx = db.read().await?;
    let profiles: Vec<Profile> = declared::all(&mut tx, declared::Kind::Profile).await?;
    let images: Vec<ImageDeclaration> = declared::all(&mut tx, declared::Kind::Image).await?;
    let is_whole = |image: &ImageDeclaration| profiles.iter().any(|profile| profile.netboots(&image.name));
    let form = |image: &ImageDeclaration| if is_whole(image) { Form::Whole } else { Form::Chunks };
    Ok(images.into_iter().map(|image| (image.clone(), form(&image))).collect())
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
        said: taken.sentence(),
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
