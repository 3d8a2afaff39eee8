//! The sockets: an accept loop of our own, because a fault may have to cut a connection, which a web framework does
//! not do.

use super::{Fault, FaultKind, SimulatorConfig, documents::error, routes::router, state::Shared};
use anyhow::Context;
use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, Response, StatusCode, header},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// A running simulator; it ends when this is dropped.
#[derive(Debug)]
pub struct BmcSimulator {
    shared: Shared,
    address: SocketAddr,
    identity: Arc<Mutex<Option<TlsIdentity>>>,
    accepting: JoinHandle<()>,
}

/// A key and its certificate, ready to serve.
#[derive(Clone)]
struct TlsIdentity(TlsAcceptor);

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsIdentity")
    }
}

impl BmcSimulator {
    /// Listens on `at` (port 0: any).
    pub async fn start(config: SimulatorConfig, at: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
        let address = listener.local_addr()?;
        let identity = Arc::new(Mutex::new(if config.tls { Some(fresh_identity()?) } else { None }));
        let shared = Shared::new(config);
        let service = (shared.clone(), router(shared.clone()));
        let accepting = tokio::spawn(accept(listener, identity.clone(), service));
        Ok(Self { shared, address, identity, accepting })
    }

    /// `http(s)://127.0.0.1:port`.
    pub fn url(&self) -> String {
        let scheme = if self.shared.config().tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Arms a fault at the n-th call from now.
    pub fn arm(&self, fault: Fault) {
        let mut state = self.shared.state();
        state.calls.clear();
        state.fault = Some(fault);
    }

    /// Whether the armed fault is still waiting for its call.
    pub fn is_armed(&self) -> bool {
        self.shared.state().fault.is_some()
    }

    /// The calls since the start or the last [`arm`](Self::arm), like `GET /redfish/v1`.
    pub fn calls(&self) -> Vec<String> {
        self.shared.state().calls.clone()
    }

    pub fn open_sessions(&self) -> usize {
        self.shared.state().sessions.len()
    }

    /// Logins, refused logins, logouts.
    pub fn session_counts(&self) -> (usize, usize, usize) {
        let state = self.shared.state();
        (state.logins, state.refused_logins, state.logouts)
    }

    /// The resets that the first system took, in order.
    pub fn resets(&self) -> Vec<String> {
        self.shared.system_state(0).resets
    }

    /// Forgets every session, as a BMC does that restarts.
    pub fn forget_sessions(&self) {
        self.shared.state().sessions.clear();
    }

    /// A new key and certificate from the next connection on.
    pub fn renew_certificate(&self) -> anyhow::Result<()> {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh_identity()?);
        Ok(())
    }
}

impl Drop for BmcSimulator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn fresh_identity() -> anyhow::Result<TlsIdentity> {
    let made = rcgen::generate_simple_self_signed(["bmc.lab".to_owned()])?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("cannot use a key that was just made: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], key)?;
    Ok(TlsIdentity(TlsAcceptor::from(Arc::new(config))))
}

async fn accept(listener: TcpListener, identity: Arc<Mutex<Option<TlsIdentity>>>, service: (Shared, Router)) {
    while let Ok((socket, _)) = listener.accept().await {
        let identity = identity.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::spawn(connection(socket, identity, service.clone()));
    }
}

async fn connection(socket: TcpStream, identity: Option<TlsIdentity>, service: (Shared, Router)) {
    match identity {
        None => serve(socket, service).await,
        Some(TlsIdentity(acceptor)) => {
            if let Ok(stream) = acceptor.accept(socket).await {
                serve(stream, service).await;
            }
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, service: (Shared, Router)) {
    let handler = service_fn(move |request| answer(service.clone(), request));
    // An error here is a client that went away, or a fault that was asked for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handler).await;
}

/// One call: counted, made to fail if that is due, answered.
async fn answer(
    (shared, router): (Shared, Router),
    request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let fault = shared.called(format!("{} {}", request.method(), request.uri()));
    match &fault {
        Some(FaultKind::Status(status)) => return Ok(fail(*status, None)),
        Some(FaultKind::RetryAfter(status, seconds)) => return Ok(fail(*status, Some(*seconds))),
        Some(FaultKind::Reset) => return Err(cut()),
        Some(FaultKind::Delay(span)) => tokio::time::sleep(*span).await,
        Some(FaultKind::ForgetSessions) => shared.state().sessions.clear(),
        _ => {}
    }
    let service = TowerToHyperService::new(router);
    let Ok(response) = hyper::service::Service::call(&service, request).await;
    match fault {
        Some(FaultKind::Lost) => Err(cut()),
        Some(FaultKind::Truncate) => truncated(response).await,
        Some(FaultKind::DoneButStatus(status)) => Ok(fail(status, None)),
        Some(FaultKind::Html) => Ok(page()),
        _ => Ok(response),
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "a fault that was asked for")
}

fn fail(status: u16, retry_after: Option<u64>) -> Response<Body> {
    let body = error("InternalError", "A fault that was asked for.").to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn page() -> Response<Body> {
    let mut response = Response::new(Body::from("<html><body>Loading the management console</body></html>"));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
    response
}

/// The head of the answer promises all of it; half comes.
async fn truncated(response: Response<Body>) -> Result<Response<Body>, io::Error> {
    let (mut head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.map_err(io::Error::other)?;
    head.headers.insert(header::CONTENT_LENGTH, (body.len().max(2) as u64).into());
    if head.status == StatusCode::NO_CONTENT {
        head.status = StatusCode::OK;
    }
    let half = body.slice(..body.len() / 2);
    let parts = futures_util::stream::unfold(Some(half), async |half: Option<Bytes>| match half {
        Some(half) => Some((Ok::<_, io::Error>(half), None)),
        None => {
            // Lets the half reach the client before the connection closes.
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Err(cut()), None))
        }
    });
    Ok(Response::from_parts(head, Body::from_stream(parts)))
}
