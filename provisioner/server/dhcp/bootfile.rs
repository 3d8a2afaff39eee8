//! PURE. What a client is to boot: iPXE for firmware, our script for iPXE. Which script that is, `http` answers when it
//! is asked; both doors lead to `machine::boot`.

use super::{
    client::{Architecture, Client, Platform, Program},
    quirks,
};
use crate::{inventory::Quirks, machine::Time};
use provisioner_wire::Mac;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::Ipv4Addr,
    time::Duration,
};

/// Path of a machine's script below the plain base URL: `/boot/52-54-00-12-34-56.ipxe`.
pub fn script_path(mac: Mac) -> String {
    format!("/boot/{}.ipxe", mac.hyphened())
}

/// Path of an iPXE binary below the plain base URL.
pub fn file_path(name: &str) -> String {
    format!("/boot/files/{name}")
}

/// How often within [`ROUNDS_WITHIN_SECONDS`] an iPXE without HTTP is given another iPXE: once may help, a second time
/// may be a lost packet, a third is a loop.
pub const ROUNDS_MAX: u32 = 2;
pub const ROUNDS_WITHIN_SECONDS: u64 = 60;

/// What answers are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// This server's address on the interface: the server identifier, and where TFTP listens.
    pub server: Ipv4Addr,
    /// `http://10.88.0.1:8080`: the plain listener as machines reach it.
    pub http: String,
    /// Names of the boot files that TFTP and HTTP really have. None other is offered.
    pub files: BTreeSet<String>,
}

/// How a PXE ROM is led to its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lead {
    /// The file, and no option 43.
    #[default]
    Bare,
    /// Option 43 with sub-option 6 = 8: take this file, ask no other boot server (PXE 2.1 §2.5).
    Skip,
    /// No file but option 60 alone: the ROM asks port 4011, and is told there.
    Ask,
    /// The boot menu that a Raspberry Pi looks for.
    RaspberryPi,
}

/// The boot part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    /// A name for TFTP at [`Serving::server`], or an absolute URL.
    pub file: String,
    /// Option 60 of the answer: the client's class, exactly. UEFI HTTP Boot ignores an answer without it. A UEFI PXE
    /// client takes an answer with it for a boot server's that is to be asked on port 4011, and gives up there with
    /// PXE-E16 (seen with EDK2 2022.11); without it, it takes the file.
    pub class: Option<&'static str>,
    pub lead: Lead,
    /// Option 175 with sub-option 176 = 1: iPXE need not wait three seconds for a proxyDHCP offer.
    pub no_proxy: bool,
}

/// Why a client that wants a boot file gets none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoBoot {
    UnknownArchitecture(Vec<Architecture>),
    /// None of the files that this platform can boot is there.
    NoFile(Platform),
    /// The iPXE in the firmware cannot do HTTP and comes back as itself.
    Loop,
    /// Its declaration names a [`super::road::Road`] that this firmware's wish does not fit; what to do.
    Road(&'static str),
}

impl fmt::Display for NoBoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownArchitecture(list) if list.is_empty() => f.write_str("it names no architecture"),
            Self::UnknownArchitecture(list) => {
                let names: Vec<_> = list.iter().map(Architecture::to_string).collect();
                write!(f, "no boot file is known for {}", names.join(", "))
            }
            Self::NoFile(platform) => {
                write!(f, "none of {} is in the iPXE folder", candidates(*platform).join(", "))
            }
            Self::Road(what) => f.write_str(what),
            Self::Loop => f.write_str("the firmware's iPXE cannot do HTTP and loads itself again and again"),
        }
    }
}

/// iPXE binaries that a platform can boot, best first. `undionly` and `snponly` drive only the NIC they came from, which
/// is the one that works.
pub fn candidates(platform: Platform) -> &'static [&'static str] {
    match platform {
        Platform::Bios => &["undionly.kpxe", "ipxe.pxe"],
        Platform::UefiX86 => &["ipxe-i386.efi"],
        Platform::UefiX64 => &["snponly.efi", "ipxe.efi"],
        Platform::UefiArm32 => &["ipxe-arm32.efi"],
        Platform::UefiArm64 => &["snponly-arm64.efi", "ipxe-arm64.efi"],
        Platform::UefiRiscv64 => &["ipxe-riscv64.efi"],
        Platform::UefiLoong64 => &["ipxe-loong64.efi"],
    }
}

