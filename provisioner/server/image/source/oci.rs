//! A registry of OCI artifacts (distribution-spec 1.1): from a reference to the digest of the layer that is a disk. A
//! manifest counts by its digest; a tag is asked for once.

use crate::{
    inventory::OciReference,
    reach::{AskError, Client, shown},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use provisioner_wire::ids::hex;
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// No manifest, token or signature is larger.
const DOCUMENT_MAX: usize = 4 << 20;
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
const TITLE: &str = "org.opencontainers.image.title";

/// How a registry is spoken to.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Without TLS.
    pub plain_http: bool,
    pub credentials: Option<(String, SecretString)>,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("{url}: answered {status}{hint}")]
    Status { url: String, status: StatusCode, hint: &'static str },
    #[error("{url}: {what}")]
    Document { url: String, what: String },
    #[error("{reference}: the registry's bytes have the digest {is}")]
    Digest { reference: String, is: String },
    #[error("{reference}: {what}")]
    Layers { reference: String, what: String },
}

impl RegistryError {
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Ask(error) => error.is_lasting(),
            Self::Status { status, .. } => !status.is_server_error() && status.as_u16() != 429,
            _ => true,
        }
    }
}

/// One repository of one registry, with what it gave us to get in.
#[derive(Debug)]
pub struct Registry<'a> {
    client: &'a Client,
    access: &'a Access,
    reference: &'a OciReference,
    /// The header `Authorization`, once it is known what is wanted.
    pass: tokio::sync::Mutex<Option<HeaderValue>>,
}

