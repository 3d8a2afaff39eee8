//! `[fetch]` and `[[registries]]` of the configuration: from where images may be fetched, and how much.

use super::{Access, Fetcher, Limits};
use crate::{
    inventory::Size,
    reach::{Client, Rules},
};
use ipnet::IpNet;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// Networks that declared URLs may lead to although a rule is against it.
    pub allow: Vec<IpNet>,
    /// Networks that no declared URL may lead to.
    pub deny: Vec<IpNet>,
    /// Authorities of the site's own mirrors and registries (PEM), beside the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// No image file is larger; default 64GiB.
    pub largest: Option<Size>,
    /// All fetched files together; default 256GiB.
    pub cache_limit: Option<Size>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// As in the references: `registry.example:5000`.
    pub host: String,
    /// Without TLS.
    #[serde(default)]
    pub plain_http: bool,
    pub username: Option<String>,
    /// One line, readable by the server alone.
    pub password_file: Option<PathBuf>,
}

/// Why nothing can be fetched as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadFetch {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("fetch.ca_file: {0}")]
    Authorities(reqwest::Error),
    #[error("registries: {host}: username and password_file go together")]
    Half { host: String },
}

impl FetchConfig {
    /// Which addresses URLs may lead to; private networks among them.
    pub fn rules(&self) -> Rules {
        Rules { allow: self.allow.clone(), deny: self.deny.clone(), private: true }
    }

    /// What asks by these rules, and trusts `ca_file`.
    pub fn client(&self) -> Result<Client, BadFetch> {
        let authorities = self.ca_file.as_deref().map(read).transpose()?;
        Client::new(self.rules(), authorities.as_deref()).map_err(BadFetch::Authorities)
    }

    /// What keeps fetched images below `data_dir`. Paths are resolved.
    pub fn fetcher(&self, registries: &[RegistryConfig], data_dir: &Path) -> Result<Fetcher, BadFetch> {
        let client = self.client()?;
        let usual = Limits::default();
        let limits = Limits {
            largest: self.largest.map_or(usual.largest, |size| size.0),
            cache: self.cache_limit.map_or(usual.cache, |size| size.0),
        };
        let registries: BTreeMap<String, Access> =
            registries.iter().map(|r| Ok((r.host.clone(), r.access()?))).collect::<Result<_, BadFetch>>()?;
        Ok(Fetcher::new(client, &data_dir.join("fetched"), limits, registries))
    }
}

impl RegistryConfig {
    fn access(&self) -> Result<Access, BadFetch> {
        let credentials = match (&self.username, &self.password_file) {
            (Some(user), Some(file)) => {
                let text = zeroize::Zeroizing::new(read(file)?);
                let text = String::from_utf8_lossy(&text);
                Some((user.clone(), text.trim_end_matches(['\r', '\n']).to_owned().into()))
            }
            (None, None) => None,
            _ => return Err(BadFetch::Half { host: self.host.clone() }),
        };
        Ok(Access { plain_http: self.plain_http, credentials })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BadFetch> {
    fs::read(path).map_err(|source| BadFetch::Io { path: path.to_owned(), source })
}
