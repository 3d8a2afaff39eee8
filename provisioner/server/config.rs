//! The server's configuration file. Everything in it is checked when it is read; every path in it is relative to the
//! file's own folder.

use crate::{
    dhcp::{
        config::{DhcpConfig, check as check_dhcp},
        v6::{config::Dhcp6Config, subnet::Served},
    },
    image::{
        bounds::ImagesConfig,
        source::config::{FetchConfig, RegistryConfig},
    },
    inventory::{HttpUrl, SignaturesRequired, Size},
    tftp::config::TftpConfig,
};
use secrecy::SecretString;
use serde::Deserialize;
use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The configuration with its defaults filled in and its paths resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// Database, keys, admin token: what must survive a restart.
    pub data_dir: PathBuf,
    /// YAML records to declare at start.
    pub hardware_dir: Option<PathBuf>,
    pub templates_dir: PathBuf,
    /// Image files that may be served; default `images` in `data_dir`.
    pub images_dir: PathBuf,
    pub database: Database,
    /// An unknown machine may boot the agent, to be inspected only.
    pub discovery: bool,
    pub http: Http,
    /// One for each interface that is served, checked together ([`check_dhcp`]). Empty: no DHCP.
    pub dhcp: Vec<DhcpConfig>,
    /// Interfaces served by DHCPv6, checked.
    pub dhcp6: Vec<Served>,
    pub tftp: Option<TftpConfig>,
    pub boot: Boot,
    pub signatures: Signatures,
    pub fleet: Fleet,
    /// How large images may be.
    pub images: ImagesConfig,
    /// Where images may be fetched from.
    pub fetch: FetchConfig,
    pub registries: Vec<RegistryConfig>,
}

/// How images are served to many machines at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fleet {
    /// The label of a machine that names its failure domain, `rack`.
    pub domain_label: Option<String>,
    /// Of image chunks in a second, of the whole server.
    pub server_rate: Option<Size>,
    /// The same for each failure domain.
    pub domain_rate: Option<Size>,
    /// Memory for chunks that many machines fetch; default 128MiB.
    pub memory: Option<Size>,
    pub caches: Vec<FleetCache>,
}

/// A `provisioner cache`, and the machines that ask it first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetCache {
    pub url: HttpUrl,
    /// Names of failure domains: values of `domain_label`.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Networks that machines have their addresses in.
    #[serde(default)]
    pub networks: Vec<ipnet::IpNet>,
}

impl Fleet {
    fn check(&self) -> Result<(), String> {
        if self.domain_label.is_none()
            && (self.domain_rate.is_some() || self.caches.iter().any(|c| !c.domains.is_empty()))
        {
            return Err(
                "domain_rate and caches.domains need domain_label: which label names the domain".into()
            );
        }
        if [self.server_rate, self.domain_rate].into_iter().flatten().any(|rate| rate.0 == 0) {
            return Err("a rate of 0 would send nothing: leave it out for no limit".into());
        }
        match self.caches.iter().find(|c| c.domains.is_empty() && c.networks.is_empty()) {
            Some(cache) => Err(format!("the cache {} is near nobody: give domains or networks", cache.url)),
            None => Ok(()),
        }
    }
}

/// What the site wants of images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signatures {
    /// Which images need a signature: `none`, `all`, or their names.
    pub required: SignaturesRequired,
}

#[derive(Debug, Clone)]
pub enum Database {
    Sqlite(PathBuf),
    /// The URL may hold a password.
    Postgres(SecretString),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Plain HTTP: boot scripts, boot files, agents, images. Port 0 takes any.
    pub listen: SocketAddr,
    /// HTTPS: the API, and the nodes that phone home.
    pub tls_listen: SocketAddr,
    /// HTTPS also for firmware, which knows RSA only: for machines that are declared with `boot: https`.
    #[serde(default)]
    pub firmware_tls: bool,
    /// Name or address by which machines reach this server.
    pub public_host: String,
}

/// What machines boot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    pub ipxe_dir: PathBuf,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// Kernel and initramfs as one signed file, which UEFI machines are given instead of the two.
    #[serde(default)]
    pub signed_agent: Option<PathBuf>,
    /// Debian's signed shim and GRUB, for machines that are declared with `boot: shim`.
    #[serde(default)]
    pub shim_dir: Option<PathBuf>,
    /// Added to the agent's kernel command line.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// Why a configuration was refused: `file:line:column: what`.
