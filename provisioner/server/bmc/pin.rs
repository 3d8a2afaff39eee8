//! Trust on first use: a BMC's certificate is self-signed, so its public key is remembered instead of its issuer.
//! The key (SPKI), not the certificate, is pinned: BMCs renew certificates, with the same key, by themselves.

use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

/// SHA-256 of a certificate's SubjectPublicKeyInfo. Text form: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate in DER.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        Ok(Self(Sha256::digest(parsed.subject_public_key_info().as_ref()).into()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", provisioner_wire::ids::hex(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a TLS pin (\"sha256:\" and 64 hexadecimal digits)")]
pub struct PinError;

impl FromStr for Pin {
    type Err = PinError;
    fn from_str(text: &str) -> Result<Self, PinError> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix("sha256:").ok_or(PinError)?;
        provisioner_wire::ids::hex_into(digits, &mut bytes).ok_or(PinError)?;
        Ok(Self(bytes))
    }
}

/// What the handshakes of one client have shown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The key that every handshake must show; taken from the first one where none was stored.
    trusted: Option<Pin>,
    /// The first other key that was shown.
    intruder: Option<Pin>,
}

/// Accepts exactly one key: the pinned one, or else the first one seen.
#[derive(Debug)]
pub struct PinVerifier {
    provider: Arc<CryptoProvider>,
    known: Mutex<Known>,
}

impl PinVerifier {
    pub fn new(provider: Arc<CryptoProvider>, pin: Option<Pin>) -> Self {
        Self { provider, known: Mutex::new(Known { trusted: pin, intruder: None }) }
    }

    /// The key that is trusted by now.
    pub fn trusted(&self) -> Option<Pin> {
        self.known().trusted
    }

    /// `(expected, seen)` once another key was shown.
    pub fn changed(&self) -> Option<(Pin, Pin)> {
        let known = *self.known();
        known.trusted.zip(known.intruder)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Pin::of(end_entity)?;
        let mut known = self.known();
        if *known.trusted.get_or_insert(seen) == seen {
            return Ok(ServerCertVerified::assertion());
        }
        known.intruder = Some(seen);
        Err(rustls::Error::General("the server's key is not the pinned one".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> CertificateDer<'static> {
        rcgen::generate_simple_self_signed(["bmc".to_owned()]).unwrap().cert.into()
    }

    fn show(verifier: &PinVerifier, certificate: &CertificateDer<'_>) -> bool {
        let name = ServerName::try_from("bmc").unwrap();
        verifier
            .verify_server_cert(certificate, &[], &name, &[], UnixTime::since_unix_epoch(Default::default()))
            .is_ok()
    }

    #[test]
    fn the_first_key_is_kept_and_another_is_refused() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (first, other) = (certificate(), certificate());
        let verifier = PinVerifier::new(provider.clone(), None);
        assert!(show(&verifier, &first) && show(&verifier, &first));
        assert_eq!(verifier.changed(), None);
        assert!(!show(&verifier, &other));
        assert_eq!(verifier.changed(), Some((Pin::of(&first).unwrap(), Pin::of(&other).unwrap())));

        let stored: Pin = verifier.trusted().unwrap().to_string().parse().unwrap();
        assert!(!show(&PinVerifier::new(provider, Some(stored)), &other));
    }
}
