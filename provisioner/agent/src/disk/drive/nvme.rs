//! NVMe: Identify, Format NVM, Sanitize. Both erases may reach further than one namespace: they are used only where the
//! drive has no other (the licence names one disk).

use super::{
    Abilities, Duration, File, Instant, Means, NvmeCommand, PassedOver, io, ioctl, no, u16_at, u32_at,
};

const IDENTIFY: u8 = 0x06;
const GET_LOG_PAGE: u8 = 0x02;
const FORMAT_NVM: u8 = 0x80;
const SANITIZE: u8 = 0x84;
const SANITIZE_LOG: u32 = 0x81;
/// An erase of a large drive takes hours.
const ERASE_WITHIN: Duration = Duration::from_secs(12 * 3600);
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// What Identify says of controller, namespaces and this namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Identity {
    /// Optional admin commands supported.
    oacs: u16,
    /// Sanitize capabilities.
    sanicap: u32,
    /// Format NVM attributes.
    fna: u8,
    namespaces: usize,
    /// Formatted LBA size.
    flbas: u8,
    /// Protection settings.
    dps: u8,
}

pub(super) fn abilities(device: &File) -> io::Result<Abilities> {
    Ok(read(&identity(device)?))
}

fn identity(device: &File) -> io::Result<Identity> {
    let mut page = vec![0; 4096];
    let mut ask = |namespace, what| -> io::Result<Vec<u8>> {
        ioctl::nvme_admin(device, identify(namespace, what), &mut page)?;
        Ok(page.clone())
    };
    let own = ioctl::nvme_namespace(device)?;
    let (controller, active, namespace) = (ask(0, 1)?, ask(0, 2)?, ask(own, 0)?);
    Ok(Identity {
        oacs: u16_at(&controller, 256),
        sanicap: u32_at(&controller, 328),
        fna: controller.get(524).copied().unwrap_or(0),
        namespaces: active.chunks_exact(4).take_while(|id| u32_at(id, 0) != 0).count(),
        flbas: namespace.get(26).copied().unwrap_or(0),
        dps: namespace.get(29).copied().unwrap_or(0),
    })
}

/// PURE.
fn read(identity: &Identity) -> Abilities {
    let formats = identity.oacs & 1 << 1 != 0;
    let offered = [
        (Means::NvmeSanitizeBlock, identity.sanicap & 1 << 1 != 0, true),
        (Means::NvmeSanitizeCrypto, identity.sanicap & 1 != 0, true),
        // Bits 0 and 1: format, or erase, of one namespace does all of them.
        (Means::NvmeFormatErase, formats, identity.fna & 0b11 != 0),
        (Means::NvmeFormatCrypto, formats && identity.fna & 1 << 2 != 0, identity.fna & 0b11 != 0),
    ];
    let mut abilities = Abilities::default();
    for (means, _, reaches_all) in offered.into_iter().filter(|(_, offered, _)| *offered) {
        if reaches_all && identity.namespaces != 1 {
            let why = format!(
                "it would also erase the drive's other {} namespaces",
                identity.namespaces.max(1) - 1
            );
            abilities.cannot.push(PassedOver { means, why });
        } else {
            abilities.can.push(means);
        }
    }
    abilities
}

pub(super) fn erase(device: &File, means: Means) -> io::Result<()> {
    let own = ioctl::nvme_namespace(device)?;
    let identity = identity(device)?;
    if !read(&identity).can.contains(&means) {
        return Err(no(means));
    }
    match means {
        Means::NvmeFormatErase => ioctl::nvme_admin(device, format(own, &identity, 1), &mut []),
        Means::NvmeFormatCrypto => ioctl::nvme_admin(device, format(own, &identity, 2), &mut []),
        Means::NvmeSanitizeBlock => sanitized(device, 2),
        Means::NvmeSanitizeCrypto => sanitized(device, 4),
        other => Err(no(other)),
    }
}

