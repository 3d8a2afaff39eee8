//! Signatures: who must have signed an image, and whether they have. In: a declared policy, a fetched file, the time.
//! Out: nothing, or a [`Distrust`] with its place in the declaration, the key, and what to do.

mod cosign;
mod key;
mod metadata;
mod minisign;
pub mod shelf;
pub mod tuf;

use super::source::Fetched;
use crate::{
    inventory::{
        ImageDeclaration, RelativePath, SignaturePolicy, SignaturesRequired,
        signature::{Cosign, GIVEN_MAX, Given, Tuf, TufRepository},
    },
    machine::Time,
    reach::{Client, Rules},
};
use provisioner_wire::chunks::Sha;
use shelf::{Folder, Memory, Shelf, Web, bounded};
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Why a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}{}; {todo}", key.as_ref().map(|k| format!(" (declared key {k})")).unwrap_or_default())]
pub struct Distrust {
    /// JSON path in the declaration.
    place: String,
    key: Option<String>,
    what: String,
    todo: String,
}

impl Distrust {
    /// `place` is below `signature`.
    fn new(place: String, what: String, todo: &str) -> Self {
        let place = format!("signature.{place}");
        Self { place, key: None, what, todo: todo.to_owned() }
    }

    fn by(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }
}

/// What the site trusts, and what was found good before.
pub struct Trust {
    required: SignaturesRequired,
    /// Files of policies are below it.
    images: PathBuf,
    /// What was seen of TUF repositories.
    seen: PathBuf,
    now: Box<dyn Fn() -> Time + Send + Sync>,
    /// To TUF repositories by URL; without one, by the rules that hold where the site says nothing.
    client: Option<Client>,
    /// Policy and file → until when the signature needs no second look. Only signatures that held.
    held: Mutex<HashMap<Sha, Time>>,
    /// One update of TUF metadata at a time: two would race for what was seen last.
    updating: Mutex<()>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({:?})", self.required)
    }
}

impl Trust {
    /// `images` is the images folder, `data_dir` where TUF's memory is kept, `now` the clock.
    pub fn new(
        required: SignaturesRequired,
        images: &Path,
        data_dir: &Path,
        now: Box<dyn Fn() -> Time + Send + Sync>,
    ) -> Self {
        let (images, seen) = (images.to_owned(), data_dir.join("trust"));
        let (held, updating) = (Mutex::default(), Mutex::default());
        Self { required, images, seen, now, client: None, held, updating }
    }

    /// TUF repositories by URL are asked by this client.
    pub fn reaching(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// No image needs a signature, and with no clock no TUF metadata is fresh.
    pub(super) fn timeless(images: &Path) -> Self {
        Self::new(SignaturesRequired::None, images, images, Box::new(|| Time(i64::MAX)))
    }

    pub fn required(&self) -> &SignaturesRequired {
        &self.required
    }

    /// Whether the site and the declaration's policy accept the file. Blocks.
    pub(super) fn judge(&self, declared: &ImageDeclaration, fetched: &Fetched) -> Result<(), Distrust> {
        if let Some(what) = self.required.complaint(declared) {
            let todo = "or have the site's list changed".to_owned();
            return Err(Distrust { place: "signature".to_owned(), key: None, what, todo });
        }
        let Some(policy) = &declared.signature else { return Ok(()) };
        let now = (self.now)();
        let mark = mark(policy, fetched);
        let known = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(&mark).copied();
        if known.is_some_and(|until| now < until) {
            return Ok(());
        }
        let until = match policy {
            SignaturePolicy::Minisign(policy) => {
                let signature = self.text("minisign.signature", &policy.signature)?;
                minisign::check(policy, &signature, &fetched.path)?;
                Time(i64::MAX)
            }
            SignaturePolicy::Cosign(policy) => {
                self.cosign(policy, fetched)?;
                Time(i64::MAX)
            }
            SignaturePolicy::Tuf(policy) => self.tuf(policy, fetched, now)?,
        };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(mark, until);
        Ok(())
    }

    fn cosign(&self, policy: &Cosign, fetched: &Fetched) -> Result<(), Distrust> {
        let signature = policy.signature.as_ref().map(|s| self.text("cosign.signature", s)).transpose()?;
        let payload = policy.payload.as_ref().map(|p| self.given("cosign.payload", p)).transpose()?;
        let shown: Vec<cosign::Shown<'_>> = match &signature {
            Some(signature) => vec![cosign::Shown { signature, payload: payload.as_deref() }],
            None => fetched
                .signatures
                .iter()
                .map(|s| cosign::Shown { signature: &s.signature, payload: Some(&s.payload) })
                .collect(),
        };
        cosign::check(policy, &shown, fetched)
    }