#[derive(Debug, thiserror::Error)]
#[error("{}:{}{what}", file.display(), place.map(|p| format!("{p}: ")).unwrap_or_else(|| " ".to_owned()))]
pub struct ConfigError {
    pub file: PathBuf,
    pub place: Option<Place>,
    pub what: String,
}

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: PathBuf,
    hardware_dir: Option<PathBuf>,
    templates_dir: PathBuf,
    images_dir: Option<PathBuf>,
    #[serde(default = "sqlite")]
    database: toml::Spanned<String>,
    #[serde(default)]
    discovery: bool,
    http: toml::Spanned<Http>,
    #[serde(default)]
    dhcp: Vec<toml::Spanned<DhcpConfig>>,
    #[serde(default)]
    dhcp6: Vec<toml::Spanned<Dhcp6Config>>,
    tftp: Option<toml::Spanned<TftpConfig>>,
    boot: toml::Spanned<Boot>,
    #[serde(default)]
    signatures: Signatures,
    fleet: Option<toml::Spanned<Fleet>>,
    #[serde(default)]
    images: ImagesConfig,
    #[serde(default)]
    fetch: FetchConfig,
    #[serde(default)]
    registries: Vec<RegistryConfig>,
}

fn sqlite() -> toml::Spanned<String> {
    toml::Spanned::new(0..0, "sqlite".to_owned())
}

impl Config {
    /// Reads and checks `file`.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|e| ConfigError {
            file: file.to_owned(),
            place: None,
            what: format!("cannot be read: {e}"),
        })?;
        Self::parse(file, &text)
    }

    /// Checks `text` as the contents of `file`.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let wrong = |span: Option<std::ops::Range<usize>>, what: String| ConfigError {
            file: file.to_owned(),
            place: span.map(|span| place(text, span.start)),
            what,
        };
        let read: File = toml::from_str(text).map_err(|e| wrong(e.span(), e.message().trim().to_owned()))?;
        let near = |path: &Path| file.parent().unwrap_or(Path::new("")).join(path);
        let data_dir = near(&read.data_dir);
        let database = match read.database.get_ref().as_str() {
            "sqlite" => Database::Sqlite(data_dir.join("provisioner.db")),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Database::Postgres(url.into())
            }
            // Not quoted back: it may hold a password.
            _ => {
                let what = "database must be \"sqlite\" or a postgres:// URL".to_owned();
                return Err(wrong(Some(read.database.span()), what));
            }
        };
        let host = &read.http.get_ref().public_host;
        if host.is_empty()
            || host.contains(|c: char| c == '/' || c == '@' || c.is_whitespace() || c.is_control())
        {
            let what = format!("public_host {host:?} is not a host name or address");
            return Err(wrong(Some(read.http.span()), what));
        }
        if let Some(bad) = read.boot.get_ref().arguments.iter().find(|a| !is_one_word(a)) {
            let what = format!("the kernel argument {bad:?} is not one printable word");
            return Err(wrong(Some(read.boot.span()), what));
        }
        let (places, dhcp): (Vec<_>, Vec<_>) =
            read.dhcp.into_iter().map(|one| (one.span(), one.into_inner())).unzip();
        check_dhcp(&dhcp).map_err(|e| wrong(places.get(e.at).cloned(), e.to_string()))?;
        if let Some(tftp) = &read.tftp {
            tftp.get_ref().check().map_err(|what| wrong(Some(tftp.span()), what))?;
        }
        let dhcp6: Vec<_> = read.dhcp6.iter().map(|one| one.get_ref().clone()).collect();
        let dhcp6 = Served::all(&dhcp6)
            .map_err(|e| wrong(read.dhcp6.get(e.at()).map(toml::Spanned::span), e.to_string()))?;
        if let Some(fleet) = &read.fleet {
            fleet.get_ref().check().map_err(|what| wrong(Some(fleet.span()), what))?;
        }
        let boot = read.boot.into_inner();
        Ok(Self {
            hardware_dir: read.hardware_dir.as_deref().map(near),
            templates_dir: near(&read.templates_dir),
            images_dir: read.images_dir.as_deref().map_or_else(|| data_dir.join("images"), near),
            data_dir,
            database,
            discovery: read.discovery,
            http: read.http.into_inner(),
            dhcp,
            dhcp6,
            tftp: read.tftp.map(toml::Spanned::into_inner),
            boot: Boot {
                ipxe_dir: near(&boot.ipxe_dir),
                kernel: near(&boot.kernel),
                initramfs: near(&boot.initramfs),
                signed_agent: boot.signed_agent.as_deref().map(near),
                shim_dir: boot.shim_dir.as_deref().map(near),
                arguments: boot.arguments,
            },
            signatures: read.signatures,
            fleet: read.fleet.map(toml::Spanned::into_inner).unwrap_or_default(),
            images: read.images,
            fetch: FetchConfig { ca_file: read.fetch.ca_file.as_deref().map(near), ..read.fetch },
            registries: read.registries.into_iter().map(|registry| beside(registry, near)).collect(),
        })
    }
}

