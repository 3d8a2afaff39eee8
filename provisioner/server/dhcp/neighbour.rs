//! Unicast to a client that has no address yet and so answers no ARP (RFC 2131 §4.1): the kernel is told its MAC before the
//! packet is sent. No raw frames, and the entry is one that the kernel verifies and forgets by itself.

use provisioner_wire::Mac;
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice::name_to_index, recv, send,
        socket_with,
    },
};
use std::{io, net::Ipv4Addr};

/// `RTM_NEWNEIGH` of rtnetlink(7).
const NEW_NEIGHBOUR: u16 = 28;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_REPLACE`, `NLM_F_CREATE` of netlink(7).
const FLAGS: u16 = 0x1 | 0x4 | 0x100 | 0x400;
/// `NUD_STALE`: to be used at once, and verified soon after.
const STALE: u16 = 4;
/// `NDA_DST` and `NDA_LLADDR`.
const DESTINATION: u16 = 1;
const LINK_ADDRESS: u16 = 2;
const INET: u8 = 2;
const LENGTH: u32 = 48;
/// `NLMSG_ERROR`; with error 0 it is the acknowledgement.
const ERROR: u16 = 2;

/// The kernel's neighbours on one interface.
#[derive(Debug)]
pub struct Neighbours {
    socket: OwnedFd,
    index: u32,
}

impl Neighbours {
    pub fn open(interface: &str) -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let kinds = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
        let socket = socket_with(kinds.0, kinds.1, kinds.2, None)?;
        let asked = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Self { index: name_to_index(asked, interface)?, socket })
    }

    /// `ip` is reached at `mac` until the kernel knows better. Needs `CAP_NET_ADMIN`. Never waits: the kernel answers
    /// within the call.
    pub fn put(&self, ip: Ipv4Addr, mac: Mac) -> io::Result<()> {
        send(&self.socket, &message(self.index, ip, mac), SendFlags::empty())?;
        let mut answer = [0; 128];
        let (length, _) = recv(&self.socket, &mut answer, RecvFlags::DONTWAIT)?;
        acknowledged(answer.get(..length).unwrap_or_default())
    }
}

/// Netlink's numbers are in the machine's own byte order.
fn message(index: u32, ip: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(NEW_NEIGHBOUR.to_ne_bytes());
    bytes.extend(FLAGS.to_ne_bytes());
    // Sequence and port.
    bytes.extend([0; 8]);
    bytes.extend([INET, 0, 0, 0]);
    bytes.extend(index.to_ne_bytes());
    bytes.extend(STALE.to_ne_bytes());
    // Flags and type.
    bytes.extend([0; 2]);
    bytes.extend(8u16.to_ne_bytes());
    bytes.extend(DESTINATION.to_ne_bytes());
    bytes.extend(ip.octets());
    bytes.extend(10u16.to_ne_bytes());
    bytes.extend(LINK_ADDRESS.to_ne_bytes());
    bytes.extend(mac.0);
    // To a multiple of four.
    bytes.extend([0; 2]);
    bytes
}

fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(error)) => Err(Errno::from_raw_os_error(error.wrapping_neg()).into()),
        _ => Err(io::Error::other("the kernel has not acknowledged a neighbour")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let bytes = message(3, Ipv4Addr::new(10, 88, 0, 9), Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(bytes.len(), LENGTH as usize);
    }

    #[test]
    fn the_kernels_word_is_read() {
        let answer = |kind: u16, error: i32| {
            let mut bytes = vec![0; 36];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&error.to_ne_bytes());
            acknowledged(&bytes)
        };
        assert!(answer(2, 0).is_ok());
        assert_eq!(answer(2, -1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(answer(3, 0).is_err() && acknowledged(&[]).is_err());
    }
}
