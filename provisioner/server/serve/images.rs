//! The declared images, taken in when the server starts, so that the first workflow need not wait; and chunks that
//! nobody needs, removed.

use crate::{
    image::Images,
    inventory::{ImageDeclaration, Profile},
    store::{self, Db, declared},
};
use anyhow::Result;
use provisioner_wire::chunks::Sha;
use std::{collections::HashSet, sync::Arc};

/// Ends only with the server.
pub async fn take_in_all(db: Db, images: Arc<Images>) -> Result<()> {
    let mut tx = db.read().await?;
    let mut declared: Vec<ImageDeclaration> = declared::all(&mut tx, declared::Kind::Image).await?;
    let profiles: Vec<Profile> = declared::all(&mut tx, declared::Kind::Profile).await?;
    drop(tx);
    // A kernel is served as it is.
    declared.retain(|image| !profiles.iter().any(|profile| profile.netboots(&image.name)));
    let mut wanted = HashSet::new();
    let mut whole = true;
    for image in &declared {
        match images.ready(image).await {
            Ok(ready) => wanted.extend(ready.root()),
            Err(error) => {
                // Who asks for this image hears of it again, with the machine's name.
                tracing::warn!("{error}");
                whole = false;
            }
        }
    }
    if whole {
        collect(&db, &images, wanted).await?;
    }
    std::future::pending().await
}

/// Removes what neither a declaration nor a running workflow names.
async fn collect(db: &Db, images: &Images, mut wanted: HashSet<Sha>) -> Result<()> {
    let Some(chunks) = images.chunks().cloned() else { return Ok(()) };
    for machine in store::machines::all(&mut db.read().await?).await? {
        let image = machine.target().and_then(|target| target.image.as_ref());
        let root = image.and_then(|image| Sha::from_hex(&image.chunks.as_ref()?.root));
        wanted.extend(root.filter(|_| machine.is_busy()));
    }
    let gone = tokio::task::spawn_blocking(move || chunks.collect(|root| wanted.contains(root))).await??;
    if gone != Default::default() {
        tracing::info!(
            manifests = gone.manifests,
            chunks = gone.chunks,
            bytes = gone.bytes,
            "old images removed"
        );
    }
    Ok(())
}
