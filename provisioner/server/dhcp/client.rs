//! PURE. Who asks: a boot ROM, UEFI HTTP Boot, iPXE, or an operating system, and on what kind of machine.

use super::intake::{Request, code, sub_option};
use std::fmt;
use uuid::Uuid;

/// User class of iPXE binaries that carry our own script.
const OURS: &[u8] = b"provisioner";

/// Vendor class of U-Boot's own DHCP client, before the processor's name.
const U_BOOT: &[u8] = b"U-Boot";

/// A processor architecture of IANA's "Processor Architecture Types", as clients send it in option 93.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Architecture(pub u16);

/// The machine and firmware that an architecture number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    Bios,
    UefiX86,
    UefiX64,
    UefiArm32,
    UefiArm64,
    UefiRiscv64,
    UefiLoong64,
}

impl Architecture {
    /// `None` for a number with no boot file of any kind here; never a guess. The text of RFC 4578 has 7 and 9 the
    /// wrong way round; firmware of either number is x64 UEFI.
    pub fn platform(self) -> Option<Platform> {
        Some(match self.0 {
            0 | 20 => Platform::Bios,
            6 | 15 => Platform::UefiX86,
            7 | 9 | 16 | 17 => Platform::UefiX64,
            10 | 18 | 21 | 23 => Platform::UefiArm32,
            11 | 19 | 22 | 24 => Platform::UefiArm64,
            27 | 28 => Platform::UefiRiscv64,
            39 | 40 => Platform::UefiLoong64,
            _ => return None,
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "x86 BIOS",
            6 => "x86 UEFI",
            7 => "x64 UEFI",
            9 => "EBC (x64 UEFI)",
            10 => "arm32 UEFI",
            11 => "arm64 UEFI",
            15 => "x86 UEFI HTTP",
            16 => "x64 UEFI HTTP",
            18 => "arm32 UEFI HTTP",
            19 => "arm64 UEFI HTTP",
            20 => "x86 BIOS HTTP",
            22 => "arm64 U-Boot",
            27 => "RISC-V 64 UEFI",
            28 => "RISC-V 64 UEFI HTTP",
            39 => "LoongArch 64 UEFI",
            40 => "LoongArch 64 UEFI HTTP",
            other => return write!(f, "architecture {other}"),
        };
        f.write_str(name)
    }
}

/// What program sent the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// A boot ROM that fetches by TFTP.
    Pxe,
    /// UEFI HTTP Boot.
    Http,
    /// iPXE; `ours` where it carries our own script, `http` where it can fetch by HTTP.
    Ipxe { ours: bool, http: bool },
    /// Anything else: an operating system, a BMC.
    System,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub program: Program,
    /// Option 93, or the number in the vendor class where 93 is missing. In the client's order of preference.
    pub architectures: Vec<Architecture>,
    /// Option 97 in SMBIOS byte order. `None` also where it says nothing (all zeros or ones).
    pub uuid: Option<Uuid>,
    /// Option 60, for a person.
    pub vendor_class: String,
}

impl Client {
    pub fn of(request: &Request) -> Self {
        let class = request.raw(code::VENDOR_CLASS).unwrap_or_default();
        let program = match ipxe(request) {
            Some(ipxe) => ipxe,
            None if class.starts_with(b"PXEClient") || class.starts_with(U_BOOT) => Program::Pxe,
            None if class.starts_with(b"HTTPClient") => Program::Http,
            None => Program::System,
        };
        Self {
            program,
            architectures: architectures(request, class),
            uuid: request.raw(code::MACHINE_UUID).and_then(machine_uuid),
            vendor_class: class.iter().take(64).map(|c| printable(*c)).collect(),
        }
    }

    /// The first architecture of the client's list that is known here.
    pub fn platform(&self) -> Option<Platform> {
        self.architectures.iter().find_map(|a| a.platform())
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(architecture) = self.architectures.first() {
            write!(f, "{architecture} ")?;
        }
        f.write_str(match self.program {
            Program::Pxe => "PXE",
            Program::Http => "HTTP Boot",
            Program::Ipxe { ours: true, .. } => "our iPXE",
            Program::Ipxe { ours: false, .. } => "iPXE",
            Program::System => "system",
        })
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }
}

/// iPXE says its user class raw, without the length that RFC 3004 wants; others send it with. Option 175 alone shows
/// only that it is iPXE somewhere down the chain, so it does not decide.
fn ipxe(request: &Request) -> Option<Program> {
    let class = request.raw(code::USER_CLASS)?;
    let is = |wanted: &[u8]| {
        class == wanted
            || class.split_first().is_some_and(|(n, text)| usize::from(*n) == text.len() && text == wanted)
    };
    let ours = is(OURS);
    if !ours && !is(b"iPXE") {
        return None;
    }
    // Feature 0x13 is HTTP; a client without any feature list is taken to have it.
    let features = request.raw(code::IPXE);
    let http = features.is_none_or(|f| sub_option(f, 0x13).is_some_and(|on| on != [0]));
    Some(Program::Ipxe { ours, http })
}

