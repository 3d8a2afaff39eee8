//! DHCP options as declared: by their names, or raw by code. The same table stands in the server's configuration (for an
//! interface or a subnet), in a profile and in a machine's record; the narrower one wins, option by option.

use super::values::BadValue;
use ipnet::Ipv4Net;
use provisioner_wire::ids::{hex, hex_into};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// More addresses of one kind than this have overrun buffers in firmware (PixieFail, CVE-2023-45230 and following).
pub const ADDRESSES_MAX: usize = 3;
/// RFC 2131 §2: the least that every client can take is 548 bytes in all; longer values seldom arrive.
const RAW_MAX: usize = 255;
/// RFC 1035 §2.3.4.
const LABEL_MAX: usize = 63;
const DOMAIN_MAX: usize = 253;

/// What is declared of DHCP answers. An empty one says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DhcpOptions {
    /// Option 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    #[serde(skip_serializing_if = "Addresses::is_empty")]
    pub dns: Addresses,
    /// Option 42.
    #[serde(skip_serializing_if = "Addresses::is_empty")]
    pub ntp: Addresses,
    /// Option 7: syslog servers.
    #[serde(skip_serializing_if = "Addresses::is_empty")]
    pub log: Addresses,
    /// Option 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainName>,
    /// Option 119 (RFC 3397).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<DomainName>,
    /// Option 26, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Option 121 (RFC 3442). A client that takes it ignores `router`: name the default route here, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Option 108 (RFC 8925): seconds for which an IPv6-only host needs no IPv4 address. Only said to who asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_only: Option<Ipv6OnlyWait>,
    /// Any other option, always sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub raw: Vec<RawOption>,
}

