//! What a registry's references have come to. A tag is asked for once: from then on it is a digest.

use super::{NotFetched, RegistrySignature};
use crate::inventory::{ImageDeclaration, ImageSource, OciReference, SignaturePolicy};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub reference: OciReference,
    pub architecture: String,
    /// Digest, `sha256:…`.
    pub manifest: String,
    /// Hexadecimal.
    pub layer: String,
    pub layer_bytes: u64,
    /// The disk is a file in that layer.
    pub inside: bool,
    pub signatures: Vec<RegistrySignature>,
}

impl Pin {
    /// The disk, below the folder of fetched files.
    pub fn path(&self, folder: &Path) -> PathBuf {
        folder.join(if self.inside { format!("{}.disk", self.layer) } else { self.layer.clone() })
    }
}

/// One file for each image.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn file(&self, declared: &ImageDeclaration) -> PathBuf {
        self.0.join(format!("{}.json", declared.name))
    }

    /// Of this very reference: another one is asked for anew.
    pub fn get(&self, declared: &ImageDeclaration) -> Option<Pin> {
        let ImageSource::Oci(reference) = &declared.source else { return None };
        let bytes = fs::read(self.file(declared)).ok()?;
        let pin: Pin = serde_json::from_slice(&bytes).ok()?;
        (pin.reference == *reference && pin.architecture == architecture(declared)).then_some(pin)
    }

    pub fn keep(&self, declared: &ImageDeclaration, pin: &Pin) -> Result<(), NotFetched> {
        let path = self.file(declared);
        let io = |source| NotFetched::Io { path: path.clone(), source };
        let bytes = serde_json::to_vec_pretty(pin).map_err(|e| io(e.into()))?;
        fs::create_dir_all(&self.0).map_err(io)?;
        let mut aside = tempfile::NamedTempFile::new_in(&self.0).map_err(io)?;
        io::Write::write_all(&mut aside, &bytes).and_then(|()| aside.as_file().sync_all()).map_err(io)?;
        aside.persist(&path).map(|_| ()).map_err(|e| io(e.error))
    }
}

/// Which one of an index.
pub fn architecture(declared: &ImageDeclaration) -> String {
    declared.architecture.as_ref().map_or("amd64", |a| a.as_str()).to_owned()
}

/// Whether the declaration leaves it to the registry to have cosign's signatures.
pub fn wants_signatures(declared: &ImageDeclaration) -> bool {
    matches!(&declared.signature, Some(SignaturePolicy::Cosign(cosign)) if cosign.signature.is_none())
}
