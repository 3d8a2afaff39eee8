//! The site's own certificate authority, and the server certificate that it signs anew at each start.

use super::auth::write_private;
use crate::machine::Time;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0} is there and {1} is not: restore it, or remove both to make a new authority")]
    Half(PathBuf, PathBuf),
    #[error("certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("{0}: {1}")]
    Pem(PathBuf, rustls::pki_types::pem::Error),
    #[error("an RSA key: {0}")]
    Rsa(String),
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// How long a server certificate lives; it is made anew at each start.
const SERVER_CERTIFICATE: Duration = Duration::from_secs(397 * 24 * 3600);

/// The authority's files in `data_dir`.
pub fn ca_file(data_dir: &Path) -> PathBuf {
    data_dir.join("ca.pem")
}

/// A certificate with those it follows from, and its key.
pub(super) struct Chain {
    pub certificates: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Chain {
    pub(super) fn certified(self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        Ok(Arc::new(CertifiedKey::from_der(self.certificates, self.key, provider)?))
    }
}

/// Rustls' configuration with a fresh certificate for `public_host`, `localhost` and the loopback addresses, signed
/// by the authority in `data_dir`, which is made where there is none.
pub fn server_config(data_dir: &Path, public_host: &str, now: Time) -> Result<ServerConfig, TlsError> {
    let chain = chain(data_dir, public_host, now)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.certificates, chain.key)?;
    config.alpn_protocols = alpn();
    Ok(config)
}

pub(super) fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

pub(super) fn chain(data_dir: &Path, public_host: &str, now: Time) -> Result<Chain, TlsError> {
    let ca = authority(data_dir)?;
    let key = KeyPair::generate()?;
    let certificate = server_params(public_host, now)?.signed_by(&key, &ca.issuer)?;
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rustls::Error::NoCertificatesPresented)?;
    Ok(Chain { certificates: vec![certificate.der().clone(), ca.certificate], key })
}

/// What a server's certificate says, from a day before `now`.
pub(super) fn server_params(public_host: &str, now: Time) -> Result<CertificateParams, TlsError> {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !hosts.iter().any(|h| h == public_host) {
        hosts.push(public_host.to_owned());
    }
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, "provisioner");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let begin = date_time_ymd(1970, 1, 1) + Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    // Machines' clocks are often a day wrong when they first boot.
    params.not_before = begin - Duration::from_secs(24 * 3600);
    params.not_after = begin + SERVER_CERTIFICATE;
    Ok(params)
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn authority(data_dir: &Path) -> Result<Authority, TlsError> {
    let (file, key_file) = (ca_file(data_dir), data_dir.join("ca.key"));
    match (file.exists(), key_file.exists()) {
        (true, true) => {}
        // The key is written first: without its certificate it was never used.
        (false, _) => make(&file, &key_file)?,
        (true, false) => return Err(TlsError::Half(file, key_file)),
    }
    let certificate = read_certificate(&file)?;
    let text = std::fs::read_to_string(&key_file).map_err(|e| TlsError::File(key_file.clone(), e))?;
    Ok(Authority { issuer: Issuer::new(ca_params(), KeyPair::from_pem(&text)?), certificate })
}

pub(super) fn read_certificate(file: &Path) -> Result<CertificateDer<'static>, TlsError> {
    let text = std::fs::read_to_string(file).map_err(|e| TlsError::File(file.to_owned(), e))?;
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| TlsError::Pem(file.to_owned(), e))
}

fn make(file: &Path, key_file: &Path) -> Result<(), TlsError> {
    let key = KeyPair::generate()?;
    let certificate = ca_params().self_signed(&key)?;
    write_private(key_file, &key.serialize_pem()).map_err(|e| TlsError::File(key_file.to_owned(), e))?;
    std::fs::write(file, certificate.pem()).map_err(|e| TlsError::File(file.to_owned(), e))
}

pub(super) fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "provisioner site CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2070, 1, 1);
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        server_config(folder.path(), "10.88.0.1", Time(1_790_000_000_000)).unwrap();
        let first = std::fs::read(ca_file(folder.path())).unwrap();
        server_config(folder.path(), "boot.example", Time(1_790_000_000_000)).unwrap();
        assert_eq!(std::fs::read(ca_file(folder.path())).unwrap(), first);
        let key = folder.path().join("ca.key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(server_config(folder.path(), "x", Time(0)), Err(TlsError::Half(..))));
    }
}
