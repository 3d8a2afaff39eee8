//! ATA: IDENTIFY DEVICE and the security feature set, through ATA PASS-THROUGH (16). A SCSI disk that is no ATA disk
//! behind it refuses the first command, and can nothing.

use super::{Abilities, Data, File, Means, PassedOver, io, ioctl, no};

const PASS_THROUGH: u8 = 0x85;
const IDENTIFY_DEVICE: u8 = 0xec;
const SET_PASSWORD: u8 = 0xf1;
const ERASE_PREPARE: u8 = 0xf3;
const ERASE_UNIT: u8 = 0xf4;
const DISABLE_PASSWORD: u8 = 0xf6;
/// Set for the erase, which clears it. Not secret: whoever finds a drive that lost power meanwhile can open it with it.
const PASSWORD: &[u8] = b"provisioner-wipe";
const SHORT_MS: u32 = 30_000;
const ERASE_MS: u32 = 24 * 3_600_000;

/// Protocol field of the pass-through.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    NonData = 3,
    PioIn = 4,
    PioOut = 5,
}

pub(super) fn abilities(device: &File) -> io::Result<Abilities> {
    let mut page = [0; 512];
    send(device, IDENTIFY_DEVICE, Protocol::PioIn, Data::From(&mut page), SHORT_MS)?;
    Ok(read(&page))
}

/// PURE. ACS-4 §7.13.6: word 82 bit 1 and word 128.
fn read(page: &[u8; 512]) -> Abilities {
    let word = |n: usize| super::u16_at(page, n * 2);
    let security = word(128);
    if word(82) & 1 << 1 == 0 || security & 1 == 0 {
        return Abilities::default();
    }
    let mut offered = vec![Means::AtaErase];
    if security & 1 << 5 != 0 {
        offered.insert(0, Means::AtaEnhancedErase);
    }
    let hindrance = [
        (
            1 << 3,
            "its security is frozen (by the firmware at power-on; a sleep or a power cycle may lift it)",
        ),
        (1 << 2, "it is locked by a password"),
        (1 << 1, "it has a password already"),
        (1 << 4, "its password attempts are used up until the next power cycle"),
    ]
    .into_iter()
    .find(|(bit, _)| security & bit != 0);
    match hindrance {
        None => Abilities { can: offered, cannot: Vec::new() },
        Some((_, why)) => {
            let cannot = offered.into_iter().map(|means| PassedOver { means, why: why.to_owned() });
            Abilities { can: Vec::new(), cannot: cannot.collect() }
        }
    }
}

/// Sets a password, erases (which takes it away again), and takes it away itself where the erase failed.
pub(super) fn erase(device: &File, means: Means) -> io::Result<()> {
    let enhanced = match means {
        Means::AtaEnhancedErase => true,
        Means::AtaErase => false,
        other => return Err(no(other)),
    };
    if !abilities(device)?.can.contains(&means) {
        return Err(no(means));
    }
    let out =
        |command, block: &[u8; 512], time| send(device, command, Protocol::PioOut, Data::To(block), time);
    out(SET_PASSWORD, &block(false), SHORT_MS)?;
    let erased = send(device, ERASE_PREPARE, Protocol::NonData, Data::None, SHORT_MS)
        .and_then(|()| out(ERASE_UNIT, &block(enhanced), ERASE_MS));
    erased.map_err(|error| match out(DISABLE_PASSWORD, &block(false), SHORT_MS) {
        Ok(()) => error,
        Err(second) => io::Error::other(format!(
            "{error}; and its password ({}) could not be taken away: {second}",
            String::from_utf8_lossy(PASSWORD)
        )),
    })
}

/// The data of the security commands: control word (bit 0: 0 = user password; bit 1: enhanced erase), password.
fn block(enhanced: bool) -> [u8; 512] {
    let mut block = [0; 512];
    let control: u16 = if enhanced { 1 << 1 } else { 0 };
    for (place, byte) in block.iter_mut().zip(control.to_le_bytes().iter().chain(PASSWORD)) {
        *place = *byte;
    }
    block
}

/// SAT-4 §12.2.2: one block of data at most, counted in the sector count field.
fn pass_through(command: u8, protocol: Protocol) -> [u8; 16] {
    let mut block = [0; 16];
    let transfer = match protocol {
        Protocol::NonData => 0,
        // CK_COND would make a success an error: left out. T_DIR, BYT_BLOK and T_LENGTH (2: the sector count).
        Protocol::PioIn => 0x0e,
        Protocol::PioOut => 0x06,
    };
    let count = u8::from(!matches!(protocol, Protocol::NonData));
    let fields = [(0, PASS_THROUGH), (1, (protocol as u8) << 1), (2, transfer), (6, count), (14, command)];
    for (at, byte) in fields {
        if let Some(place) = block.get_mut(at) {
            *place = byte;
        }
    }
    block
}

fn send(device: &File, command: u8, protocol: Protocol, data: Data<'_>, timeout_ms: u32) -> io::Result<()> {
    let end = ioctl::scsi(device, &pass_through(command, protocol), data, timeout_ms)?;
    if end.status == 0 && end.host_status == 0 {
        return Ok(());
    }
    let sense = provisioner_wire::ids::hex(&end.sense);
    Err(io::Error::other(format!(
        "ATA command {command:#04x} was refused: SCSI status {:#04x}, host status {:#06x}, sense {sense}",
        end.status, end.host_status
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_the_standards() {
        // What hdparm and sg_sat_identify send.
        assert_eq!(
            pass_through(IDENTIFY_DEVICE, Protocol::PioIn),
            [0x85, 0x08, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xec, 0]
        );
        assert_eq!(
            pass_through(SET_PASSWORD, Protocol::PioOut),
            [0x85, 0x0a, 0x06, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xf1, 0]
        );
        assert_eq!(
            pass_through(ERASE_PREPARE, Protocol::NonData),
            [0x85, 0x06, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf3, 0]
        );
        assert_eq!(block(true)[..4], [2, 0, b'p', b'r']);
        assert_eq!(block(false)[..2], [0, 0]);
        assert_eq!(&block(false)[2..18], PASSWORD);
        assert!(block(true)[34..].iter().all(|b| *b == 0));
    }

    fn page(word_82: u16, word_128: u16) -> [u8; 512] {
        let mut page = [0; 512];
        page[164..166].copy_from_slice(&word_82.to_le_bytes());
        page[256..258].copy_from_slice(&word_128.to_le_bytes());
        page
    }

    #[test]
    fn what_a_drive_offers_and_what_hinders_it() {
        use Means::*;
        assert_eq!(read(&page(0, 0x21)), Abilities::default());
        assert_eq!(read(&page(2, 0)), Abilities::default());
        assert_eq!(read(&page(2, 0x01)).can, [AtaErase]);
        assert_eq!(read(&page(2, 0x21)).can, [AtaEnhancedErase, AtaErase]);
        for (bits, why) in
            [(0x29, "frozen"), (0x27, "locked"), (0x23, "a password already"), (0x31, "used up")]
        {
            let abilities = read(&page(2, bits));
            assert_eq!((abilities.can.len(), abilities.cannot.len()), (0, 2), "{bits:#x}");
            assert!(abilities.cannot[0].why.contains(why), "{abilities:?}");
        }
    }
}