impl Http {
    /// `http://10.88.0.1:8080`; `port` is the bound one.
    pub fn plain_url(&self, port: u16) -> String {
        format!("http://{}:{port}", bracketed(&self.public_host))
    }

    /// `https://10.88.0.1:8443`; `port` is the bound one.
    pub fn tls_url(&self, port: u16) -> String {
        format!("https://{}:{port}", bracketed(&self.public_host))
    }
}

/// Its password's file as `near` finds it.
fn beside(registry: RegistryConfig, near: impl Fn(&Path) -> PathBuf) -> RegistryConfig {
    RegistryConfig { password_file: registry.password_file.as_deref().map(near), ..registry }
}

/// An IPv6 address stands in brackets in a URL (RFC 3986 §3.2.2).
fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

fn is_one_word(argument: &str) -> bool {
    !argument.is_empty() && argument.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Place { line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "data_dir = \"data\"\ntemplates_dir = \"/t\"\n[http]\nlisten = \"0.0.0.0:8080\"\n\
        tls_listen = \"0.0.0.0:8443\"\npublic_host = \"10.88.0.1\"\n[boot]\nipxe_dir = \"ipxe\"\n\
        kernel = \"vmlinuz\"\ninitramfs = \"initrd\"\narguments = [\"console=ttyS0\"]\n";

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = Config::parse(Path::new("/etc/p/server.toml"), GOOD).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/p/data"));
        assert_eq!(config.templates_dir, Path::new("/t"));
        assert_eq!(config.images_dir, Path::new("/etc/p/data/images"));
        assert_eq!(config.boot.kernel, Path::new("/etc/p/vmlinuz"));
        assert!(
            matches!(config.database, Database::Sqlite(f) if f == Path::new("/etc/p/data/provisioner.db"))
        );
        assert_eq!(config.http.plain_url(8080), "http://10.88.0.1:8080");
        assert!(!config.discovery);
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        for (from, to, expected) in [
            ("data_dir", "datadir", "s.toml:1:1: unknown field `datadir`"),
            ("\"0.0.0.0:8080\"", "\"nowhere\"", "s.toml:4:10: invalid socket address"),
            ("\"10.88.0.1\"", "\"http://x\"", "s.toml:3:"),
            ("console=ttyS0", "a\\nb", "is not one printable word"),
            ("[http]", "[http", "s.toml:3:"),
            ("[http]", "database = \"postgre://u:hunter2@h\"\n[http]", "s.toml:3:12: database must be"),
            (
                "[boot]",
                "[signatures]\nrequired = \"some\"\n[boot]",
                "s.toml:8:12: invalid value: string \"some\", expected \"none\", \"all\"",
            ),
            (
                "[boot]",
                "[fleet]\ndomain_rate = \"1MiB\"\n[boot]",
                "s.toml:7:1: domain_rate and caches.domains need",
            ),
            ("[boot]", "[[fleet.caches]]\nurl = \"http://c\"\n[boot]", "the cache http://c is near nobody"),
            ("kernel = \"vmlinuz\"\n", "", "missing field `kernel`"),
            (
                "[boot]",
                "[[dhcp]]\ninterface = \"br0\"\nsubnets = []\n[boot]",
                "s.toml:7:1: dhcp.subnets: there is none",
            ),
            (
                "[boot]",
                "[[dhcp]]\ninterface = \"br0\"\n[[dhcp.subnets]]\nnetwork = \"10.88.0.0/24\"\nrouter = \"10.9.0.1\"\n[boot]",
                "dhcp.subnets[0].router: 10.9.0.1 is not a host address of 10.88.0.0/24",
            ),
            (
                "[boot]",
                "[[dhcp6]]\ninterface = \"br0\"\n[[dhcp6.subnets]]\nnetwork = \"fe80::/64\"\n[boot]",
                "s.toml:7:1: dhcp6[0].subnets[0].network: fe80::/64 is link-local",
            ),
        ] {
            let error = Config::parse(Path::new("s.toml"), &GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{from} -> {to}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::read(Path::new("/nowhere/s.toml")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/s.toml: cannot be read"), "{error}");
    }
}