/// Begins a sanitize and waits for its end: it goes on also without us, also over a power cut.
fn sanitized(device: &File, action: u32) -> io::Result<()> {
    ioctl::nvme_admin(device, sanitize(action), &mut [])?;
    let began = Instant::now();
    loop {
        std::thread::sleep(BETWEEN_LOOKS);
        let mut log = vec![0; 512];
        ioctl::nvme_admin(device, sanitize_log(log.len()), &mut log)?;
        match u16_at(&log, 2) & 0b111 {
            2 if began.elapsed() < ERASE_WITHIN => {}
            1 | 4 => return Ok(()),
            2 => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the sanitize does not come to its end"));
            }
            status => return Err(io::Error::other(format!("the sanitize failed: status {status}"))),
        }
    }
}

fn identify(namespace: u32, what: u32) -> NvmeCommand {
    let mut command =
        NvmeCommand { opcode: IDENTIFY, namespace, timeout_ms: 30_000, ..NvmeCommand::default() };
    command.dwords[0] = what;
    command
}

/// With the sector size and protection that it has now, and this secure erase setting.
fn format(namespace: u32, identity: &Identity, secure_erase: u32) -> NvmeCommand {
    let (flbas, dps) = (u32::from(identity.flbas), u32::from(identity.dps));
    let (format, metadata) = (flbas & 0xf | (flbas >> 5 & 0b11) << 12, (flbas >> 4 & 1) << 4);
    let protection = (dps & 0b111) << 5 | (dps >> 3 & 1) << 8;
    let timeout_ms = u32::try_from(ERASE_WITHIN.as_millis()).unwrap_or(u32::MAX);
    let mut command = NvmeCommand { opcode: FORMAT_NVM, namespace, timeout_ms, ..NvmeCommand::default() };
    command.dwords[0] = format | metadata | protection | secure_erase << 9;
    command
}

fn sanitize(action: u32) -> NvmeCommand {
    let mut command = NvmeCommand { opcode: SANITIZE, timeout_ms: 60_000, ..NvmeCommand::default() };
    command.dwords[0] = action;
    command
}

fn sanitize_log(bytes: usize) -> NvmeCommand {
    let mut command = NvmeCommand {
        opcode: GET_LOG_PAGE,
        namespace: u32::MAX,
        timeout_ms: 30_000,
        ..NvmeCommand::default()
    };
    let dwords = u32::try_from(bytes / 4).unwrap_or(1).saturating_sub(1);
    command.dwords[0] = SANITIZE_LOG | dwords << 16;
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_the_specifications() {
        let plain = Identity { flbas: 0, ..Identity::default() };
        assert_eq!((format(1, &plain, 1).opcode, format(1, &plain, 1).dwords[0]), (0x80, 0x200));
        assert_eq!(format(1, &plain, 2).dwords[0], 0x400);
        // LBA format 0x23 (bits 6:5 = 01, 3:0 = 0011), metadata at the end of the data, protection type 1 in front.
        let rich = Identity { flbas: 0b0011_0011, dps: 0b1001, ..Identity::default() };
        assert_eq!(format(3, &rich, 1).dwords[0], 0x3 | 1 << 12 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9);
        assert_eq!(format(3, &rich, 1).namespace, 3);
        assert_eq!((sanitize(2).opcode, sanitize(2).dwords[0], sanitize(4).dwords[0]), (0x84, 2, 4));
        assert_eq!(sanitize_log(512).dwords[0], 0x007f_0081);
        assert_eq!((identify(0, 2).opcode, identify(0, 2).dwords[0]), (6, 2));
    }

    #[test]
    fn a_drive_with_another_namespace_is_not_erased_as_a_whole() {
        let all = Identity { oacs: 2, sanicap: 0b11, fna: 0b100, namespaces: 1, ..Identity::default() };
        use Means::*;
        assert_eq!(
            read(&all).can,
            [NvmeSanitizeBlock, NvmeSanitizeCrypto, NvmeFormatErase, NvmeFormatCrypto]
        );
        let two = Identity { namespaces: 2, ..all };
        assert_eq!(read(&two).can, [NvmeFormatErase, NvmeFormatCrypto]);
        assert_eq!(read(&two).cannot.len(), 2);
        let broad = Identity { fna: 0b001, ..two };
        assert_eq!(read(&broad).can, []);
        assert!(read(&broad).cannot[2].why.contains("other 1 namespaces"), "{broad:?}");
        assert_eq!(read(&Identity { oacs: 0, sanicap: 0, ..all }), Abilities::default());
    }
}
