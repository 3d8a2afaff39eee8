//! Secrets at rest: the keyring that seals them for the store and derives keys. The token types are in [`crate::token`].
//!
//! The key is a file outside the database (`DATA/keyring`, mode 0600), so a copy of the database alone opens nothing.
//! A sealed blob is `1 | key id (4 bytes) | nonce (24) | XChaCha20-Poly1305 ciphertext`; machine, field and version are
//! its associated data, so that a blob put into another row does not open.

pub use crate::token::{HashedToken, PlainToken};

use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hkdf::Hkdf;
use provisioner_wire::ids::{hex, hex_into};
use sha2::{Digest, Sha256};
use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const FILE: &str = "keyring";

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} can be read by others than its owner (mode {mode:03o}); run: chmod 600 {path}")]
    Permissions { path: PathBuf, mode: u32 },
    #[error("{0} holds no key (64 hexadecimal digits a line, the newest first)")]
    NoKey(String),
    #[error("no random numbers from the system")]
    Random,
    #[error("the secret was sealed under key {0:08x}, which is not in the keyring")]
    UnknownKey(u32),
    #[error("the sealed secret is damaged, or belongs to another machine or field")]
    Sealed,
}

/// Where the master key comes from, when not from the data folder.
#[derive(Debug, Clone)]
pub enum KeySource {
    File(PathBuf),
    /// The key's text, from an environment variable.
    Text(secrecy::SecretString),
}

/// Seals secrets for the store and derives keys. The first key seals; all of them open.
#[derive(Debug)]
pub struct Keyring {
    current: MasterKey,
    older: Vec<MasterKey>,
}

struct MasterKey {
    id: u32,
    bytes: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({:08x})", self.id)
    }
}

impl MasterKey {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        let digest = Sha256::new().chain_update(b"provisioner key id").chain_update(*bytes).finalize();
        let id = digest.iter().take(4).fold(0, |id, byte| (id << 8) | u32::from(*byte));
        Self { id, bytes }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.bytes))
    }
}

impl Keyring {
    /// The keyring from `given`, or from the data folder, where it is made at the first start.
    pub fn open(data_dir: &Path, given: Option<&KeySource>) -> Result<Self, SecretError> {
        match given {
            Some(KeySource::Text(text)) => {
                Self::parse(secrecy::ExposeSecret::expose_secret(text), "the given key".to_owned())
            }
            Some(KeySource::File(path)) => Self::read(path),
            None => {
                let path = data_dir.join(FILE);
                make_where_missing(&path)?;
                Self::read(&path)
            }
        }
    }

    fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |error| SecretError::Io { path: path.to_owned(), error };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Permissions { path: path.to_owned(), mode });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        Self::parse(&text, path.display().to_string())
    }

    fn parse(text: &str, from: String) -> Result<Self, SecretError> {
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut bytes = Zeroizing::new([0; 32]);
            if hex_into(line, bytes.as_mut()).is_none() {
                return Err(SecretError::NoKey(from));
            }
            keys.push(MasterKey::new(bytes));
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or(SecretError::NoKey(from))?;
        Ok(Self { current, older: keys.collect() })
    }

    /// Seals `plain` for one field of one machine.
    pub fn seal(&self, machine: &str, field: &str, plain: &[u8]) -> Result<Vec<u8>, SecretError> {
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|_| SecretError::Random)?;
        let sealed = self
            .current
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &associated(machine, field) })
            .map_err(|_| SecretError::Sealed)?;
        let mut blob = vec![VERSION];
        blob.extend(self.current.id.to_be_bytes());
        blob.extend(nonce);
        blob.extend(sealed);
        Ok(blob)
    }

    /// Opens what [`Keyring::seal`] made for the same machine and field.
    pub fn unseal(&self, machine: &str, field: &str, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let (version, rest) = blob.split_first().ok_or(SecretError::Sealed)?;
        let (id, rest) = rest.split_first_chunk::<4>().ok_or(SecretError::Sealed)?;
        let (nonce, sealed) = rest.split_first_chunk::<24>().ok_or(SecretError::Sealed)?;
        if *version != VERSION {
            return Err(SecretError::Sealed);
        }
        let id = u32::from_be_bytes(*id);
        let mut keys = std::iter::once(&self.current).chain(&self.older);
        let key = keys.find(|key| key.id == id).ok_or(SecretError::UnknownKey(id))?;
        key.cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &associated(machine, field) })
            .map(Zeroizing::new)
            .map_err(|_| SecretError::Sealed)
    }

    /// True where the blob was sealed under an older key and should be sealed again.
    pub fn is_outdated(&self, blob: &[u8]) -> bool {
        blob.get(1..5) != Some(self.current.id.to_be_bytes().as_slice())
    }

    /// A key of its own for one purpose (`agent channel`, `builtin tokens`); the same at every start with the same
    /// current key.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        // Cannot fail: HKDF-SHA-256 gives up to 8160 bytes. Were it to, the zero key must not be used.
        if Hkdf::<Sha256>::new(Some(b"provisioner keyring v1"), self.current.bytes.as_ref())
            .expand(purpose.as_bytes(), key.as_mut())
            .is_err()
        {
            std::process::abort();
        }
        key
    }
}

