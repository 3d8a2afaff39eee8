//! Whether a node takes a connection, or shows a certificate of the expected authority.

use super::{Result, Trouble, api::deepest};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn tcp(address: IpAddr, port: u16) -> Result<()> {
    connect(address, port).await.map(drop)
}

async fn connect(address: IpAddr, port: u16) -> Result<TcpStream> {
    let waits = |why: String| Trouble::Passing(format!("waits for {address} port {port}: {why}"));
    match tokio::time::timeout(WITHIN, TcpStream::connect((address, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(waits(error.to_string())),
        Err(_) => Err(waits(format!("no answer within {} s", WITHIN.as_secs()))),
    }
}

/// The handshake as far as the server's certificate. apid asks for a client's certificate, too, and refuses us
/// afterwards; its own was checked by then.
pub(super) async fn tls(address: IpAddr, port: u16, authority_pem: &[u8]) -> Result<()> {
    let wrong = |e: &dyn std::fmt::Display| Trouble::Lasting(format!("the expected authority: {e}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority_pem) {
        roots.add(certificate.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = connect(address, port).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let shaking = connector.connect(ServerName::IpAddress(address.into()), stream);
    let why = match tokio::time::timeout(WITHIN, shaking).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => deepest(&error),
        Err(_) => format!("no handshake within {} s", WITHIN.as_secs()),
    };
    Err(Trouble::Passing(format!("waits for the certificate of {address} port {port}: {why}")))
}
