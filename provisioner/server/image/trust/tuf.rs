//! A client of TUF repositories (specification 1.0, §5), which only asks what a target must be: nothing is downloaded but
//! metadata. The time is handed in, and what was seen is kept durably, so that no older metadata is ever believed again.
//!
//! Not the crate `tough`: it brings a second TLS and crypto provider (aws-lc-rs, which deny.toml refuses), reads the
//! clock itself, and begins with the first root again each time.

use super::{
    metadata::{Delegated, Index, Meta, Root, Signed, Target, Targets, read},
    shelf::{Memory, Shelf},
};
use crate::machine::Time;
use provisioner_wire::chunks::Sha;
use std::{collections::BTreeSet, io};

const ROOT_MAX: u64 = 512 << 10;
const TIMESTAMP_MAX: u64 = 64 << 10;
const SNAPSHOT_MAX: u64 = 8 << 20;
const TARGETS_MAX: u64 = 32 << 20;
/// New roots that one update follows, and roles that one search asks.
const ROOTS_MAX: u64 = 256;
const ROLES_MAX: usize = 32;

/// Why a repository says nothing that can be believed.
#[derive(Debug, thiserror::Error)]
pub enum TufError {
    #[error("{file} cannot be read: {source}")]
    Fetch { file: String, source: io::Error },
    #[error("there is no {file}")]
    Missing { file: String },
    #[error("{file} is malformed: {what}")]
    Malformed { file: String, what: String },
    #[error("{file} has {have} of {need} needed signatures by the keys {keys}")]
    Signatures { file: String, have: usize, need: u32, keys: String },
    #[error("{file} has version {offered}, but version {seen} was seen before: it was rolled back")]
    Rollback { file: String, offered: u64, seen: u64 },
    #[error("{file} expired at {expires}")]
    Expired { file: String, expires: String },
    #[error("{file} is not the one that the repository's signed metadata names")]
    Mixed { file: String },
    #[error("no role that may speak of it has a target {path}")]
    NoTarget { path: String },
    #[error("what was seen before cannot be kept: {source}")]
    Memory { source: io::Error },
}

/// What the repository says of a target, and until when that may be believed without asking again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub target: Target,
    pub until: Time,
}

/// One update of what is known, in the order of §5.
struct Client<'a> {
    shelf: &'a dyn Shelf,
    memory: &'a Memory,
    now: Time,
    until: Time,
}

/// What `path` must be, as the repository on `shelf` says at `now`. `first_root` is trusted where nothing was seen yet.
pub fn target(
    shelf: &dyn Shelf,
    memory: &Memory,
    first_root: &[u8],
    path: &str,
    now: Time,
) -> Result<Answer, TufError> {
    let mut client = Client { shelf, memory, now, until: Time(i64::MAX) };
    let root = client.root(first_root)?;
    let timestamp = client.timestamp(&root)?;
    let snapshot = client.snapshot(&root, &timestamp)?;
    let target = client.search(&root, &snapshot, path)?;
    Ok(Answer { target, until: client.until })
}