/// A part of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// Of an index.
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl<'a> Registry<'a> {
    pub fn new(client: &'a Client, access: &'a Access, reference: &'a OciReference) -> Self {
        Self { client, access, reference, pass: tokio::sync::Mutex::default() }
    }

    fn url(&self, rest: &str) -> Result<Url, RegistryError> {
        let scheme = if self.access.plain_http { "http" } else { "https" };
        let text =
            format!("{scheme}://{}/v2/{}/{rest}", self.reference.registry(), self.reference.repository());
        Url::parse(&text).map_err(|e| RegistryError::Document { url: text, what: e.to_string() })
    }

    /// Of a layer, for the download.
    pub fn blob_url(&self, digest: &str) -> Result<Url, RegistryError> {
        self.url(&format!("blobs/{digest}"))
    }

    /// The pass that was given, for the download.
    pub async fn pass(&self) -> Option<HeaderValue> {
        self.pass.lock().await.clone()
    }

    /// A manifest by tag or digest, and its digest.
    pub async fn manifest(&self, reference: &str) -> Result<(Manifest, String), RegistryError> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let bytes = self.document(&url).await?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        if reference.starts_with("sha256:") && reference != digest {
            return Err(RegistryError::Digest { reference: self.reference.to_string(), is: digest });
        }
        let read = serde_json::from_slice(&bytes);
        let read = read.map_err(|e| RegistryError::Document { url: shown(&url), what: e.to_string() })?;
        Ok((read, digest))
    }

    /// [`Self::manifest`], and where that is an index, what it has for `architecture` (Go's word: `amd64`).
    pub async fn manifest_for(
        &self,
        reference: &str,
        architecture: &str,
    ) -> Result<(Manifest, String), RegistryError> {
        let (manifest, digest) = self.manifest(reference).await?;
        if manifest.manifests.is_empty() {
            return Ok((manifest, digest));
        }
        let of = |d: &Descriptor| d.platform.as_ref().map(|p| p.architecture.clone()).unwrap_or_default();
        let found = manifest.manifests.iter().find(|d| of(d) == architecture);
        let found = found.ok_or_else(|| {
            let all: Vec<String> = manifest.manifests.iter().map(of).collect();
            self.layers(format!("the index has nothing for {architecture}, only for {}", all.join(", ")))
        })?;
        self.manifest(&found.digest).await
    }

    fn layers(&self, what: String) -> RegistryError {
        RegistryError::Layers { reference: self.reference.to_string(), what }
    }

    /// A small blob, checked.
    pub async fn blob(&self, digest: &str) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.document(&self.blob_url(digest)?).await?;
        let is = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        if is != digest {
            return Err(RegistryError::Digest {
                reference: format!("{}, blob {digest}", self.reference),
                is,
            });
        }
        Ok(bytes)
    }

    /// The one layer of `manifest` that is a disk.
    pub fn disk(&self, manifest: &Manifest) -> Result<Disk, RegistryError> {
        disk_of(&manifest.layers).map_err(|what| self.layers(what))
    }

    async fn document(&self, url: &Url) -> Result<Vec<u8>, RegistryError> {
        let mut answer = self.ask(url).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let wanted = answer.headers().get(WWW_AUTHENTICATE).and_then(|w| w.to_str().ok());
            let pass = self.earn(wanted.unwrap_or_default(), url).await?;
            *self.pass.lock().await = Some(pass);
            answer = self.ask(url).await?;
        }
        if !answer.status().is_success() {
            return Err(refused(url, answer.status(), self.access));
        }
        whole(url, answer).await
    }

    async fn ask(&self, url: &Url) -> Result<Response, RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        let pass = self.pass().await;
        Ok(self.client.get(url, &headers, dressed(pass)).await?)
    }

    /// What the registry wants to see: a token of its token server, or user and password.
    async fn earn(&self, challenge: &str, url: &Url) -> Result<HeaderValue, RegistryError> {
        let basic = self.basic();
        let bearer = challenge.strip_prefix("Bearer ").or_else(|| challenge.strip_prefix("bearer "));
        let Some(wanted) = bearer else {
            return basic.ok_or_else(|| refused(url, StatusCode::UNAUTHORIZED, self.access));
        };
        let wanted = parameters(wanted);
        let document = |what: &str| RegistryError::Document { url: shown(url), what: what.to_owned() };
        let realm = wanted.get("realm").and_then(|realm| Url::parse(realm).ok());
        let mut realm = realm.ok_or_else(|| document("it names no token server"))?;
        if realm.scheme() != "https" && !self.access.plain_http {
            return Err(document("its token server speaks no TLS"));
        }
        for name in ["service", "scope"] {
            if let Some(value) = wanted.get(name) {
                realm.query_pairs_mut().append_pair(name, value);
            }
        }
        let answer = self.client.get(&realm, &HeaderMap::new(), dressed(basic)).await?;
        if !answer.status().is_success() {
            return Err(refused(&realm, answer.status(), self.access));
        }
        let bytes = whole(&realm, answer).await?;
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|_| document("its token server gives no token"))?;
        secret_header(&format!("Bearer {}", token.token)).ok_or_else(|| document("its token is no header"))
    }

    fn basic(&self) -> Option<HeaderValue> {
        let (user, password) = self.access.credentials.as_ref()?;
        secret_header(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose_secret()))))
    }
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Shows `pass` to the host that asked for it, and to no other.
pub fn dressed(pass: Option<HeaderValue>) -> impl Fn(RequestBuilder, bool) -> RequestBuilder {
    move |request, meant| match &pass {
        Some(pass) if meant => request.header(AUTHORIZATION, pass.clone()),
        _ => request,
    }
}

fn refused(url: &Url, status: StatusCode, access: &Access) -> RegistryError {
    let hint = match (status.as_u16(), &access.credentials) {
        (401 | 403, None) => "; it wants credentials: declare them in [[registries]]",
        (401 | 403, Some(_)) => "; it does not take the credentials in [[registries]]",
        (404, _) => "; there is no such repository, tag or digest",
        _ => "",
    };
    RegistryError::Status { url: shown(url), status, hint }
}

async fn whole(url: &Url, mut answer: Response) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    let failed = |what: String| RegistryError::Document { url: shown(url), what };
    while let Some(more) = answer.chunk().await.map_err(|e| failed(e.without_url().to_string()))? {
        if bytes.len() + more.len() > DOCUMENT_MAX {
            return Err(failed(format!("it is larger than {DOCUMENT_MAX} bytes")));
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

/// `realm="…",service="…"` (RFC 9110 §11.2). Commas may stand in quotes.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, later) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        rest = later.trim_start_matches([',', ' ']);
    }
    found
}

