//! A script that is fetched over IPv6 hands the agent the address that it was fetched from: the boot environment has no
//! DHCPv6 client, and the address is the machine's already, by DHCPv6 or by its router's prefix. iPXE's own variables
//! do not tell it: chain-loaded by EDK2, it has `::` for `${netX/ip6}`.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use ipnet::Ipv6Net;
use provisioner_wire::order::cmdline::ADDRESS6;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// What every kernel line of our scripts has.
const BOOTIF: &str = "BOOTIF=01-${mac:hexhyp}";
/// Of any link that is not configured otherwise (RFC 4291 §2.5.4).
const PREFIX_LENGTH: u8 = 64;
const SCRIPT_BYTES_MAX: usize = 64 << 10;

/// Layer: scripts have their asker's address on the kernel line. `subnets` give its prefix length.
pub fn with_address(routes: Router, subnets: Vec<Ipv6Net>) -> Router {
    routes.layer(middleware::from_fn_with_state(Arc::new(subnets), tell))
}

async fn tell(State(subnets): State<Arc<Vec<Ipv6Net>>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_script = path.starts_with("/boot/") && path.ends_with(".ipxe");
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let response = next.run(request).await;
    // On a listener for both, IPv4 peers are mapped ones.
    let Some(IpAddr::V6(peer)) =
        peer.map(|ip| ip.to_canonical()).filter(|_| is_script && response.status() == StatusCode::OK)
    else {
        return response;
    };
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, SCRIPT_BYTES_MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let text = String::from_utf8_lossy(&bytes);
    Response::from_parts(parts, Body::from(told(&text, peer, &subnets)))
}

fn told(script: &str, peer: Ipv6Addr, subnets: &[Ipv6Net]) -> String {
    let length = subnets.iter().find(|net| net.contains(&peer)).map_or(PREFIX_LENGTH, Ipv6Net::prefix_len);
    script.replace(BOOTIF, &format!("{BOOTIF} {ADDRESS6}={peer}/{length}"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            boot::{Door, Script},
            script::Builder,
        },
        *,
    };

    #[test]
    fn the_agents_kernel_line_has_the_address_and_nothing_else_changes() {
        let builder = Builder::new("http://[fd88::1]:8080").unwrap();
        let script = Script::Agent { arguments: Vec::new(), door: Door::Plain };
        let plain = builder.text(&script).unwrap();
        let (peer, subnets) = ("fd88::100".parse().unwrap(), ["fd88::/112".parse().unwrap()]);
        for (subnets, address) in [(&subnets[..], "fd88::100/112"), (&[], "fd88::100/64")] {
            let text = told(&plain, peer, subnets);
            let kernel = text.lines().find(|line| line.starts_with("kernel ")).unwrap();
            assert!(kernel.starts_with("kernel http://[fd88::1]:8080/boot/files/vmlinuz "), "{kernel}");
            assert!(kernel.contains(&format!(" provisioner.ip6={address} ")), "{kernel}");
            assert_eq!(text.lines().count(), plain.lines().count());
        }
        let disk = builder.text(&Script::Disk { by: None }).unwrap();
        assert_eq!(told(&disk, peer, &subnets), disk);
    }
}