/// `None`: the client does not boot from the network. `rounds`: how often it was given an iPXE lately.
pub fn boot_file(
    client: &Client,
    mac: Mac,
    serving: &Serving,
    rounds: u32,
) -> Result<Option<BootFile>, NoBoot> {
    let plain = BootFile { file: String::new(), class: None, lead: Lead::Bare, no_proxy: false };
    let url = |path: String| format!("{}{path}", serving.http);
    match client.program {
        Program::System => Ok(None),
        Program::Ipxe { http: true, .. } => {
            Ok(Some(BootFile { file: url(script_path(mac)), no_proxy: true, ..plain }))
        }
        Program::Ipxe { http: false, .. } => {
            if rounds >= ROUNDS_MAX {
                return Err(NoBoot::Loop);
            }
            // Told 43.6 = 8, iPXE ignores the next-server field: so a whole URL.
            let name = binary(client, serving)?;
            Ok(Some(BootFile { file: format!("tftp://{}/{name}", serving.server), no_proxy: true, ..plain }))
        }
        Program::Pxe => {
            let quirk = quirks::of(client, mac);
            let lead = quirk.map_or(Lead::Bare, |quirk| quirk.server);
            let class = quirk.is_some_and(|quirk| quirk.class).then_some("PXEClient");
            // A Raspberry Pi asks for its own names, whatever is named here.
            let none = lead == Lead::RaspberryPi;
            let file = if none { String::new() } else { binary(client, serving)?.to_owned() };
            Ok(Some(BootFile { file, class, lead, ..plain }))
        }
        Program::Http => {
            let file = url(file_path(binary(client, serving)?));
            Ok(Some(BootFile { file, class: Some("HTTPClient"), ..plain }))
        }
    }
}

/// `boot` as the machine's declaration wants it.
pub fn as_declared(boot: BootFile, client: &Client, declared: &Quirks) -> BootFile {
    let Some(lead) = Lead::of(declared).filter(|_| client.program == Program::Pxe) else { return boot };
    let class = (lead != Lead::Bare).then_some("PXEClient");
    BootFile { lead, class, ..boot }
}

/// How often each MAC was given an iPXE lately, so that a loop ends.
#[derive(Debug, Default)]
pub struct Rounds(HashMap<Mac, Round>);

#[derive(Debug, Clone, Copy)]
struct Round {
    count: u32,
    at: Time,
    xid: u32,
}

impl Rounds {
    /// MACs that are remembered; more at once than ever boot an iPXE without HTTP.
    const KEPT: usize = 4096;

    pub fn lately(&self, mac: Mac, now: Time) -> u32 {
        self.0.get(&mac).filter(|round| Self::is_late(round, now)).map_or(0, |round| round.count)
    }

    /// Counts one exchange; a repeated packet of the same `xid` is the same one.
    pub fn count(&mut self, mac: Mac, xid: u32, now: Time) {
        let known = self.0.get(&mac).filter(|round| Self::is_late(round, now));
        if known.is_some_and(|round| round.xid == xid) {
            return;
        }
        let count = known.map_or(0, |round| round.count) + 1;
        if self.0.len() >= Self::KEPT {
            self.0.retain(|_, round| Self::is_late(round, now));
        }
        if self.0.len() < Self::KEPT {
            self.0.insert(mac, Round { count, at: now, xid });
        }
    }

    fn is_late(round: &Round, now: Time) -> bool {
        now.since(round.at) < Duration::from_secs(ROUNDS_WITHIN_SECONDS)
    }
}