/// What of an artifact is the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// The layer itself.
    Layer(Descriptor),
    /// The one file below `disk/` in this layer, a tar archive: KubeVirt's container disk.
    Inside(Descriptor),
}

/// PURE. The layer whose name or media type says that it is a disk; the only layer; or the one layer of a container
/// disk. Never a guess between two.
fn disk_of(layers: &[Descriptor]) -> Result<Disk, String> {
    let named = |d: &&Descriptor| d.annotations.get(TITLE).is_some_and(|title| is_disk_name(title));
    let typed = |d: &&Descriptor| {
        ["disk", "raw", "qcow2"].iter().any(|word| d.media_type.contains(word)) && !is_tar(d)
    };
    for candidates in [layers.iter().filter(named).collect::<Vec<_>>(), layers.iter().filter(typed).collect()]
    {
        match candidates.as_slice() {
            [] => {}
            [one] => return Ok(Disk::Layer((*one).clone())),
            many => return Err(format!("{} layers look like disks: {}", many.len(), titles(many))),
        }
    }
    match layers {
        [one] if is_tar(one) => Ok(Disk::Inside(one.clone())),
        [one] => Ok(Disk::Layer(one.clone())),
        [] => Err("it has no layers".to_owned()),
        many => Err(format!("none of its {} layers is named or typed as a disk", many.len())),
    }
}

fn is_tar(layer: &Descriptor) -> bool {
    layer.media_type.contains(".tar")
}

fn is_disk_name(title: &str) -> bool {
    let bare = [".gz", ".xz", ".zst", ".bz2"].iter().find_map(|end| title.strip_suffix(end)).unwrap_or(title);
    [".raw", ".img", ".qcow2"].iter().any(|end| bare.ends_with(end))
}

fn titles(layers: &[&Descriptor]) -> String {
    let title = |d: &&Descriptor| d.annotations.get(TITLE).unwrap_or(&d.media_type).clone();
    layers.iter().map(title).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(media_type: &str, title: Option<&str>) -> Descriptor {
        let annotations = title.map(|t| (TITLE.to_owned(), t.to_owned())).into_iter().collect();
        let digest = format!("sha256:{media_type}{}", title.unwrap_or_default());
        Descriptor { media_type: media_type.to_owned(), digest, size: 1, annotations, platform: None }
    }

    #[test]
    fn the_disk_is_found_and_never_guessed() {
        let disk = layer("application/octet-stream", Some("talos-amd64.raw.zst"));
        let notes = layer("text/plain", Some("README.md"));
        let tar = layer("application/vnd.oci.image.layer.v1.tar+gzip", None);
        let typed = layer("application/vnd.example.disk.qcow2", None);
        assert_eq!(disk_of(&[notes.clone(), disk.clone()]), Ok(Disk::Layer(disk.clone())));
        assert_eq!(disk_of(&[tar.clone(), typed.clone()]), Ok(Disk::Layer(typed)));
        assert_eq!(disk_of(std::slice::from_ref(&tar)), Ok(Disk::Inside(tar.clone())));
        assert_eq!(disk_of(std::slice::from_ref(&notes)), Ok(Disk::Layer(notes.clone())));
        let other = layer("application/octet-stream", Some("b.img"));
        assert_eq!(
            disk_of(&[disk, other]).unwrap_err(),
            "2 layers look like disks: talos-amd64.raw.zst, b.img"
        );
        assert_eq!(disk_of(&[]).unwrap_err(), "it has no layers");
        assert!(disk_of(&[tar.clone(), tar]).is_err());
    }

    #[test]
    fn challenges_are_read_with_commas_in_quotes() {
        let read = parameters(
            r#"realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push""#,
        );
        assert_eq!(read["realm"], "https://auth.example/token");
        assert_eq!(read["scope"], "repository:a/b:pull,push");
        assert_eq!(parameters("realm=x, service=y")["service"], "y");
        assert!(parameters("").is_empty());
    }
}