impl DhcpOptions {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// At most [`ADDRESSES_MAX`] addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Ipv4Addr>", into = "Vec<Ipv4Addr>")]
pub struct Addresses(Vec<Ipv4Addr>);

impl Addresses {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_slice(&self) -> &[Ipv4Addr] {
        &self.0
    }
}

impl TryFrom<Vec<Ipv4Addr>> for Addresses {
    type Error = BadValue;
    fn try_from(list: Vec<Ipv4Addr>) -> Result<Self, BadValue> {
        if list.len() > ADDRESSES_MAX {
            let what = format!("at most {ADDRESSES_MAX} addresses; some firmware overruns with more");
            return Err(BadValue::new(what));
        }
        Ok(Self(list))
    }
}

impl From<Addresses> for Vec<Ipv4Addr> {
    fn from(list: Addresses) -> Self {
        list.0
    }
}

/// Labels of letters, digits and hyphens, joined by dots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

impl DomainName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DomainName {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= LABEL_MAX
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if text.len() > DOMAIN_MAX || !text.split('.').all(label) {
            return Err(BadValue::new(format!("{text:?} is not a domain name")));
        }
        Ok(Self(text))
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

/// 576 to 9,216 bytes: below, no boot file arrives; above, no Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Mtu(u16);

impl TryFrom<u16> for Mtu {
    type Error = BadValue;
    fn try_from(bytes: u16) -> Result<Self, BadValue> {
        match bytes {
            576..=9216 => Ok(Self(bytes)),
            _ => Err(BadValue::new(format!("an MTU of {bytes} is not between 576 and 9216"))),
        }
    }
}

impl From<Mtu> for u16 {
    fn from(mtu: Mtu) -> Self {
        mtu.0
    }
}

/// RFC 8925 §3.4: clients take less than 300 for 300.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ipv6OnlyWait(u32);

impl TryFrom<u32> for Ipv6OnlyWait {
    type Error = BadValue;
    fn try_from(seconds: u32) -> Result<Self, BadValue> {
        match seconds {
            300.. => Ok(Self(seconds)),
            _ => Err(BadValue::new(format!("{seconds} s is less than the 300 s of RFC 8925"))),
        }
    }
}

impl From<Ipv6OnlyWait> for u32 {
    fn from(wait: Ipv6OnlyWait) -> Self {
        wait.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `10.0.0.0/8`; `0.0.0.0/0` is the default route.
    pub to: Ipv4Net,
    pub via: Ipv4Addr,
}

/// One option by its code: its bytes, or its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Given", into = "Given")]
pub struct RawOption {
    code: u8,
    value: Vec<u8>,
}

impl RawOption {
    pub fn code(&self) -> u8 {
        self.code
    }

    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// A raw option as written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl TryFrom<Given> for RawOption {
    type Error = BadValue;
    fn try_from(given: Given) -> Result<Self, BadValue> {
        let code = given.code;
        if let Some(why) = taken(code) {
            return Err(BadValue::new(format!("option {code} cannot be written raw: {why}")));
        }
        let value = match (given.hex, given.text) {
            (Some(digits), None) => {
                let digits: String = digits.chars().filter(|c| !matches!(c, ' ' | ':')).collect();
                let mut bytes = vec![0; digits.len() / 2];
                let read = hex_into(&digits, &mut bytes);
                read.ok_or_else(|| BadValue::new(format!("option {code}: hex is pairs of digits 0-9, a-f")))?;
                bytes
            }
            (None, Some(text)) => text.into_bytes(),
            _ => return Err(BadValue::new(format!("option {code} is given as either hex or text"))),
        };
        if value.len() > RAW_MAX {
            let what = format!("option {code} has {} bytes; {RAW_MAX} is the most", value.len());
            return Err(BadValue::new(what));
        }
        Ok(Self { code, value })
    }
}

impl From<RawOption> for Given {
    fn from(raw: RawOption) -> Self {
        Self { code: raw.code, hex: Some(hex(&raw.value)), text: None }
    }
}

/// Why an option is not an operator's to write raw; `None` where it is.
fn taken(code: u8) -> Option<&'static str> {
    Some(match code {
        0 | 255 => "it is no option but padding or the end",
        1 | 28 => "it follows from the subnet's network",
        3 => "it has a name, router",
        6 => "it has a name, dns",
        7 => "it has a name, log",
        12 => "it is the machine's name",
        15 => "it has a name, domain",
        26 => "it has a name, mtu",
        42 => "it has a name, ntp",
        108 => "it has a name, ipv6_only",
        119 => "it has a name, search",
        121 => "it has a name, routes",
        50..=59 | 61 | 80 | 90 | 118 => "it is the server's own part of the exchange",
        43 | 60 | 66 | 67 | 93 | 94 | 97 | 150 | 175 => {
            "it belongs to the boot answer, which the server makes"
        }
        77 | 81 | 124 | 125 => "it is answered only by negotiation, which is not spoken here",
        82 => "it is the relay's, and comes back as it was",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DhcpOptions, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn each_mistake_is_refused_and_says_why() {
        for (text, expected) in [
            (
                "raw = [{ code = 53, hex = \"01\" }]",
                "option 53 cannot be written raw: it is the server's own",
            ),
            ("raw = [{ code = 54, hex = \"01\" }]", "the server's own part"),
            ("raw = [{ code = 82, hex = \"01\" }]", "it is the relay's"),
            ("raw = [{ code = 67, text = \"x\" }]", "belongs to the boot answer"),
            ("raw = [{ code = 42, hex = \"0a580001\" }]", "it has a name, ntp"),
            ("raw = [{ code = 12, text = \"x\" }]", "it is the machine's name"),
            ("raw = [{ code = 255, hex = \"\" }]", "padding or the end"),
            ("raw = [{ code = 300, hex = \"\" }]", "invalid value"),
            ("raw = [{ code = 224, hex = \"0\" }]", "pairs of digits"),
            ("raw = [{ code = 224, hex = \"zz\" }]", "pairs of digits"),
            ("raw = [{ code = 224 }]", "either hex or text"),
            ("raw = [{ code = 224, hex = \"00\", text = \"x\" }]", "either hex or text"),
            ("mtu = 100", "not between 576 and 9216"),
            ("ipv6_only = 10", "less than the 300 s"),
            ("domain = \"a b\"", "is not a domain name"),
            ("domain = \"\"", "is not a domain name"),
            ("domain = \"-a.b\"", "is not a domain name"),
            ("ntp = [\"1.1.1.1\", \"1.1.1.2\", \"1.1.1.3\", \"1.1.1.4\"]", "at most 3"),
            ("wins = [\"1.1.1.1\"]", "unknown field `wins`"),
            ("routes = [{ to = \"10.0.0.0/8\" }]", "missing field `via`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_was_read_is_written_and_read_again() {
        let text = "router = \"10.88.0.254\"\nntp = [\"10.88.0.1\"]\ndomain = \"lab.example\"\nmtu = 9000\n\
            routes = [{ to = \"10.0.0.0/8\", via = \"10.88.0.9\" }]\n\
            raw = [{ code = 224, hex = \"00:ff\" }, { code = 209, text = \"x.cfg\" }]\n";
        let options = read(text).unwrap();
        assert_eq!(options.raw[0].value(), [0, 0xff]);
        assert_eq!(options.raw[1].value(), b"x.cfg");
        let again = serde_json::from_value(serde_json::to_value(&options).unwrap()).unwrap();
        assert_eq!(options, again);
        assert_eq!(serde_json::to_value(DhcpOptions::default()).unwrap(), serde_json::json!({}));
    }
}
