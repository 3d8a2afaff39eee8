//! Causes that stand in the fetching of boot files.

use super::found;
use crate::doctor::{
    Case, Finding,
    sign::{Boot, End, Platform, Sign, Transfer},
};
use std::time::Duration;

/// The block size that every path carries (RFC 1350).
const BLOCK_PLAIN: u64 = 512;
/// Loads of one boot program within [`LOOP_WITHIN`] that are a loop: a person presses reset less often.
const LOOP_ROUNDS: usize = 3;
const LOOP_WITHIN: Duration = Duration::from_secs(300);
/// From the last byte of a boot program to the first packet of what it is. iPXE needs a few seconds.
const START_WITHIN: Duration = Duration::from_secs(20);

/// Firmware that lost a packet asks for the file once more.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// The newest transfer, where it ended in silence.
fn silent(case: &Case) -> Option<(crate::machine::Time, &Transfer)> {
    let (at, transfer) = case.transfers().next()?;
    (transfer.end == End::Silent && case.since(at) >= AGAIN_WITHIN).then_some((at, transfer))
}

/// Options were agreed, and the first block of a large size never arrived.
pub fn mtu(case: &Case) -> Option<Finding> {
    let (at, transfer) = silent(case)?;
    if transfer.acknowledged > 0 || transfer.block_size <= BLOCK_PLAIN || !transfer.agreed {
        return None;
    }
    let size = transfer.block_size;
    found(
        "tftp-mtu",
        at,
        format!(
            "{} agreed to blocks of {size} bytes for {} and never got the first: packets of {} bytes do not pass",
            case.who(),
            transfer.file,
            size + 32
        ),
        "set the MTU of the path to 1500 (tunnels, VPNs and overlay networks take some of it away), or lower TFTP's \
         largest block size in [tftp]",
    )
}

/// It asked, and acknowledged nothing at all.
pub fn unheard(case: &Case) -> Option<Finding> {
    let (at, transfer) = silent(case)?;
    if transfer.acknowledged > 0 || (transfer.agreed && transfer.block_size > BLOCK_PLAIN) {
        return None;
    }
    found(
        "tftp-unheard",
        at,
        format!("{} asked for {} and acknowledged nothing of it", case.who(), transfer.file),
        "TFTP answers come from another port than 69 (RFC 1350 §4): let UDP from this server pass, with a TFTP helper \
         where addresses are translated; or use TFTP's single-port mode",
    )
}

pub fn stalled(case: &Case) -> Option<Finding> {
    let (at, transfer) = silent(case).filter(|(_, t)| t.acknowledged > 0)?;
    let Transfer { file, bytes, acknowledged, retransmits, .. } = transfer;
    found(
        "tftp-stalled",
        at,
        format!(
            "{} went silent after {acknowledged} of {bytes} bytes of {file} ({retransmits} sent again)",
            case.who()
        ),
        "look for loss on the path (duplex mismatch, a full link, a bad cable), or for a machine that was switched off \
         meanwhile",
    )
}

/// A file that is not there: newer iPXE and GRUB look for several, so only one that stops the boot counts.
pub fn refused(case: &Case) -> Option<Finding> {
    let (at, sign) = case.stuck_in().find(|(_, s)| !matches!(s, Sign::Bmc { .. } | Sign::Unkept { .. }))?;
    let Sign::Transfer(Transfer { file, end: End::Refused(why), .. }) = sign else { return None };
    if case.since(at) < START_WITHIN || case.fetched_program().is_some() {
        return None;
    }
    found(
        "tftp-refused",
        at,
        format!("{} asks TFTP for {file}: {why}", case.who()),
        "a name that we did not offer comes from another DHCP server, or from the machine's own settings: correct it \
         there",
    )
}

/// The newest fetch was not answered with the file.
pub fn http_refused(case: &Case) -> Option<Finding> {
    let (at, fetch) = case.fetches().next()?;
    let (status, path) = (fetch.status, &fetch.path);
    let todo = match status {
        300..400 => {
            "firmware follows no redirect and no double slash: give it the URL where the file is, without a proxy that \
             redirects"
        }
        404 => {
            "the URL is not one that this server offers: look for another DHCP server or a boot entry in the setup"
        }
        416 => "its range is beyond the file's end: it has an old copy; power it off and on",
        400..500 => "its request was refused: look at what stands between it and this server",
        500.. => "the server could not answer: see its log",
        _ => return None,
    };
    found(
        "http-refused",
        at,
        format!("{} asked for {path} ({}) and was answered {status}", case.who(), fetch.agent),
        todo,
    )
}

