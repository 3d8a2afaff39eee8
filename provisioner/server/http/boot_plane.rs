//! What the routes need of the boot plane, and what they tell it. `serve` brings the real one.

use super::content::Answer;
use axum::{
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request, State},
    http::{Response, header},
    middleware::Next,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::watch;
use utoipa::ToSchema;

/// One request for a boot script or a boot file, when its answer is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub peer: IpAddr,
    pub method: String,
    pub path: String,
    pub status: u16,
    /// Of the body, taken by the network.
    pub bytes: u64,
    /// The body came to its end.
    pub whole: bool,
    /// The `User-Agent`.
    pub agent: String,
}

/// Counts since the server's start.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Counts {
    /// DHCP packets, by message.
    pub packets: BTreeMap<String, u64>,
    /// Packets that are no request that can be answered, by reason.
    pub malformed: BTreeMap<String, u64>,
    /// Requests that got no answer, by reason.
    pub unanswered: BTreeMap<String, u64>,
    /// TFTP transfers, by how they ended.
    pub transfers: BTreeMap<String, u64>,
    /// HTTP requests for boot scripts and files, by status.
    pub fetches: BTreeMap<String, u64>,
    /// Signs that are in no timeline, by reason.
    pub unkept: BTreeMap<String, u64>,
    /// Pieces of images: sent, from memory, made to wait.
    pub images: BTreeMap<String, u64>,
}

/// A question that is only thought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// Whose MAC. Not needed with `packets`.
    #[schema(value_type = Option<String>)]
    pub mac: Option<provisioner_wire::Mac>,
    /// `bios`, `uefi`, `uefi-http`, `ipxe` or `system`.
    pub firmware: Option<String>,
    /// `x86_64`, `i386`, `arm64`, `arm`, `riscv64` or `loongarch64`; or the number of option 93.
    pub arch: Option<String>,
    /// The relay that it comes through.
    #[schema(value_type = Option<String>)]
    pub relay: Option<Ipv4Addr>,
    /// The subnet that the relay selects (option 82, sub-option 5); a relay in it is made up where none is named.
    #[schema(value_type = Option<String>)]
    pub subnet: Option<Ipv4Addr>,
    /// Packets as captured, in their order, in place of all above but `relay` and `subnet`.
    pub packets: Vec<Captured>,
}

/// The UDP payload of one captured packet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    /// Where it went: 67, or 4011.
    pub port: u16,
    /// Where it came from.
    #[schema(value_type = String)]
    pub from: Ipv4Addr,
    /// Hexadecimal.
    pub bytes: String,
}

/// One packet and the answer that the server would give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Exchange {
    /// `discover from x64 UEFI PXE`.
    pub asked: String,
    #[schema(value_type = Option<String>)]
    pub mac: Option<provisioner_wire::Mac>,
    /// What is said, or why nothing.
    pub said: String,
    /// The boot file in the answer.
    pub file: Option<String>,
    /// Where the answer would be sent.
    pub to: Option<String>,
    /// Header fields and options of the answer, in their order.
    pub fields: Vec<Field>,
    /// Hexadecimal.
    pub request_bytes: String,
    pub answer_bytes: Option<String>,
}

/// One header field or option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Field {
    /// `yiaddr`, or the option's number.
    pub code: String,
    pub name: String,
    pub value: String,
    /// Hexadecimal.
    pub bytes: String,
}

pub trait BootPlane: Send + Sync + 'static {
    fn fetched(&self, fetched: Fetched);

    fn counts(&self) -> Counts;

    /// Changes whenever a DHCP server that is not ours was heard.
    fn changed(&self) -> watch::Receiver<u64>;

    /// What would be answered. Sends nothing and changes nothing.
    fn what_if<'a>(&'a self, question: &'a Question) -> Answer<'a, Result<Vec<Exchange>, String>>;
}

/// A server without DHCP, TFTP and ears.
#[derive(Debug)]
pub struct NoBootPlane(watch::Sender<u64>);

impl Default for NoBootPlane {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl BootPlane for NoBootPlane {
    fn fetched(&self, fetched: Fetched) {
        drop(fetched);
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    fn what_if<'a>(&'a self, _: &'a Question) -> Answer<'a, Result<Vec<Exchange>, String>> {
        Box::pin(async { Err("this server answers no DHCP".to_owned()) })
    }
}

/// Layer over the routes that firmware and iPXE fetch from: tells each request when its answer is over.
pub async fn witness(
    State(boot_plane): State<Arc<dyn BootPlane>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() else {
        return next.run(request).await;
    };
    let agent = request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut fetched = Fetched {
        peer: peer.ip().to_canonical(),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        status: 0,
        bytes: 0,
        whole: false,
        agent: agent.to_owned(),
    };
    let response = next.run(request).await;
    fetched.status = response.status().as_u16();
    // Nothing will ask an empty body for its end.
    fetched.whole = response.body().is_end_stream() || fetched.method == "HEAD";
    response.map(|body| Body::new(Witnessed { body, told: Some((boot_plane, fetched)) }))
}

/// A body that tells when it is over, or dropped before.
struct Witnessed {
    body: Body,
    told: Option<(Arc<dyn BootPlane>, Fetched)>,
}

impl HttpBody for Witnessed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let over = matches!(polled, Poll::Ready(None)) || self.body.is_end_stream();
        if let Some((_, fetched)) = &mut self.told {
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                fetched.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            fetched.whole |= over;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    // Firmware wants an exact Content-Length, which is made of this.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Witnessed {
    fn drop(&mut self) {
        if let Some((boot_plane, fetched)) = self.told.take() {
            boot_plane.fetched(fetched);
        }
    }
}