fn binary(client: &Client, serving: &Serving) -> Result<&'static str, NoBoot> {
    let unknown = || NoBoot::UnknownArchitecture(client.architectures.clone());
    let platform = client.platform().ok_or_else(unknown)?;
    let there = candidates(platform).iter().find(|name| serving.files.contains(**name));
    there.copied().ok_or(NoBoot::NoFile(platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

    fn serving(files: &[&str]) -> Serving {
        Serving {
            server: Ipv4Addr::new(10, 88, 0, 1),
            http: "http://10.88.0.1:8080".to_owned(),
            files: files.iter().map(|f| (*f).to_owned()).collect(),
        }
    }

    fn all() -> Serving {
        serving(&["undionly.kpxe", "snponly.efi", "ipxe.efi", "ipxe-arm64.efi"])
    }

    fn client(program: Program, architecture: u16) -> Client {
        Client {
            program,
            architectures: vec![Architecture(architecture)],
            uuid: None,
            vendor_class: String::new(),
        }
    }

    #[test]
    fn each_firmware_gets_what_it_can_boot() {
        let ipxe = Program::Ipxe { ours: false, http: true };
        let script = "http://10.88.0.1:8080/boot/52-54-00-01-02-03.ipxe";
        for (program, architecture, file, class) in [
            (Program::Pxe, 0, "undionly.kpxe", Some("PXEClient")),
            (Program::Pxe, 7, "snponly.efi", None),
            (Program::Pxe, 9, "snponly.efi", None),
            (Program::Pxe, 11, "ipxe-arm64.efi", None),
            (Program::Http, 16, "http://10.88.0.1:8080/boot/files/snponly.efi", Some("HTTPClient")),
            (Program::Http, 19, "http://10.88.0.1:8080/boot/files/ipxe-arm64.efi", Some("HTTPClient")),
            (ipxe, 0, script, None),
            (ipxe, 7, script, None),
            (ipxe, 12345, script, None),
            (Program::Ipxe { ours: true, http: true }, 11, script, None),
        ] {
            let boot = boot_file(&client(program, architecture), MAC, &all(), 9).unwrap().unwrap();
            assert_eq!((boot.file.as_str(), boot.class), (file, class), "{program:?} {architecture}");
            let skips = program == Program::Pxe && architecture == 0;
            assert_eq!(boot.lead == Lead::Skip, skips);
            assert_eq!(boot.no_proxy, matches!(program, Program::Ipxe { .. }));
        }
        assert_eq!(boot_file(&client(Program::System, 7), MAC, &all(), 0), Ok(None));
    }

    #[test]
    fn an_unknown_architecture_is_an_error_and_never_amd64() {
        for architecture in [1, 2, 12, 31, 41, 999] {
            let refused = boot_file(&client(Program::Pxe, architecture), MAC, &all(), 0).unwrap_err();
            assert!(matches!(refused, NoBoot::UnknownArchitecture(_)), "{architecture}");
            assert!(refused.to_string().contains("no boot file is known for"));
        }
    }

    #[test]
    fn nothing_is_offered_that_is_not_there() {
        let refused = boot_file(&client(Program::Pxe, 11), MAC, &serving(&["snponly.efi"]), 0).unwrap_err();
        assert_eq!(refused, NoBoot::NoFile(Platform::UefiArm64));
        let second = boot_file(&client(Program::Pxe, 7), MAC, &serving(&["ipxe.efi"]), 0).unwrap().unwrap();
        assert_eq!(second.file, "ipxe.efi");
    }

    #[test]
    fn an_ipxe_without_http_gets_another_twice_and_then_the_loop_is_named() {
        let old = client(Program::Ipxe { ours: false, http: false }, 0);
        for rounds in 0..ROUNDS_MAX {
            let boot = boot_file(&old, MAC, &all(), rounds).unwrap().unwrap();
            assert_eq!(boot.file, "tftp://10.88.0.1/undionly.kpxe");
        }
        assert_eq!(boot_file(&old, MAC, &all(), ROUNDS_MAX), Err(NoBoot::Loop));
    }
}
