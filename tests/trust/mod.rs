//! Signatures of images: made by the tools that people sign with, and everything that must be refused.

mod cosign;
mod minisign;
mod policy;
mod repository;
mod tuf;
mod web;

use provisioner::{
    image::{ImageError, VerifiedImage, source::Fetched, trust::Trust, verify::verify},
    inventory::{ImageDeclaration, SignaturesRequired, from_json},
    machine::Time,
    reach::{Client, Rules},
};
use provisioner_wire::ids::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use std::{fs, path::Path, process::Command};

/// An images folder with one image, `i.img`.
struct Site {
    folder: tempfile::TempDir,
    required: SignaturesRequired,
    now: Time,
    /// Of TUF repositories by URL.
    rules: Option<Rules>,
}

impl Site {
    fn new(image: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("i.img"), image).unwrap();
        Self { folder, required: SignaturesRequired::None, now: Time(1_800_000_000_000), rules: None }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// As after a restart: what was seen is on the disk only.
    fn trust(&self) -> Trust {
        let now = self.now;
        let data = self.path().join("data");
        let trust = Trust::new(self.required.clone(), self.path(), &data, Box::new(move || now));
        match &self.rules {
            Some(rules) => trust.reaching(Client::new(rules.clone(), None).unwrap()),
            None => trust,
        }
    }

    fn fetched(&self) -> Fetched {
        let path = self.path().join("i.img");
        let bytes = fs::read(&path).unwrap();
        Fetched {
            path,
            sha256: hex(&Sha256::digest(&bytes)),
            sha512: hex(&Sha512::digest(&bytes)),
            size: bytes.len() as u64,
            detected: "raw".to_owned(),
            manifest_digest: None,
            signatures: Vec::new(),
        }
    }

    fn declared(&self, signature: Option<&Value>) -> ImageDeclaration {
        let mut spec = json!({"name": "i", "source": {"file": "i.img"}, "format": "raw",
            "sha256": self.fetched().sha256});
        if let Some(signature) = signature {
            spec["signature"] = signature.clone();
        }
        from_json(&spec).unwrap()
    }

    fn verify_fetched(&self, fetched: &Fetched, signature: &Value) -> Result<VerifiedImage, ImageError> {
        let declared = self.declared(Some(signature));
        verify(fetched, &declared, &fetched.sha256, &self.trust())
    }

    fn verify(&self, signature: &Value) -> Result<VerifiedImage, ImageError> {
        self.verify_fetched(&self.fetched(), signature)
    }

    /// The refusal, which begins with the image's name and the JSON path.
    fn refusal(&self, signature: &Value) -> String {
        let error = self.verify(signature).unwrap_err().to_string();
        assert!(error.starts_with("image i: signature"), "{error}");
        error
    }

    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap()
    }

    /// A Debian tool in the images folder.
    fn run(&self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let done = Command::new(words[0]).args(&words[1..]).current_dir(self.path()).output();
        let done = done.unwrap_or_else(|e| panic!("{}: {e}: install the Debian package", words[0]));
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