/// Lengths before the parts, so that no two (machine, field) pairs give the same bytes.
fn associated(machine: &str, field: &str) -> Vec<u8> {
    format!("provisioner|{VERSION}|{}:{machine}|{}:{field}", machine.len(), field.len()).into_bytes()
}

/// Makes the key file whole or not at all: a half-written key would lock every secret out after a crash.
fn make_where_missing(path: &Path) -> Result<(), SecretError> {
    let failed = |error| SecretError::Io { path: path.to_owned(), error };
    if path.try_exists().map_err(failed)? {
        return Ok(());
    }
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| SecretError::Random)?;
    let text = Zeroizing::new(format!("{}\n", hex(bytes.as_ref())));
    let partial = path.with_extension(format!("{}.new", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A link, not a rename: it never replaces a key that another start has made meanwhile.
        match fs::hard_link(&partial, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }?;
        fs::remove_file(&partial)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&partial);
        failed(error)
    })
}

/// A token of `prefix` and 256 random bits in hexadecimal.
pub fn random_token(prefix: &str) -> Result<PlainToken, SecretError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| SecretError::Random)?;
    Ok(PlainToken::new(format!("{prefix}{}", &*Zeroizing::new(hex(bytes.as_ref())))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(text: &str) -> Keyring {
        Keyring::open(Path::new("/nowhere"), Some(&KeySource::Text(text.to_owned().into()))).unwrap()
    }

    #[test]
    fn a_sealed_secret_opens_only_in_its_own_place() {
        let ring = keyring(&"11".repeat(32));
        let blob = ring.seal("node-1", "bmc-password", b"hunter2").unwrap();
        assert!(!blob.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(ring.unseal("node-1", "bmc-password", &blob).unwrap().as_slice(), b"hunter2");
        for (machine, field) in
            [("node-2", "bmc-password"), ("node-1", "bmc-user"), ("node-1|12:bmc-password", "")]
        {
            assert!(
                matches!(ring.unseal(machine, field, &blob), Err(SecretError::Sealed)),
                "{machine} {field}"
            );
        }
        for at in 0..blob.len() {
            let mut flipped = blob.clone();
            flipped[at] ^= 1;
            assert!(ring.unseal("node-1", "bmc-password", &flipped).is_err(), "byte {at}");
            assert!(ring.unseal("node-1", "bmc-password", &blob[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_older_key_still_opens_after_rotation() {
        let (old, new) = ("11".repeat(32), "22".repeat(32));
        let blob = keyring(&old).seal("m", "f", b"x").unwrap();
        let rotated = keyring(&format!("# new\n{new}\n{old}\n"));
        assert_eq!(rotated.unseal("m", "f", &blob).unwrap().as_slice(), b"x");
        assert!(rotated.is_outdated(&blob) && !keyring(&old).is_outdated(&blob));
        assert!(matches!(keyring(&new).unseal("m", "f", &blob), Err(SecretError::UnknownKey(_))));
    }

    #[test]
    fn the_key_file_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let first = Keyring::open(folder.path(), None).unwrap().derive("a");
        assert_eq!(first, Keyring::open(folder.path(), None).unwrap().derive("a"));
        assert_ne!(first, Keyring::open(folder.path(), None).unwrap().derive("b"));
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Keyring::open(folder.path(), None),
            Err(SecretError::Permissions { mode: 0o640, .. })
        ));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let printed = format!("{:?} {:?}", keyring(&"ab".repeat(32)), random_token("admin-").unwrap());
        assert_eq!(printed.split(' ').next_back(), Some("PlainToken(…)"));
        assert!(!printed.contains("abab"), "{printed}");
    }
}
