//! The kernel command line's words that are meant for the agent.

use provisioner_wire::{BootId, Mac, order::cmdline as word};
use std::net::Ipv6Addr;

/// What the boot script told the agent. `Debug` hides the boot id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline {
    /// Base URL of the server, without a trailing slash.
    pub server: String,
    pub boot_id: BootId,
    /// The server's X25519 public key, 64 hexadecimal digits.
    pub server_key: String,
    /// The NIC that network-booted.
    pub boot_mac: Option<Mac>,
    /// Open a rescue shell on the console when a step fails.
    pub shell_on_failure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    #[error("the kernel command line has no {0}=; it must come from the server's boot script")]
    Missing(&'static str),
    #[error(
        "the kernel command line names another server's key than the one this agent was signed for; nothing was sent"
    )]
    OtherServer,
    #[error("{word}= on the kernel command line: {reason}")]
    Bad { word: &'static str, reason: String },
}

impl Cmdline {
    /// Reads `/proc/cmdline`'s text. Where a word stands twice the last one counts, as in the kernel.
    pub fn parse(text: &str) -> Result<Self, CmdlineError> {
        let need = |name: &'static str| value(text, name).ok_or(CmdlineError::Missing(name));
        let server = need(word::SERVER)?.trim_end_matches('/').to_owned();
        if !server.starts_with("http://") {
            return Err(CmdlineError::Bad {
                word: word::SERVER,
                reason: format!("\"{server}\" is not an http:// URL"),
            });
        }
        let boot_id = need(word::BOOT_ID)?
            .parse()
            .map_err(|e| CmdlineError::Bad { word: word::BOOT_ID, reason: format!("{e}") })?;
        let server_key = need(word::SERVER_KEY)?.to_owned();
        if server_key.len() != 64 || !server_key.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(CmdlineError::Bad {
                word: word::SERVER_KEY,
                reason: "not 64 hexadecimal digits".into(),
            });
        }
        Ok(Self {
            server,
            boot_id,
            server_key,
            boot_mac: boot_mac(text),
            shell_on_failure: shell_on_failure(text),
        })
    }
}

/// Where a signed agent has the key of the only server it listens to: its image is covered by the signature, its command
/// line is not.
pub const PINNED_KEY: &str = "/etc/provisioner-server-key";

impl Cmdline {
    /// The same, where `pinned` ([`PINNED_KEY`]'s text, where there is one) names this server.
    pub fn of_pinned_server(self, pinned: Option<&str>) -> Result<Self, CmdlineError> {
        match pinned {
            Some(key) if !key.trim().eq_ignore_ascii_case(&self.server_key) => Err(CmdlineError::OtherServer),
            _ => Ok(self),
        }
    }
}

/// `BOOTIF=01-aa-bb-…`; absent or unreadable is `None`, for then any NIC with a link will do.
pub fn boot_mac(text: &str) -> Option<Mac> {
    let value = value(text, word::BOOTIF)?;
    let (_hardware_type, mac) = value.split_at_checked(3)?;
    mac.parse().ok()
}

/// How the machine speaks IPv6 to its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverIpv6 {
    /// With its prefix length; none where the boot script did not tell: the kernel makes one of the router's prefix.
    pub address: Option<(Ipv6Addr, u8)>,
}

/// `None` where the server is not an IPv6 address: the machine asks for a lease by DHCPv4.
pub fn over_ipv6(text: &str) -> Option<OverIpv6> {
    value(text, word::SERVER)?.strip_prefix("http://[")?;
    let told = value(text, word::ADDRESS6).and_then(|v| v.split_once('/'));
    let address = told.and_then(|(address, length)| Some((address.parse().ok()?, length.parse().ok()?)));
    Some(OverIpv6 {
        address: address.filter(|(ip, bits): &(Ipv6Addr, u8)| !ip.is_unspecified() && *bits <= 128),
    })
}

/// True for `provisioner.on_failure=shell`.
pub fn shell_on_failure(text: &str) -> bool {
    value(text, word::ON_FAILURE) == Some("shell")
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_ascii_whitespace().rev().find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> String {
        format!(
            "initrd=agent.img provisioner.server=http://10.88.0.1:8080/ provisioner.boot={} provisioner.key={} \
             BOOTIF=01-52-54-00-12-34-56 console=ttyS0",
            "ab".repeat(16),
            "cd".repeat(32)
        )
    }

    #[test]
    fn a_signed_agent_listens_to_its_own_server_only() {
        let parsed = Cmdline::parse(&line()).unwrap();
        let own = format!("{}\n", "CD".repeat(32));
        for pinned in [None, Some(own.as_str())] {
            assert_eq!(parsed.clone().of_pinned_server(pinned).unwrap(), parsed);
        }
        for other in ["ce".repeat(32), String::new()] {
            assert_eq!(parsed.clone().of_pinned_server(Some(&other)), Err(CmdlineError::OtherServer));
        }
    }

    #[test]
    fn the_boot_scripts_words_are_read() {
        let parsed = Cmdline::parse(&line()).unwrap();
        assert_eq!(parsed.server, "http://10.88.0.1:8080");
        assert_eq!(parsed.boot_mac.unwrap().to_string(), "52:54:00:12:34:56");
        assert!(!parsed.shell_on_failure);
        assert!(Cmdline::parse(&(line() + " provisioner.on_failure=shell\n")).unwrap().shell_on_failure);
        assert!(!format!("{parsed:?}").contains("abab"), "the boot id prints itself");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (cut, named) in [
            ("provisioner.server", "provisioner.server"),
            ("provisioner.boot", "provisioner.boot"),
            ("provisioner.key", "provisioner.key"),
        ] {
            let error = Cmdline::parse(&line().replace(cut, "x")).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let error = Cmdline::parse(&line().replace("http://", "ftp://")).unwrap_err().to_string();
        assert!(error.contains("ftp://10.88.0.1:8080"), "{error}");
        assert_eq!(Cmdline::parse(&line().replace("01-52", "zz-5")).unwrap().boot_mac, None);
    }

    #[test]
    fn over_ipv6_the_address_is_the_scripts() {
        let six = line().replace("10.88.0.1", "[fd88::1]");
        assert_eq!(over_ipv6(&line()), None);
        let none = Some(OverIpv6 { address: None });
        assert_eq!(over_ipv6(&six), none);
        let told = over_ipv6(&format!("{six} provisioner.ip6=fd88::64/64"));
        assert_eq!(told.unwrap().address, Some(("fd88::64".parse().unwrap(), 64)));
        for bad in ["/", "::/64", "fd88::64", "fd88::64/129", "10.0.0.1/24", "x/64"] {
            assert_eq!(over_ipv6(&format!("{six} provisioner.ip6={bad}")), none, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = over_ipv6(&format!("provisioner.server=http://[::1] provisioner.ip6={text}"));
            let _ = (Cmdline::parse(&text), boot_mac(&text), boot_mac(&format!("BOOTIF={text}")));
        }
    }
}
