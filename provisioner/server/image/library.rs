//! The images, shared by those who plan with them and those who serve them.

use super::{ImageError, Images, VerifiedImage};
use crate::inventory::ImageDeclaration;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// [`Images`] behind a lock. A file is hashed away from the threads that answer packets.
#[derive(Debug, Clone)]
pub struct Library(Arc<Mutex<Images>>);

impl Library {
    pub fn new(images: Images) -> Self {
        Self(Arc::new(Mutex::new(images)))
    }

    /// [`Images::verify`].
    pub async fn verify(&self, declared: ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        let images = self.0.clone();
        let verified = tokio::task::spawn_blocking(move || {
            images.lock().unwrap_or_else(PoisonError::into_inner).verify(&declared)
        });
        match verified.await {
            Ok(verified) => verified,
            // The task was not cancelled, so it has panicked: the panic goes on where it can be seen.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// [`Images::file_of`]. Waits for a file that is being hashed.
    pub async fn file_of(&self, sha256: String) -> Option<PathBuf> {
        let images = self.0.clone();
        let found = tokio::task::spawn_blocking(move || {
            images.lock().unwrap_or_else(PoisonError::into_inner).file_of(&sha256).map(PathBuf::from)
        });
        found.await.ok().flatten()
    }
}
