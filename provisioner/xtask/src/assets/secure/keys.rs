//! The site's own Secure Boot keys: made once, kept for ever, for every machine that has enrolled them trusts only them.

use crate::console::Done;
use anyhow::{Context, Result, bail};
use provisioner_lab::process;
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The variables of UEFI 2.10 §32.3, owner first: the platform key signs the key-exchange key, which signs the list of
/// keys that boot programs are signed with.
pub const NAMES: [&str; 3] = ["PK", "KEK", "db"];

/// A random UUID, another at each read.
const NEW_UUID: &str = "/proc/sys/kernel/random/uuid";

/// A folder of keys.
#[derive(Debug, Clone)]
pub struct Keys(PathBuf);

impl Keys {
    /// The private key; 0600.
    pub fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    pub fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }

    /// Owner GUID of the signature lists.
    pub fn owner(&self) -> Result<String> {
        let file = self.0.join("owner");
        Ok(fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim().to_owned())
    }

    /// Beside the keys: what is carried to the machines.
    fn enrol(&self) -> PathBuf {
        self.0.with_file_name("enrol")
    }

    fn enrolment(&self, name: &str, kind: &str) -> PathBuf {
        self.enrol().join(format!("{name}.{kind}"))
    }
}

/// The keys in `folder`, made where there is none; half a set is refused. Beside it `enrol/` with what firmware takes:
/// `.cer` (DER), `.esl` (signature list) and `.auth` (signed update).
pub fn make(folder: &Path) -> Result<(Keys, Done)> {
    let keys = Keys(folder.to_owned());
    let files: Vec<PathBuf> =
        NAMES.iter().flat_map(|name| [keys.key(name), keys.certificate(name)]).collect();
    let there = files.iter().filter(|file| file.exists()).count();
    let what = folder.display().to_string();
    let done = if there == files.len() {
        Done::Kept(what)
    } else if there == 0 {
        make_all(folder, &keys)?;
        Done::Made(what)
    } else {
        bail!("{what}: some of the keys are missing; put them back, or take all away to begin anew");
    };
    make_enrolment(&keys)?;
    Ok((keys, done))
}

fn make_all(folder: &Path, keys: &Keys) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| folder.display().to_string())?;
    let owner = fs::read_to_string(NEW_UUID).context(NEW_UUID)?;
    fs::write(folder.join("owner"), owner).context("owner")?;
    for name in NAMES {
        let (key, certificate) = (keys.key(name), keys.certificate(name));
        // RSA 2048 and SHA-256: all that UEFI 2.10 §32.2.2 asks of every firmware. The folder is 0700 from the start.
        let subject = format!("/CN=provisioner Secure Boot {name}/");
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-sha256", "-days", "7300", "-subj"]);
        openssl.arg(subject).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        process::output(&mut openssl)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))
            .with_context(|| key.display().to_string())?;
    }
    Ok(())
}

fn make_enrolment(keys: &Keys) -> Result<()> {
    let owner = keys.owner()?;
    let folder = keys.enrol();
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    // Each list is signed by the key above it, the platform key by itself.
    for (name, signer) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
        let [cer, esl, auth] = ["cer", "esl", "auth"].map(|kind| keys.enrolment(name, kind));
        if auth.exists() {
            continue;
        }
        let certificate = keys.certificate(name);
        let of = |file: &Path| file.display().to_string();
        process::run("openssl", ["x509", "-in", &of(&certificate), "-outform", "DER", "-out", &of(&cer)])?;
        process::run("cert-to-efi-sig-list", ["-g", &owner, &of(&certificate), &of(&esl)])?;
        let (key, by) = (of(&keys.key(signer)), of(&keys.certificate(signer)));
        process::run(
            "sign-efi-sig-list",
            ["-g", &owner, "-k", &key, "-c", &by, name, &of(&esl), &of(&auth)],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_are_private_and_half_a_set_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let (keys, done) = make(&folder).unwrap();
        assert!(matches!(done, Done::Made(_)));
        let first = fs::read(keys.key("db")).unwrap();
        assert!(matches!(make(&folder).unwrap().1, Done::Kept(_)));
        assert_eq!(fs::read(keys.key("db")).unwrap(), first);
        let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&keys.key("PK"))), (0o700, 0o600));
        assert!(keys.enrolment("db", "auth").exists());
        fs::remove_file(keys.key("KEK")).unwrap();
        assert!(make(&folder).unwrap_err().to_string().contains("some of the keys are missing"));
    }
}
