//! PURE. Options of answers: from what is declared to bytes, and a list of them to a packet's end.

use crate::inventory::DhcpOptions;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Options by code, each value whole.
pub type OptionSet = BTreeMap<u8, Vec<u8>>;

/// Sent only to a client that asks for it (RFC 8925 §3.2).
const ONLY_IF_ASKED: u8 = 108;
/// Options with a name that every client understands or ignores: left out where the client lists what it wants and they
/// are not on the list. Written raw by an operator, an option is always sent.
const NAMED: [u8; 8] = [7, 12, 15, 26, 42, 108, 119, 121];

/// The bytes of what is declared.
pub fn encoded(options: &DhcpOptions) -> OptionSet {
    let mut set = OptionSet::new();
    let mut put = |code: u8, value: Vec<u8>| {
        if !value.is_empty() {
            set.insert(code, value);
        }
    };
    put(3, addresses(options.router.as_slice()));
    put(6, addresses(options.dns.as_slice()));
    put(7, addresses(options.log.as_slice()));
    put(15, options.domain.as_ref().map_or_else(Vec::new, |name| name.as_str().as_bytes().to_vec()));
    put(26, options.mtu.map_or_else(Vec::new, |mtu| u16::from(mtu).to_be_bytes().to_vec()));
    put(42, addresses(options.ntp.as_slice()));
    put(108, options.ipv6_only.map_or_else(Vec::new, |wait| u32::from(wait).to_be_bytes().to_vec()));
    put(119, options.search.iter().flat_map(|name| labels(name.as_str())).collect());
    put(121, options.routes.iter().flat_map(|r| route(r.to, r.via)).collect());
    for raw in &options.raw {
        set.insert(raw.code(), raw.value().to_vec());
    }
    set
}

/// `option` may be sent to a client that lists these codes in option 55 (`None`: it lists none).
pub fn is_wanted(option: u8, listed: Option<&[u8]>) -> bool {
    match listed {
        Some(codes) if codes.contains(&option) => true,
        Some(_) => !NAMED.contains(&option),
        None => option != ONLY_IF_ASKED,
    }
}

pub fn addresses(list: &[Ipv4Addr]) -> Vec<u8> {
    list.iter().flat_map(|ip| ip.octets()).collect()
}

/// A domain name as in DNS, uncompressed (RFC 3397 §2 allows it).
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// RFC 3442: the prefix length, as many octets of the network as matter, the router.
fn route(to: ipnet::Ipv4Net, via: Ipv4Addr) -> Vec<u8> {
    let octets = to.trunc().network().octets();
    let significant = usize::from(to.prefix_len().div_ceil(8));
    let mut bytes = vec![to.prefix_len()];
    bytes.extend_from_slice(octets.get(..significant).unwrap_or_default());
    bytes.extend_from_slice(&via.octets());
    bytes
}

/// The options of one answer in the order they will stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionList(Vec<(u8, Vec<u8>)>);

impl OptionList {
    /// Puts one at the end, in place of an earlier one of its code. An empty value is none.
    pub fn put(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        let value = value.into();
        self.0.retain(|(c, _)| *c != code);
        if !value.is_empty() {
            self.0.push((code, value));
        }
    }

    /// RFC 2131 §4.3.1 lets a server answer in any order; ROMs with little room take what comes first. So: the exchange
    /// itself, what the client lists, in its order, then the rest.
    pub fn in_order_of(mut self, listed: &[u8]) -> Self {
        const FIRST: [u8; 3] = [53, 54, 51];
        self.0.sort_by_key(|(code, _)| {
            let place = |list: &[u8]| list.iter().position(|c| c == code);
            place(&FIRST).or_else(|| place(listed).map(|at| FIRST.len() + at)).unwrap_or(usize::MAX)
        });
        self
    }

    /// Drops the last option that is none of `needed`; `false` where there is none to drop.
    pub fn drop_last(&mut self, needed: &[u8]) -> bool {
        let last = self.0.iter().rposition(|(code, _)| !needed.contains(code));
        last.map(|at| self.0.remove(at)).is_some()
    }

