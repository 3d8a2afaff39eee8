//! The two listeners: plain HTTP for what boots, TLS for what operates.

use super::{error::ApiError, short_way::ShortWay};
use axum::{
    Router,
    extract::{ConnectInfo, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

/// Open requests have this long to end at a shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// A bound listener that does not answer yet: its port is known, so that URLs can be made of it.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let name = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}"));
        let listener = TcpListener::bind(address).map_err(name)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers plain HTTP until `stop` ends.
    pub async fn plain(
        self,
        routes: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum_server::from_tcp(self.listener)?
            .handle(stopped_by(stop))
            .serve(routes.into_make_service_with_connect_info::<SocketAddr>())
            .await
    }

    /// [`Bound::plain`], with the short way for chunks before it.
    pub async fn plain_with_chunks(
        self,
        routes: Router,
        short_way: ShortWay,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum_server::from_tcp(self.listener)?
            .acceptor(short_way)
            .handle(stopped_by(stop))
            .serve(routes.into_make_service_with_connect_info::<SocketAddr>())
            .await
    }

    /// Answers HTTPS until `stop` ends.
    pub async fn tls(
        self,
        config: rustls::ServerConfig,
        routes: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let config = RustlsConfig::from_config(Arc::new(config));
        axum_server::from_tcp_rustls(self.listener, config)?
            .handle(stopped_by(stop))
            .serve(routes.into_make_service_with_connect_info::<SocketAddr>())
            .await
    }
}

fn stopped_by(stop: impl Future<Output = ()> + Send + 'static) -> Handle<SocketAddr> {
    let handle = Handle::new();
    let stopping = handle.clone();
    tokio::spawn(async move {
        stop.await;
        stopping.graceful_shutdown(Some(GRACE));
    });
    handle
}

/// Layer: the routes exist for callers on this host only. Bearer tokens must not cross a network in clear.
pub fn loopback_only(routes: Router) -> Router {
    routes.layer(middleware::from_fn(from_loopback))
}

async fn from_loopback(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if peer.is_some_and(|ConnectInfo(address)| address.ip().to_canonical().is_loopback()) {
        next.run(request).await
    } else {
        ApiError::NotFound("there is nothing here; the API is on the TLS listener".to_owned()).into_response()
    }
}
