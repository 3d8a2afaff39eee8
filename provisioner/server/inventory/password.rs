//! From a password's reference to the password: the edge that reads its file or environment variable.

use super::{Hardware, Password};
use secrecy::{ExposeSecret, SecretString};
use std::{env, fs, io, path::Path};
use zeroize::Zeroizing;

/// Field name under which a BMC password is sealed.
pub const BMC_PASSWORD: &str = "bmc-password";

/// `Display` names the file or variable, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("password file {path}: {error}")]
    File { path: String, error: io::Error },
    #[error("the environment variable {0} is not set (a BMC password is declared to be in it)")]
    Env(String),
    #[error("the password in {0} is empty")]
    Empty(String),
}

impl Password {
    /// [`Password::read`] for a secret of several lines: a file is taken as a whole.
    pub fn read_whole(&self, folder: &Path) -> Result<Option<SecretString>, PasswordError> {
        let Self::File(path) = self else { return self.read(folder) };
        let text = fs::read_to_string(folder.join(path.as_str()))
            .map_err(|error| PasswordError::File { path: path.as_str().to_owned(), error })?;
        if text.trim().is_empty() {
            return Err(PasswordError::Empty(path.as_str().to_owned()));
        }
        Ok(Some(text.into()))
    }

    /// The password now; `None` where it is the stored one. `folder` is what relative file names start from.
    pub fn read(&self, folder: &Path) -> Result<Option<SecretString>, PasswordError> {
        let (from, text) = match self {
            Self::Stored => return Ok(None),
            Self::Value(value) => ("the request".to_owned(), value.clone()),
            Self::File(path) => {
                let text = fs::read_to_string(folder.join(path.as_str()))
                    .map_err(|error| PasswordError::File { path: path.as_str().to_owned(), error })?;
                let text = Zeroizing::new(text);
                (path.as_str().to_owned(), text.lines().next().unwrap_or_default().to_owned().into())
            }
            Self::Env(name) => {
                let text = env::var(name.as_str()).map_err(|_| PasswordError::Env(name.to_string()))?;
                (name.to_string(), text.into())
            }
        };
        if text.expose_secret().is_empty() {
            return Err(PasswordError::Empty(from));
        }
        Ok(Some(text))
    }
}

impl Hardware {
    /// Takes a password that came in clear out of the record, to be sealed under [`BMC_PASSWORD`].
    pub fn take_password(&mut self) -> Option<SecretString> {
        let bmc = self.bmc.as_mut()?;
        if !matches!(bmc.password, Password::Value(_)) {
            return None;
        }
        match std::mem::replace(&mut bmc.password, Password::Stored) {
            Password::Value(password) => Some(password),
            _ => None,
        }
    }
}