    fn tuf(&self, policy: &Tuf, fetched: &Fetched, now: Time) -> Result<Time, Distrust> {
        let root = self.given("tuf.root", &policy.root)?;
        let (shelf, name) = self.shelf(&policy.repository)?;
        let _one = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = Memory::of(&self.seen, &name, &root)
            .map_err(|e| Distrust::new("tuf".into(), e.to_string(), "see the data folder's disk"))?;
        let answer = tuf::target(&*shelf, &memory, &root, &policy.target, now)
            .map_err(|e| Distrust::new(tuf_place(&e).into(), format!("{name}: {e}"), tuf_todo(&e)))?;
        let sha256 = Sha::from_hex(&fetched.sha256).unwrap_or(Sha([0; 32]));
        tuf::fits(&answer.target, fetched.size, &sha256, &fetched.sha512).map_err(|what| {
            let what = format!("{what} ({})", policy.target);
            Distrust::new("tuf.target".into(), what, "declare the file that the repository speaks of")
        })?;
        Ok(answer.until)
    }

    fn shelf(&self, repository: &TufRepository) -> Result<(Box<dyn Shelf>, String), Distrust> {
        let wrong = |what: String| Distrust::new("tuf.repository".into(), what, "see that it is there");
        match repository {
            TufRepository::Folder(path) => {
                let folder = self.inside(path).map_err(|e| wrong(format!("{path}: {e}")))?;
                Ok((Box::new(Folder(folder)), path.to_string()))
            }
            TufRepository::Url(base) => {
                let usual = || Client::new(Rules::with_private(), None);
                let client = self.client.clone().map_or_else(usual, Ok);
                let client = client.map_err(|e| wrong(e.to_string()))?;
                let runtime = tokio::runtime::Handle::try_current().map_err(|e| wrong(e.to_string()))?;
                Ok((Box::new(Web { base: base.clone(), client, runtime }), base.to_string()))
            }
        }
    }

    fn text(&self, place: &str, given: &Given) -> Result<String, Distrust> {
        String::from_utf8(self.given(place, given)?)
            .map_err(|_| Distrust::new(place.to_owned(), "it is not text".to_owned(), "give the right file"))
    }

    fn given(&self, place: &str, given: &Given) -> Result<Vec<u8>, Distrust> {
        let wrong = |what: String| Distrust::new(place.to_owned(), what, "put it into the images folder");
        match given {
            Given::Text(text) => Ok(text.clone().into_bytes()),
            Given::File(path) => {
                let read = self.inside(path).and_then(|file| bounded(File::open(file)?, GIVEN_MAX as u64));
                read.map_err(|e| wrong(format!("{path}: {e}")))
            }
        }
    }

    /// No symbolic link leads out of the images folder.
    fn inside(&self, path: &RelativePath) -> io::Result<PathBuf> {
        let found = fs::canonicalize(self.images.join(path.as_str()))?;
        if found.starts_with(fs::canonicalize(&self.images)?) {
            return Ok(found);
        }
        Err(io::Error::other("it leads out of the images folder"))
    }
}

/// Of everything that a signature which held depends on, but the time.
fn mark(policy: &SignaturePolicy, fetched: &Fetched) -> Sha {
    let mut text = serde_json::to_vec(policy).unwrap_or_default();
    text.extend_from_slice(fetched.sha256.as_bytes());
    text.extend_from_slice(fetched.manifest_digest.as_deref().unwrap_or_default().as_bytes());
    Sha::of(&text)
}

fn tuf_place(error: &tuf::TufError) -> &'static str {
    match error {
        tuf::TufError::NoTarget { .. } => "tuf.target",
        _ => "tuf.repository",
    }
}

fn tuf_todo(error: &tuf::TufError) -> &'static str {
    use tuf::TufError as E;
    match error {
        E::Fetch { .. } | E::Missing { .. } => "see that the repository can be reached",
        E::Malformed { .. } | E::Mixed { .. } => "have the repository published again, whole",
        E::Signatures { .. } => "have it signed by those keys, or declare the root that names other ones",
        E::Rollback { .. } => "somebody offers an old state: have the repository's present state published",
        E::Expired { .. } => {
            "have its role sign anew: it is not kept fresh, or somebody holds new metadata back"
        }
        E::NoTarget { .. } => "see the target's path, and that its role is delegated to",
        E::Memory { .. } => "see the data folder's disk",
    }
}
