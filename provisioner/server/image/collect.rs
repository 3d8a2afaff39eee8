//! Removes what nobody needs: manifests with their chunks, and fetched files. A collection is alone first and asks what is
//! needed then, so that nothing can come to be needed in between.

use super::{
    Images,
    cache::Stamp,
    chunks::ChunkStore,
    custody::{Alone, Keep, TellsNeeds},
    progress::Phase,
    source::{Begun, Local},
};
use crate::inventory::{ImageDeclaration, ImageSource};
use provisioner_wire::chunks::Sha;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What nobody needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    pub manifests: u64,
    pub chunks: u64,
    /// Fetched files.
    pub files: u64,
    pub bytes: u64,
}

/// What is known of the chunks of a declared image.
enum Root {
    Known(Sha),
    /// It has none.
    None,
    /// Its file is being looked at.
    Untold,
}

impl Images {
    /// Who is asked when there is no room. Only the first is.
    pub fn needs_told_by(&self, needs: impl TellsNeeds + 'static) {
        let _ = self.needs.set(Box::new(needs));
    }

    /// Removes what neither `needs` nor anybody who works with images here needs; with `only_asked` it is only counted.
    /// Not while an image is taken in: its chunks may be half of what is there.
    pub async fn collect(
        self: &Arc<Self>,
        needs: &dyn TellsNeeds,
        only_asked: bool,
    ) -> Result<Removed, String> {
        let chunks = match &self.chunks {
            Some(store) => Some((
                Arc::clone(store),
                store.alone().ok_or("an image is being taken in or checked; ask again later")?,
            )),
            None => None,
        };
        let alone = self.custody.alone().await;
        let keep = self.custody.keep(&alone, needs.needs().await?);
        let roots = self.roots(&keep)?;
        let images = Arc::clone(self);
        // To its end, also when nobody waits for that any more, and alone until then.
        let work = move || -> Result<Removed, String> {
            let _alone = alone;
            let mut removed = Removed::default();
            if let Some((store, alone)) = chunks {
                let done = ChunkStore::collect(&store, &alone, only_asked, |root| roots.contains(root));
                let done = done.map_err(|e| e.to_string())?;
                (removed.manifests, removed.chunks) = (done.manifests as u64, done.chunks as u64);
                removed.bytes = done.bytes;
            }
            let (files, bytes) = images.collect_fetched(&keep, Begun::Stays, only_asked)?;
            removed.files = files as u64;
            removed.bytes += bytes;
            Ok(removed)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
    }

    /// Removes fetched files that nobody needs, and what was begun of other images and is not being fetched. True where
    /// that has made some room.
    pub(super) async fn make_room(&self, declared: &ImageDeclaration) -> bool {
        let Some(needs) = self.needs.get() else { return false };
        let alone: Alone = self.custody.alone().await;
        let removed = match needs.needs().await {
            Ok(needs) => {
                let keep = self.custody.keep(&alone, needs);
                self.collect_fetched(&keep, Begun::OnlyOf(declared), false)
            }
            Err(error) => Err(error),
        };
        drop(alone);
        match removed {
            Ok((files, bytes)) => {
                tracing::info!(image = %declared.name, files, bytes, "room is made for an image");
                files > 0
            }
            Err(error) => {
                tracing::warn!(image = %declared.name, "no room can be made: {error}");
                false
            }
        }
    }

    fn collect_fetched(
        &self,
        keep: &Keep,
        begun: Begun<'_>,
        only_asked: bool,
    ) -> Result<(usize, u64), String> {
        let Some(fetcher) = &self.fetcher else { return Ok((0, 0)) };
        let removed = fetcher.collect(keep, |path| self.known_hash(path), begun, only_asked);
        removed.map_err(|e| format!("fetched images: {e}"))
    }

    /// Of all manifests that stay.
    fn roots(&self, keep: &Keep) -> Result<HashSet<Sha>, String> {
        let frozen = keep.images.iter().filter_map(|image| Sha::from_hex(&image.chunks.as_ref()?.root));
        let mut roots: HashSet<Sha> = frozen.collect();
        for declared in &keep.declared {
            match self.root(declared) {
                Root::Known(root) => _ = roots.insert(root),
                Root::None => {}
                Root::Untold => return Err(format!("image {} is still being taken in", declared.name)),
            }
        }
        Ok(roots)
    }

    fn root(&self, declared: &ImageDeclaration) -> Root {
        let taken = self.taken(declared);
        if let Some(root) = taken.root.as_deref().and_then(Sha::from_hex) {
            return Root::Known(root);
        }
        let Some(store) = &self.chunks else { return Root::None };
        let local: Option<Local> = match &declared.source {
            ImageSource::File(_) => None,
            _ => self.fetcher.as_ref().and_then(|fetcher| fetcher.local(declared)),
        };
        let named = local.as_ref().and_then(|local| local.sha256.as_deref());
        let hash = match self.declared_sha256(declared, named) {
            Ok(hash) if !hash.is_empty() => Some(hash),
            _ => local.as_ref().and_then(|local| self.known_hash(&local.path)),
        };
        match hash {
            Some(hash) => store.root_of(&hash, declared.format).map_or(Root::None, Root::Known),
            // What failed has nothing to lose, nor has what is not here.
            None if local.is_none() || taken.phase == Phase::Failed => Root::None,
            None => Root::Untold,
        }
    }

    /// The SHA-256 of a file that was read and has not changed since.
    pub(super) fn known_hash(&self, path: &Path) -> Option<String> {
        let stamp = std::fs::metadata(path).ok()?;
        self.known().get(path, &(&stamp).into()).map(|contents| contents.sha256.clone())
    }

    /// The file with these very bytes: for a workflow whose image is declared otherwise by now, or no longer.
    pub fn with_sha256(&self, sha256: &str) -> Option<PathBuf> {
        let known = self.known().with_sha256(sha256);
        let unchanged = |(path, stamp): &(PathBuf, Stamp)| {
            std::fs::metadata(path).is_ok_and(|about| Stamp::from(&about) == *stamp)
        };
        known.into_iter().find(unchanged).map(|(path, _)| path)
    }
}
