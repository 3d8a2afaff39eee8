//! TLS for firmware. EDK2's (OVMF 2022.11 and 2025.02, looked at on the wire) knows RSA certificates and TLS 1.2 with
//! DHE-RSA or RSA key exchange only: no elliptic curves. So beside the site's authority there is one with RSA keys for
//! firmware to enrol, and two suites with the ffdhe2048 group of RFC 7919. Whoever speaks TLS 1.3 gets neither. The crate
//! `rsa` makes the keys and does nothing with them (its private operations leak time, RUSTSEC-2023-0071): ring signs.

use super::{auth::write_private, tls};
use crate::machine::Time;
use crypto_bigint::{
    Odd, U256, U2048,
    modular::{MontyForm, MontyParams},
};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rsa::{RsaPrivateKey, pkcs8::EncodePrivateKey, rand_core::OsRng};
use rustls::{
    CipherSuite, Error, NamedGroup, PeerMisbehaved, ProtocolVersion, ServerConfig, SupportedCipherSuite,
    Tls12CipherSuite,
    crypto::{
        ActiveKeyExchange, CipherSuiteCommon, CryptoProvider, KeyExchangeAlgorithm, SharedSecret,
        SupportedKxGroup, ring,
    },
    ffdhe_groups::FFDHE2048,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};
use tls::TlsError;

/// The authority for firmware to enrol, in `data_dir`.
pub fn ca_file(data_dir: &Path) -> PathBuf {
    data_dir.join("firmware-ca.pem")
}

/// [`tls::server_config`] for firmware, too. Its keys are made at the first start and kept, for RSA keys take seconds.
pub fn server_config(data_dir: &Path, public_host: &str, now: Time) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider());
    let usual = tls::chain(data_dir, public_host, now)?.certified(&provider)?;
    let firmware = chain(data_dir, public_host, now)?.certified(&provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByClient { usual, firmware }));
    config.alpn_protocols = tls::alpn();
    Ok(config)
}

/// The certificate that a client can check.
#[derive(Debug)]
struct ByClient {
    usual: Arc<CertifiedKey>,
    firmware: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ByClient {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // iPXE knows elliptic curves, and trusts what its firmware trusts.
        let modern = hello.cipher_suites().contains(&CipherSuite::TLS13_AES_128_GCM_SHA256);
        Some(if modern { self.usual.clone() } else { self.firmware.clone() })
    }
}

fn chain(data_dir: &Path, public_host: &str, now: Time) -> Result<tls::Chain, TlsError> {
    let file = ca_file(data_dir);
    let ca_key = key(&data_dir.join("firmware-ca.key"))?;
    let mut params = tls::ca_params();
    params.distinguished_name.push(rcgen::DnType::CommonName, "provisioner firmware CA");
    if !file.exists() {
        let certificate = params.self_signed(&ca_key)?;
        std::fs::write(&file, certificate.pem()).map_err(|e| TlsError::File(file.clone(), e))?;
    }
    let authority = tls::read_certificate(&file)?;
    let leaf: CertificateParams = tls::server_params(public_host, now)?;
    let leaf_key = key(&data_dir.join("firmware-server.key"))?;
    let certificate = leaf.signed_by(&leaf_key, &Issuer::new(params, ca_key))?;
    let private =
        PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(|_| Error::NoCertificatesPresented)?;
    Ok(tls::Chain { certificates: vec![certificate.der().clone(), authority], key: private })
}

/// The RSA key in `file`, made where there is none.
fn key(file: &Path) -> Result<KeyPair, TlsError> {
    if !file.exists() {
        tracing::info!(file = %file.display(), "making an RSA key for firmware's HTTPS");
        let made = RsaPrivateKey::new(&mut OsRng, 2048).map_err(|e| TlsError::Rsa(e.to_string()))?;
        let text = made.to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).map_err(|e| TlsError::Rsa(e.to_string()))?;
        write_private(file, &text).map_err(|e| TlsError::File(file.to_owned(), e))?;
    }
    let der = PrivateKeyDer::from_pem_file(file).map_err(|e| TlsError::Pem(file.to_owned(), e))?;
    Ok(KeyPair::try_from(&der)?)
}

/// Ring's, and behind it what firmware can.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.extend(SUITES.iter().map(SupportedCipherSuite::Tls12));
    provider.kx_groups.push(&Ffdhe2048);
    provider
}

static SUITES: LazyLock<Vec<Tls12CipherSuite>> = LazyLock::new(|| {
    let like = [
        (
            ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_DHE_RSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_DHE_RSA_WITH_AES_128_GCM_SHA256,
        ),
    ];
    let made = like.into_iter().filter_map(|(like, suite)| match like {
        SupportedCipherSuite::Tls12(like) => Some(Tls12CipherSuite {
            common: CipherSuiteCommon {
                suite,
                hash_provider: like.common.hash_provider,
                confidentiality_limit: like.common.confidentiality_limit,
            },
            prf_provider: like.prf_provider,
            kx: KeyExchangeAlgorithm::DHE,
            sign: like.sign,
            aead_alg: like.aead_alg,
        }),
        SupportedCipherSuite::Tls13(_) => None,
    });
    made.collect()
});

/// RFC 7919 appendix A.1.
#[derive(Debug)]
struct Ffdhe2048;

static PRIME: LazyLock<Option<MontyParams<{ U2048::LIMBS }>>> =
    LazyLock::new(|| Option::from(Odd::new(U2048::from_be_slice(FFDHE2048.p)).map(MontyParams::new)));

/// Constant-time in the exponent.
fn power(base: &U2048, exponent: &U256) -> Result<Vec<u8>, Error> {
    let params = PRIME.as_ref().ok_or_else(|| Error::General("ffdhe2048".to_owned()))?;
    let bytes = MontyForm::new(base, *params).pow(exponent).retrieve().to_be_bytes();
    Ok(bytes.to_vec())
}

impl SupportedKxGroup for Ffdhe2048 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| Error::FailedToGetRandomBytes)?;
        // 256 bits; RFC 7919 §5.2 asks for 225 at least.
        let secret = U256::from_be_slice(&bytes);
        let public = power(&U2048::from_u8(2), &secret)?;
        Ok(Box::new(Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::FFDHE2048
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_2
    }
}

struct Exchange {
    secret: U256,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let wrong = || Error::from(PeerMisbehaved::InvalidKeyShare);
        if peer.len() > U2048::BYTES {
            return Err(wrong());
        }
        let mut whole = [0; U2048::BYTES];
        let (_, place) = whole.split_at_mut(U2048::BYTES - peer.len());
        place.copy_from_slice(peer);
        let share = U2048::from_be_slice(&whole);
        // RFC 7919 §5.1: 1 < share < p - 1.
        let last = U2048::from_be_slice(FFDHE2048.p).wrapping_sub(&U2048::ONE);
        if share <= U2048::ONE || share >= last {
            return Err(wrong());
        }
        Ok(SharedSecret::from(power(&share, &self.secret)?))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::FFDHE2048
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.secret = U256::ZERO;
    }
}