pub fn http_broken(case: &Case) -> Option<Finding> {
    let (at, fetch) = case.fetches().next()?;
    if fetch.whole || fetch.status >= 300 || fetch.method != "GET" || case.since(at) < START_WITHIN {
        return None;
    }
    found(
        "http-broken",
        at,
        format!("{} broke off {} after {} bytes", case.who(), fetch.path, fetch.bytes),
        "look at the machine's console for its reason (memory, a damaged file), and for loss on the path",
    )
}

/// The program that it fetched is not for its processor or firmware.
pub fn wrong_architecture(case: &Case) -> Option<Finding> {
    let (at, file, made_for) = case.fetched_program()?;
    let is = case.platform()?;
    // iPXE's own packets come after it has run: then the file was right.
    if made_for == is || started(case, at) {
        return None;
    }
    found(
        "wrong-architecture",
        at,
        format!("{} is {is} and has fetched {file}, which is made for {made_for}", case.who()),
        format!(
            "put the file for {is} in its place (`cargo xtask boot-assets` makes them all), or correct the rule that \
             names it"
        ),
    )
}

/// Fetched whole, of the right kind, and never heard of.
pub fn not_started(case: &Case) -> Option<Finding> {
    let (at, file, made_for) = case.fetched_program()?;
    if started(case, at) || case.since(at) < START_WITHIN || made_for == Platform::Bios {
        return None;
    }
    let again = case.after(at).any(|(_, s)| matches!(s, Sign::Dhcp(p) if p.is_firmware()));
    let then = if again { "went on to its next boot option" } else { "was not heard since" };
    let (known, maybe) = match case.machine.as_ref().and_then(|m| m.secure_boot) {
        Some(true) => ("Secure Boot is on: it refuses an unsigned binary", ""),
        Some(false) => ("Secure Boot was off when it was inspected; the file may be damaged", ""),
        None => ("Secure Boot refuses an unsigned binary just so", ", or the file is damaged"),
    };
    found(
        "secure-boot",
        at,
        format!("{} has fetched {file} whole and {then}. {known}{maybe}", case.who()),
        "give it signed files: `secure-boot` in its record (shim), or enrol the site's keys (docs/security.md); or turn \
         Secure Boot off in its setup",
    )
}

/// iPXE, or whatever was loaded, was heard after `at`.
fn started(case: &Case, at: crate::machine::Time) -> bool {
    case.after(at).any(|(_, sign)| match sign {
        Sign::Dhcp(packet) => packet.boots() && !packet.is_firmware(),
        Sign::Script { .. } | Sign::Agent { .. } => true,
        // shim fetches GRUB, GRUB its configuration: what was loaded runs.
        Sign::Transfer(transfer) => transfer.made_for.is_none() || transfer.end != End::Complete,
        _ => false,
    })
}

/// The same program again and again, and never a script.
pub fn chain_loop(case: &Case) -> Option<Finding> {
    let todo = "the iPXE in the machine's firmware loads another iPXE for ever: give it a firmware update or one of our \
                binaries on a USB stick, or have the other DHCP server send iPXE clients (option 77) to their script";
    if let Some((at, _)) = case.packets().next().filter(|(_, p)| p.boot() == Some(&Boot::Loop)) {
        return found(
            "chain-loop",
            at,
            format!("the iPXE of {} cannot do HTTP, and loads itself again and again", case.who()),
            todo,
        );
    }
    let (at, file, _) = case.fetched_program()?;
    let rounds = case.stuck_in().take_while(|(when, _)| at.since(*when) < LOOP_WITHIN);
    let rounds = rounds.filter(|(_, sign)| match sign {
        Sign::Transfer(t) => t.file == file && t.end == End::Complete,
        Sign::Fetch(f) => f.path == file && f.method == "GET" && f.status == 200,
        _ => false,
    });
    let rounds = rounds.count();
    // Between two loads by firmware alone nothing ran: that is a refusal, not a loop.
    let ran = case.packets().any(|(_, p)| !p.is_firmware());
    if rounds < LOOP_ROUNDS || !ran {
        return None;
    }
    found("chain-loop", at, format!("{} has loaded {file} {rounds} times in five minutes", case.who()), todo)
}
