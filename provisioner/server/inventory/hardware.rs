//! What a machine's declaration says: identity, NICs with their addresses, BMC, and what it becomes.

use super::{
    DhcpOptions, DiskHints,
    values::{
        BadValue, EnvName, HttpUrl, KernelArgument, Line, RecordName, RelativePath, Sha256Hex, unicast,
    },
};
use ipnet::{Ipv4Net, Ipv6Net};
use provisioner_wire::{Mac, MachineName, report::Firmware};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{collections::BTreeMap, fmt, net::Ipv4Addr};
use uuid::Uuid;

/// Template values: names to any JSON value.
pub type Values = BTreeMap<String, serde_json::Value>;

/// The declared record of one machine: what should be true. A file in `hardware/machines/`, or the body of the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    pub name: MachineName,
    /// SMBIOS system UUID, as Linux prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// SMBIOS system serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Line>,
    /// The firmware the machine must boot with; none: either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// By what the firmware is brought to the agent.
    #[serde(default, skip_serializing_if = "BootBy::is_usual")]
    pub boot: BootBy,
    /// What its firmware needs otherwise than its kind.
    #[serde(default, skip_serializing_if = "Quirks::is_none")]
    pub quirks: Quirks,
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// What the node's network must be; none: each NIC with its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<super::network::Network>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc: Option<Bmc>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Name of the profile a provision workflow gives it where none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<RecordName>,
    /// Takes the place of the profile's disk hints as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskHints>,
    /// Template values; each one here goes before the profile's of the same name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: Values,
    /// Of its DHCP answers; before the profile's and the subnet's.
    #[serde(default, skip_serializing_if = "DhcpOptions::is_none")]
    pub dhcp: DhcpOptions,
    /// Added to the profile's for the agent's kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<KernelArgument>,
}

impl Hardware {
    /// The NIC that carries the node's address: the first with one, else the first.
    pub fn primary_nic(&self) -> Option<&Nic> {
        self.nics.iter().find(|nic| nic.address.is_some()).or_else(|| self.nics.first())
    }
}

/// What a machine's firmware needs otherwise than the table of its kind (`dhcp/quirks.rs`) has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// How its PXE ROM is led to its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pxe: Option<PxeLead>,
    /// How it is sent to its own disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskBoot>,
}

impl Quirks {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Firmware differs in what it does once iPXE has nothing to boot. Without a word: the disk by name, then the exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBoot {
    /// iPXE is left; the firmware goes on with its boot order.
    Exit,
    /// iPXE starts the first disk itself.
    Sanboot,
    /// There is no script: HTTP 404.
    NotFound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PxeLead {
    /// The file with option 43.6 = 8, "take it, look no further".
    Skip,
    /// The file alone, without option 43.
    Bare,
    /// No file in the first answer: the ROM asks port 4011.
    Ask,
}

/// What stands between a machine's firmware and the agent. `docs/secure-boot.md` says which to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootBy {
    /// iPXE, signed or not, as the firmware can fetch it.
    #[default]
    Ipxe,
    /// Debian's signed shim, GRUB and kernel by TFTP: for Secure Boot with the keys that machines are sold with.
    Shim,
    /// iPXE and its script by HTTPS only: for firmware in which this server's authority is enrolled.
    Https,
}

impl BootBy {
    fn is_usual(&self) -> bool {
        *self == Self::Ipxe
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    #[serde(deserialize_with = "unicast")]
    pub mac: Mac,
    /// Reserved address with its prefix length, `10.88.0.11/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Net>,
    /// Address reserved by DHCPv6, with its prefix length, `fd88::11/64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<Ipv6Net>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bmc {
    /// Redfish URL: of the service (`https://bmc`) or of the one system there.
    pub url: HttpUrl,
    pub username: Line,
    pub password: Password,
    /// SHA-256 of the BMC's public key (SPKI, DER): goes before the one seen first, and so re-pins. None: the first key
    /// seen is pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_sha256: Option<Sha256Hex>,
}

/// Where a BMC password is. It never comes back out: [`Password::Value`] is written as `"stored"`.
#[derive(Debug, Clone)]
pub enum Password {
    /// `{file: NAME}`: first line of a file below the hardware folder, or of an absolute path.
    File(SecretPath),
    /// `{env: NAME}`: an environment variable of the server.
    Env(EnvName),
    /// `{value: …}`: the password itself; by the API only, never in a file.
    Value(SecretString),
    /// `stored`: the one that was given before and is kept encrypted.
    Stored,
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => serializer.serialize_newtype_variant("Password", 0, "file", path),
            Self::Env(name) => serializer.serialize_newtype_variant("Password", 1, "env", name),
            Self::Value(_) | Self::Stored => serializer.serialize_unit_variant("Password", 3, "stored"),
        }
    }
}

// By hand: serde's own reader would quote a password, written where a reference belongs, in its error.
impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            file: Option<SecretPath>,
            env: Option<EnvName>,
            value: Option<SecretString>,
        }
        struct Reader;
        const FORMS: &str = "a password is one of {file: NAME}, {env: NAME}, {value: …} or stored";
        impl<'de> de::Visitor<'de> for Reader {
            type Value = Password;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORMS)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Password, E> {
                if text == "stored" { Ok(Password::Stored) } else { Err(E::custom(FORMS)) }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Password, A::Error> {
                let given = Given::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match (given.file, given.env, given.value) {
                    (Some(path), None, None) => Ok(Password::File(path)),
                    (None, Some(name), None) => Ok(Password::Env(name)),
                    (None, None, Some(value)) => Ok(Password::Value(value)),
                    _ => Err(de::Error::custom(FORMS)),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A relative path without `..`, or an absolute one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretPath(String);

impl SecretPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SecretPath {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        if let Some(below) = text.strip_prefix('/') {
            below.parse::<RelativePath>()?;
        } else {
            text.parse::<RelativePath>()?;
        }
        Ok(Self(text))
    }
}

impl From<SecretPath> for String {
    fn from(path: SecretPath) -> Self {
        path.0
    }
}