fn architectures(request: &Request, class: &[u8]) -> Vec<Architecture> {
    let listed = request.raw(code::ARCHITECTURE).unwrap_or_default();
    let (pairs, _) = listed.as_chunks::<2>();
    let found: Vec<_> = pairs.iter().map(|pair| Architecture(u16::from_be_bytes(*pair))).collect();
    if !found.is_empty() {
        return found;
    }
    // `PXEClient:Arch:00007:UNDI:003000`: five decimal digits (PXE 2.1 §2.2.1).
    let text = std::str::from_utf8(class).unwrap_or_default();
    match text.strip_prefix("U-Boot.") {
        Some("armv8" | "arm64") => return vec![Architecture(22)],
        Some("armv7" | "arm") => return vec![Architecture(21)],
        _ => {}
    }
    let number = text.split(':').nth(2).filter(|_| text.split(':').nth(1) == Some("Arch"));
    number.and_then(|n| n.parse().ok()).map(Architecture).into_iter().collect()
}

/// RFC 4578 §2.3: type 0, then the UUID with its first three fields little-endian, as SMBIOS stores it.
fn machine_uuid(bytes: &[u8]) -> Option<Uuid> {
    let [0, uuid @ ..] = bytes else { return None };
    let uuid: [u8; 16] = uuid.try_into().ok()?;
    let says_something = uuid != [0; 16] && uuid != [0xff; 16];
    says_something.then(|| Uuid::from_bytes_le(uuid))
}

#[cfg(test)]
mod tests {
    use super::{super::intake::tests as intake, *};

    fn client(options: &[(u8, &[u8])]) -> Client {
        let all: Vec<(u8, &[u8])> = [(53, &[1u8][..])].into_iter().chain(options.iter().copied()).collect();
        Client::of(&Request::read(&intake::packet(intake::MAC, &all)).unwrap())
    }

    #[test]
    fn rfc4578_architecture_table() {
        use Platform::*;
        for (number, platform) in [
            (0, Some(Bios)),
            (1, None),
            (2, None),
            (6, Some(UefiX86)),
            (7, Some(UefiX64)),
            (9, Some(UefiX64)),
            (10, Some(UefiArm32)),
            (11, Some(UefiArm64)),
            (12, None),
            (15, Some(UefiX86)),
            (16, Some(UefiX64)),
            (18, Some(UefiArm32)),
            (19, Some(UefiArm64)),
            (20, Some(Bios)),
            (25, None),
            (27, Some(UefiRiscv64)),
            (28, Some(UefiRiscv64)),
            (31, None),
            (39, Some(UefiLoong64)),
            (40, Some(UefiLoong64)),
            (65535, None),
        ] {
            assert_eq!(Architecture(number).platform(), platform, "{number}");
        }
    }

    #[test]
    fn option_93_is_a_list_and_the_first_known_entry_counts() {
        let listed = client(&[(93, &[0, 99, 0, 11, 0, 7])]);
        assert_eq!(listed.platform(), Some(Platform::UefiArm64));
        assert_eq!(listed.architectures.len(), 3);
        assert_eq!(client(&[(93, &[0])]).platform(), None);
        let from_class = client(&[(60, b"PXEClient:Arch:00007:UNDI:003000")]);
        assert_eq!(from_class.platform(), Some(Platform::UefiX64));
        assert_eq!(client(&[(60, b"PXEClient:Arch:x")]).platform(), None);
    }

    #[test]
    fn ipxe_is_known_in_both_spellings_and_not_by_option_175() {
        let pxe: (u8, &[u8]) = (60, b"PXEClient:Arch:00000:UNDI:002001");
        let plain = Program::Ipxe { ours: false, http: true };
        assert_eq!(client(&[pxe, (77, b"iPXE")]).program, plain);
        assert_eq!(client(&[pxe, (77, b"\x04iPXE")]).program, plain);
        assert_eq!(client(&[pxe, (77, b"provisioner")]).program, Program::Ipxe { ours: true, http: true });
        assert_eq!(client(&[pxe, (77, b"plain"), (175, &[0x13, 1, 1])]).program, Program::Pxe);
        let without_http = client(&[pxe, (77, b"iPXE"), (175, &[0x15, 1, 1])]);
        assert_eq!(without_http.program, Program::Ipxe { ours: false, http: false });
        assert_eq!(client(&[(60, b"HTTPClient:Arch:00016:UNDI:003001")]).program, Program::Http);
        assert_eq!(client(&[(60, b"udhcp 1.35.0")]).program, Program::System);
        assert_eq!(client(&[]).program, Program::System);
    }

    #[test]
    fn option_97_in_smbios_byte_order_and_nothing_else() {
        let mut wire = vec![0, 0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66];
        wire.extend_from_slice(&[0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        let expected = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(client(&[(97, &wire)]).uuid, Some(expected));
        for bad in [&[0u8; 17][..], &wire[..16], &[], &[1; 17]] {
            assert_eq!(client(&[(97, bad)]).uuid, None, "{bad:?}");
        }
    }
}
