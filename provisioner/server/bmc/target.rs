//! Where a BMC is and how to log in, as declared for a machine.

use super::Pin;
use secrecy::SecretString;
use std::{fmt, str::FromStr};

/// The declared address of a BMC, parsed: origin, and the system where one BMC serves several.
#[derive(Clone, PartialEq, Eq)]
pub struct BmcAddress {
    origin: reqwest::Url,
    system: Option<String>,
}

/// Why a text is not a BMC address; fit for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a BMC address: {why} (like https://10.0.0.5 or https://10.0.0.5/redfish/v1/Systems/1)"
)]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl BmcAddress {
    /// `scheme://host[:port]/`, nothing else.
    pub fn origin(&self) -> &reqwest::Url {
        &self.origin
    }

    /// The path of the one system meant, where it is declared.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Host and port, for messages.
    pub fn host(&self) -> String {
        let host = self.origin.host_str().unwrap_or("?");
        self.origin.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

impl FromStr for BmcAddress {
    type Err = AddressError;

    /// Reads `http(s)://host[:port][/redfish/v1/Systems/ID]`; a bare host means https. Metal3's `redfish+https://`
    /// spelling is taken too. Credentials, query and fragment are refused: they would end up in logs.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |why| AddressError { text: text.chars().take(120).collect(), why };
        let bare = text.strip_prefix("redfish+").unwrap_or(text);
        let spelled = if bare.contains("://") { bare.to_owned() } else { format!("https://{bare}") };
        let url: reqwest::Url = spelled.parse().map_err(|_| wrong("not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("only http and https"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError { text: "…".to_owned(), why: "credentials do not belong into it" });
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("no query and no fragment"));
        }
        let path = url.path().trim_end_matches('/');
        let system = match path {
            "" | "/redfish" | "/redfish/v1" => None,
            path if path.starts_with("/redfish/v1/Systems/") => Some(path.to_owned()),
            _ => return Err(wrong("the path is not one of a system")),
        };
        let mut origin = url.clone();
        origin.set_path("/");
        Ok(Self { origin, system })
    }
}

impl fmt::Display for BmcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin.as_str().trim_end_matches('/');
        write!(f, "{origin}{}", self.system.as_deref().unwrap_or_default())
    }
}

impl fmt::Debug for BmcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Everything needed to open one BMC.
#[derive(Debug, Clone)]
pub struct BmcTarget {
    pub address: BmcAddress,
    /// Empty for a BMC without accounts (a lab's emulator).
    pub user: String,
    pub password: SecretString,
    /// The key that was seen at the first contact; `None` trusts this contact and reports its key.
    pub pin: Option<Pin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, shown, host, system) in [
            ("10.0.0.5", "https://10.0.0.5", "10.0.0.5", None),
            ("https://bmc.example:8443/redfish/v1/", "https://bmc.example:8443", "bmc.example:8443", None),
            (
                "redfish+http://10.88.0.1:8000/redfish/v1/Systems/a-b",
                "http://10.88.0.1:8000/redfish/v1/Systems/a-b",
                "10.88.0.1:8000",
                Some("/redfish/v1/Systems/a-b"),
            ),
        ] {
            let address: BmcAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!((address.host().as_str(), address.system()), (host, system));
        }
    }

    #[test]
    fn addresses_that_are_refused_do_not_repeat_a_password() {
        for text in ["", "ftp://x", "https://", "https://x/api", "https://x/?a=b", "https://root:calvin@x/"] {
            let error = text.parse::<BmcAddress>().unwrap_err().to_string();
            assert!(!error.contains("calvin"), "{error}");
        }
    }
}