impl Client<'_> {
    fn fetch(&self, file: &str, most: u64) -> Result<Option<Vec<u8>>, TufError> {
        self.shelf.get(file, most).map_err(|source| TufError::Fetch { file: file.to_owned(), source })
    }

    fn need(&self, file: &str, most: u64) -> Result<Vec<u8>, TufError> {
        self.fetch(file, most)?.ok_or_else(|| TufError::Missing { file: file.to_owned() })
    }

    fn recall(&self, file: &str) -> Result<Option<Vec<u8>>, TufError> {
        self.memory.get(file).map_err(|source| TufError::Memory { source })
    }

    fn remember(&self, file: &str, bytes: &[u8]) -> Result<(), TufError> {
        self.memory.put(file, bytes).map_err(|source| TufError::Memory { source })
    }

    /// Not expired; and the answer lives no longer than this.
    fn fresh<T>(&mut self, signed: &Signed<T>) -> Result<(), TufError> {
        self.until = self.until.min(signed.fresh(self.now)?);
        Ok(())
    }

    /// §5.3: each next root is signed by the one before and by itself.
    fn root(&mut self, first: &[u8]) -> Result<Signed<Root>, TufError> {
        let own = |bytes: &[u8], file: &str| {
            let unproven: Signed<Root> = read(bytes, file, "root", &[])?;
            read::<Root>(bytes, file, "root", &[unproven.body.role("root")?])
        };
        let mut root = match self.recall("root.json")? {
            Some(bytes) => own(&bytes, "root.json")?,
            None => {
                let root = own(first, "the first root")?;
                self.remember("root.json", first)?;
                root
            }
        };
        for _ in 0..ROOTS_MAX {
            let next = root.version + 1;
            let file = format!("{next}.root.json");
            let Some(bytes) = self.fetch(&file, ROOT_MAX)? else { break };
            read::<Root>(&bytes, &file, "root", &[root.body.role("root")?])?;
            let newer = own(&bytes, &file)?;
            if newer.version != next {
                return Err(TufError::Rollback { file, offered: newer.version, seen: root.version });
            }
            self.remember("root.json", &bytes)?;
            root = newer;
        }
        self.fresh(&root)?;
        Ok(root)
    }

    /// What was seen before, where the root's present keys still vouch for it (§5.3.11: after a change of keys it does
    /// not count, so that a repository recovers from a stolen key that signed a huge version).
    fn seen(&self, root: &Root, file: &str, kind: &str) -> Result<Option<Signed<Index>>, TufError> {
        let role = root.role(kind)?;
        Ok(self.recall(file)?.and_then(|bytes| read(&bytes, file, kind, &[role]).ok()))
    }

    /// §5.4.
    fn timestamp(&mut self, root: &Signed<Root>) -> Result<Signed<Index>, TufError> {
        const FILE: &str = "timestamp.json";
        let seen = self.seen(&root.body, FILE, "timestamp")?;
        let bytes = self.need(FILE, TIMESTAMP_MAX)?;
        let new: Signed<Index> = read(&bytes, FILE, "timestamp", &[root.body.role("timestamp")?])?;
        if let Some(seen) = seen {
            forwards(FILE, seen.version, new.version)?;
            let (before, now) = (seen.body.of(FILE, SNAPSHOT)?, new.body.of(FILE, SNAPSHOT)?);
            forwards(SNAPSHOT, before.version, now.version)?;
            if new.version == seen.version {
                // The same version with other contents is not believed either.
                self.fresh(&seen)?;
                return Ok(seen);
            }
        }
        self.fresh(&new)?;
        self.remember(FILE, &bytes)?;
        Ok(new)
    }

    /// §5.5: it is the one that the timestamp names, and no targets file goes back or away.
    fn snapshot(
        &mut self,
        root: &Signed<Root>,
        timestamp: &Signed<Index>,
    ) -> Result<Signed<Index>, TufError> {
        let named = timestamp.body.of("timestamp.json", SNAPSHOT)?;
        let seen = self.seen(&root.body, SNAPSHOT, "snapshot")?;
        let bytes = self.named(root, SNAPSHOT, named, SNAPSHOT_MAX)?;
        let new: Signed<Index> = read(&bytes, SNAPSHOT, "snapshot", &[root.body.role("snapshot")?])?;
        if new.version != named.version {
            return Err(TufError::Mixed { file: SNAPSHOT.to_owned() });
        }
        for (file, before) in seen.iter().flat_map(|seen| &seen.body.meta) {
            forwards(file, before.version, new.body.meta.get(file).map_or(0, |now| now.version))?;
        }
        self.fresh(&new)?;
        self.remember(SNAPSHOT, &bytes)?;
        Ok(new)
    }

    /// Bytes of a metadata file as signed metadata above it names it.
    fn named(&self, root: &Signed<Root>, file: &str, meta: &Meta, most: u64) -> Result<Vec<u8>, TufError> {
        let prefix = if root.body.consistent_snapshot { format!("{}.", meta.version) } else { String::new() };
        let bytes = self.need(&format!("{prefix}{file}"), meta.length.unwrap_or(most).min(most))?;
        meta.holds(file, &bytes)?;
        Ok(bytes)
    }

    /// §5.6: the targets role, then those it delegates to, in their order; a terminating one ends the search.
    fn search(
        &mut self,
        root: &Signed<Root>,
        snapshot: &Signed<Index>,
        path: &str,
    ) -> Result<Target, TufError> {
        let (role, keys) = root.body.role("targets")?;
        let mut ask = vec![("targets".to_owned(), role.clone(), keys.clone())];
        let mut asked = BTreeSet::new();
        while let Some((name, role, keys)) = ask.pop() {
            if asked.len() >= ROLES_MAX {
                break;
            }
            if !asked.insert(name.clone()) {
                continue;
            }
            let file = format!("{}.json", encoded(&name));
            let meta = snapshot.body.of(SNAPSHOT, &format!("{name}.json"))?;
            let bytes = self.named(root, &file, meta, TARGETS_MAX)?;
            let targets: Signed<Targets> = read(&bytes, &file, "targets", &[(&role, &keys)])?;
            if targets.version != meta.version {
                return Err(TufError::Mixed { file });
            }
            self.fresh(&targets)?;
            if let Some(target) = targets.body.targets.get(path) {
                return Ok(target.clone());
            }
            let Some(delegations) = targets.body.delegations else { continue };
            let mut next: Vec<&Delegated> = delegations.roles.iter().filter(|r| r.covers(path)).collect();
            if let Some(last) = next.iter().position(|r| r.terminating) {
                next.truncate(last + 1);
                ask.clear();
            }
            let next = next.into_iter().rev();
            ask.extend(next.map(|r| (r.name.clone(), r.role.clone(), delegations.keys.clone())));
        }
        Err(TufError::NoTarget { path: path.to_owned() })
    }
}

const SNAPSHOT: &str = "snapshot.json";

fn forwards(file: &str, seen: u64, offered: u64) -> Result<(), TufError> {
    if offered >= seen {
        return Ok(());
    }
    Err(TufError::Rollback { file: file.to_owned(), offered, seen })
}

/// A role's name as a part of a URL, without anything that leads elsewhere (§4.5).
fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Whether a file with this length and these hashes is the target; else what differs.
pub fn fits(target: &Target, size: u64, sha256: &Sha, sha512: &str) -> Result<(), String> {
    if target.length != size {
        return Err(format!("the file has {size} bytes, the target {}", target.length));
    }
    let mut held = false;
    for (algorithm, hash) in &target.hashes {
        let is = match algorithm.as_str() {
            "sha256" => sha256.to_string(),
            "sha512" => sha512.to_owned(),
            _ => continue,
        };
        if is != hash.to_ascii_lowercase() {
            return Err(format!("the file has {algorithm} {is}, the target {hash}"));
        }
        held = true;
    }
    if held { Ok(()) } else { Err("the target has neither sha256 nor sha512".to_owned()) }
}