    /// Bytes without the end mark. A value of more than 255 bytes is split (RFC 3396 §4).
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(code, value)| split(*code, value)).collect()
    }
}

/// One option, in as many parts as it needs.
pub fn split(code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + 2);
    for part in value.chunks(255) {
        bytes.push(code);
        bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> OptionSet {
        encoded(&toml::from_str(text).unwrap())
    }

    #[test]
    fn each_name_has_its_bytes() {
        for (text, code, bytes) in [
            ("router = \"10.88.0.254\"", 3, &[10, 88, 0, 254][..]),
            ("dns = [\"10.88.0.1\", \"10.88.0.2\"]", 6, &[10, 88, 0, 1, 10, 88, 0, 2]),
            ("log = [\"10.88.0.1\"]", 7, &[10, 88, 0, 1]),
            ("domain = \"lab.example\"", 15, b"lab.example"),
            ("mtu = 9000", 26, &[0x23, 0x28]),
            ("ntp = [\"10.88.0.1\"]", 42, &[10, 88, 0, 1]),
            ("ipv6_only = 1800", 108, &[0, 0, 7, 8]),
            ("search = [\"a.example\", \"b\"]", 119, b"\x01a\x07example\0\x01b\0"),
            ("raw = [{ code = 224, text = \"x\" }]", 224, b"x"),
        ] {
            assert_eq!(set(text), OptionSet::from([(code, bytes.to_vec())]), "{text}");
        }
    }

    #[test]
    fn rfc3442_routes() {
        // The examples of the RFC's table.
        for (to, expected) in [
            ("0.0.0.0/0", &[0][..]),
            ("10.0.0.0/8", &[8, 10]),
            ("10.17.0.0/16", &[16, 10, 17]),
            ("10.27.129.0/24", &[24, 10, 27, 129]),
            ("10.229.0.128/25", &[25, 10, 229, 0, 128]),
            ("10.198.122.47/32", &[32, 10, 198, 122, 47]),
        ] {
            let found = set(&format!("routes = [{{ to = \"{to}\", via = \"10.88.0.9\" }}]"));
            assert_eq!(found[&121], [expected, &[10, 88, 0, 9]].concat(), "{to}");
        }
    }

    #[test]
    fn rfc3396_a_long_value_is_split_and_joins_again() {
        let long: Vec<u8> = (0..600u32).map(|n| n as u8).collect();
        let mut list = OptionList::default();
        list.put(121, long.clone());
        let bytes = list.bytes();
        assert_eq!(bytes.len(), 600 + 3 * 2);
        assert_eq!(
            (bytes[0], bytes[1], bytes[257], bytes[258], bytes[514], bytes[515]),
            (121, 255, 121, 255, 121, 90)
        );
        let mut packet = super::super::intake::tests::packet([2, 0, 0, 0, 0, 1], &[(53, &[1])]);
        packet.pop();
        packet.extend_from_slice(&bytes);
        let read = super::super::intake::Request::read(&packet).unwrap();
        assert_eq!(read.raw(121), Some(&long[..]));
    }

    #[test]
    fn option_55_gives_the_order_and_what_is_left_out() {
        let mut list = OptionList::default();
        for code in [1, 3, 6, 51, 53, 54, 224] {
            list.put(code, [1]);
        }
        let codes: Vec<u8> =
            list.in_order_of(&[6, 99, 1]).bytes().chunks(3).map(|option| option[0]).collect();
        assert_eq!(codes, [53, 54, 51, 6, 1, 3, 224]);
        assert!(is_wanted(42, None) && is_wanted(42, Some(&[42])) && !is_wanted(42, Some(&[1])));
        assert!(is_wanted(224, Some(&[1])), "raw options are always sent");
        assert!(!is_wanted(108, None) && is_wanted(108, Some(&[108])));
    }

    #[test]
    fn the_last_that_is_not_needed_goes_first() {
        let mut list = OptionList::default();
        for code in [53, 42, 1, 7] {
            list.put(code, [1]);
        }
        assert!(list.drop_last(&[53, 1]) && list.drop_last(&[53, 1]) && !list.drop_last(&[53, 1]));
        assert_eq!(list.bytes(), [53, 1, 1, 1, 1, 1]);
    }
}
