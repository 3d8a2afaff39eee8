//! Who is answered, and how many at once.

use ipnet::IpNet;
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Transfers at once; with a port for each, as many open files.
const TRANSFERS_MAX: usize = 2048;

/// Why a packet gets no answer at all: not even an error, which could be sent on to a forged address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the address is in no served network (tftp.serve_to)")]
    NotServed,
    #[error("{TRANSFERS_MAX} transfers run; the client will ask again")]
    Full,
    #[error("the address has as many transfers as it may have (tftp.transfers_per_client)")]
    TooManyOfOne,
    #[error("the same request again, and the first is being answered")]
    Twice,
}

#[derive(Debug)]
pub struct Admission {
    serve_to: Vec<IpNet>,
    of_one_max: usize,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    all: usize,
    of: HashMap<IpAddr, usize>,
    /// Requests in answer to which nothing was heard yet: a doubled or forged one must not start another transfer.
    unproven: HashMap<SocketAddr, Vec<u8>>,
}

impl Admission {
    pub fn new(serve_to: Vec<IpNet>, of_one_max: usize) -> Arc<Self> {
        Arc::new(Self { serve_to, of_one_max, guests: Mutex::default() })
    }

    /// A place for one transfer, until it is dropped.
    pub fn enter(self: &Arc<Self>, peer: SocketAddr, request: &[u8]) -> Result<Place, Denied> {
        let ip = peer.ip().to_canonical();
        // Nothing can be sent to port 0 or to everybody.
        let reachable = peer.port() != 0 && !ip.is_unspecified() && !ip.is_multicast();
        if !reachable || !self.serve_to.iter().any(|net| net.contains(&ip)) {
            return Err(Denied::NotServed);
        }
        let mut guests = self.guests();
        if guests.unproven.get(&peer).is_some_and(|known| known == request) {
            return Err(Denied::Twice);
        }
        if guests.all >= TRANSFERS_MAX {
            return Err(Denied::Full);
        }
        let count = guests.of.entry(ip).or_default();
        if *count >= self.of_one_max {
            return Err(Denied::TooManyOfOne);
        }
        *count += 1;
        guests.all += 1;
        guests.unproven.insert(peer, request.to_vec());
        Ok(Place { admission: self.clone(), peer, proven: false })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    peer: SocketAddr,
    proven: bool,
}

impl Place {
    /// The client was heard. From now on the same request is a new one: a machine that restarts asks from the same port.
    pub fn prove(&mut self) {
        if !self.proven {
            self.proven = true;
            self.admission.guests().unproven.remove(&self.peer);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.prove();
        let ip = self.peer.ip().to_canonical();
        let mut guests = self.admission.guests();
        guests.all = guests.all.saturating_sub(1);
        if let Some(count) = guests.of.get_mut(&ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                guests.of.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_served_networks_are_answered() {
        let admission =
            Admission::new(vec!["10.88.0.0/24".parse().unwrap(), "fe80::/10".parse().unwrap()], 4);
        for good in ["10.88.0.7:2070", "[fe80::1]:9", "[::ffff:10.88.0.9]:9"] {
            assert!(admission.enter(peer(good), b"a").is_ok(), "{good}");
        }
        for bad in ["10.88.1.7:2070", "8.8.8.8:53", "[2001:db8::1]:9", "10.88.0.7:0", "[::ffff:8.8.8.8]:9"] {
            assert_eq!(admission.enter(peer(bad), b"a").unwrap_err(), Denied::NotServed, "{bad}");
        }
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let admission = Admission::new(vec!["10.0.0.0/8".parse().unwrap()], 2);
        let _first = admission.enter(peer("10.0.0.1:1"), b"a").unwrap();
        let second = admission.enter(peer("10.0.0.1:2"), b"a").unwrap();
        assert_eq!(admission.enter(peer("10.0.0.1:3"), b"a").unwrap_err(), Denied::TooManyOfOne);
        assert!(admission.enter(peer("10.0.0.2:3"), b"a").is_ok());
        drop(second);
        assert!(admission.enter(peer("10.0.0.1:3"), b"a").is_ok());
    }

    #[test]
    fn all_together_are_bounded_and_nothing_is_kept_of_those_that_left() {
        let admission = Admission::new(vec!["10.0.0.0/8".parse().unwrap()], 1);
        let address = |n: usize| peer(&format!("10.0.{}.{}:9", n / 250, n % 250));
        let places: Vec<_> = (0..TRANSFERS_MAX).map(|n| admission.enter(address(n), b"a").unwrap()).collect();
        assert_eq!(admission.enter(peer("10.9.9.9:9"), b"a").unwrap_err(), Denied::Full);
        drop(places);
        let guests = admission.guests();
        assert_eq!((guests.all, guests.of.len(), guests.unproven.len()), (0, 0, 0));
    }

    #[test]
    fn a_request_is_answered_once_until_its_client_is_heard() {
        let admission = Admission::new(vec!["10.0.0.0/8".parse().unwrap()], 8);
        let mut place = admission.enter(peer("10.0.0.1:9"), b"a").unwrap();
        assert_eq!(admission.enter(peer("10.0.0.1:9"), b"a").unwrap_err(), Denied::Twice);
        assert!(admission.enter(peer("10.0.0.1:9"), b"b").is_ok(), "another request is another transfer");
        place.prove();
        assert!(admission.enter(peer("10.0.0.1:9"), b"a").is_ok());
    }
}
