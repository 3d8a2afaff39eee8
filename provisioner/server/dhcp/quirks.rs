//! PURE. The one table of how kinds of clients differ from what the standards say, and what they are answered. A machine's
//! declaration may say otherwise (`quirks:` in its record).

use super::{
    bootfile::Lead,
    client::{Architecture, Client, Platform, Program},
};
use crate::inventory::{PxeLead, Quirks};
use provisioner_wire::Mac;

/// Option 43: what PXE clients are told of boot servers.
pub const VENDOR: u8 = 43;

/// One kind of client. The first that fits counts.
#[derive(Debug)]
pub struct Quirk {
    pub name: &'static str,
    fits: fn(&Client, Mac) -> bool,
    /// How this server leads it to its file where it also gives the address.
    pub server: Lead,
    /// As proxyDHCP.
    pub proxy: Lead,
    /// Option 60 in an answer that also gives the address. As proxyDHCP it always stands there (PXE 2.1 §2.2.4).
    pub class: bool,
}

/// What is answered to clients that fetch by TFTP, by kind.
pub const TABLE: [Quirk; 4] = [
    // Its EEPROM says architecture 0 and is no BIOS. It takes an answer only with this text in a boot menu, then asks
    // TFTP for its own names (`SERIAL/start4.elf`), whatever file is named.
    Quirk {
        name: "Raspberry Pi",
        fits: |client, mac| {
            let bare = matches!(client.architectures.as_slice(), [] | [Architecture(0 | 41)]);
            bare && RASPBERRY_PI.iter().any(|prefix| mac.0.starts_with(prefix))
        },
        server: Lead::RaspberryPi,
        proxy: Lead::RaspberryPi,
        class: true,
    },
    // Reads the file's name from the header alone, and no option 43; it does not look at option 60.
    Quirk {
        name: "U-Boot",
        fits: |client, _| {
            let by_number = client.architectures.iter().any(|a| matches!(a.0, 21 | 22));
            by_number || client.vendor_class.starts_with("U-Boot")
        },
        server: Lead::Bare,
        proxy: Lead::Bare,
        class: false,
    },
    // PXE 2.1 §2.5: without 43.6 = 8 a ROM looks for boot servers by itself.
    Quirk {
        name: "BIOS PXE",
        fits: |client, _| client.platform() == Some(Platform::Bios),
        server: Lead::Skip,
        proxy: Lead::Skip,
        class: true,
    },
    // With option 60 in a DHCP server's answer EDK2 takes the answer for a boot server's and asks port 4011.
    Quirk { name: "UEFI PXE", fits: |_, _| true, server: Lead::Bare, proxy: Lead::Bare, class: false },
];

/// Prefixes of Raspberry Pi's NICs.
const RASPBERRY_PI: [[u8; 3]; 6] = [
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0x28, 0xcd, 0xc1],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
];

/// The row of a client that fetches by TFTP.
pub fn of(client: &Client, mac: Mac) -> Option<&'static Quirk> {
    let by_tftp = client.program == Program::Pxe;
    TABLE.iter().find(|quirk| by_tftp && (quirk.fits)(client, mac))
}

impl Lead {
    /// Option 43 of the answer; empty: none.
    pub fn vendor_options(self) -> &'static [u8] {
        match self {
            Self::Bare | Self::Ask => &[],
            // Discovery control (6): take the file that is named.
            Self::Skip => &[6, 1, 8, 255],
            // Discovery control 3 (no broadcast, no multicast), prompt (10) "PXE" after 0 s, menu (9) of one entry.
            Self::RaspberryPi => b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff",
        }
    }

    /// As declared.
    pub fn of(declared: &Quirks) -> Option<Self> {
        declared.pxe.map(|pxe| match pxe {
            PxeLead::Skip => Self::Skip,
            PxeLead::Bare => Self::Bare,
            PxeLead::Ask => Self::Ask,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(architectures: &[u16], class: &str) -> Client {
        Client {
            program: Program::Pxe,
            architectures: architectures.iter().copied().map(Architecture).collect(),
            uuid: None,
            vendor_class: class.to_owned(),
        }
    }

    #[test]
    fn each_kind_finds_its_row() {
        const PI: [u8; 3] = [0xdc, 0xa6, 0x32];
        const OTHER: [u8; 3] = [0x52, 0x54, 0];
        for (prefix, architectures, class, name) in [
            (PI, &[0][..], "PXEClient:Arch:00000:UNDI:002001", "Raspberry Pi"),
            (PI, &[], "PXEClient", "Raspberry Pi"),
            (PI, &[11], "PXEClient:Arch:00011:UNDI:003000", "UEFI PXE"),
            (PI, &[22], "U-Boot.armv8", "U-Boot"),
            (OTHER, &[0], "PXEClient:Arch:00000:UNDI:002001", "BIOS PXE"),
            (OTHER, &[7], "PXEClient:Arch:00007:UNDI:003000", "UEFI PXE"),
            (OTHER, &[22], "PXEClient:Arch:00022:UNDI:003000", "U-Boot"),
            (OTHER, &[11], "U-Boot.armv8", "U-Boot"),
        ] {
            let mac = Mac([prefix[0], prefix[1], prefix[2], 1, 2, 3]);
            let found = of(&client(architectures, class), mac).unwrap();
            assert_eq!(found.name, name, "{architectures:?} {class}");
        }
        let system = Client { program: Program::System, ..client(&[0], "") };
        assert!(of(&system, Mac([2, 0, 0, 0, 0, 1])).is_none());
    }

    #[test]
    fn option_43_of_each_lead_is_whole() {
        for lead in [Lead::Bare, Lead::Skip, Lead::Ask, Lead::RaspberryPi] {
            let mut rest = lead.vendor_options();
            while let [code, length, tail @ ..] = rest {
                assert!(*code != 255 && usize::from(*length) < tail.len(), "{lead:?}");
                rest = &tail[usize::from(*length)..];
            }
            assert!(rest.is_empty() || rest == [255], "{lead:?}");
        }
    }
}
