//! Causes that stand in a DHCP answer, or in what came after it.

use super::found;
use crate::doctor::{
    Case, Finding,
    case::given,
    sign::{Answer, Boot, Foreign, Program, Sign},
};
use std::time::Duration;

/// The reasons of `dhcp` that rules know; a test below holds them to its words.
pub mod reason {
    pub const POOL_FULL: &str = "the pool has no free address";
    pub const NO_POOL: &str = "it has no reservation, and the subnet has no pool";
    pub const NO_SUBNET: &str = "it is on no subnet that is served";
    /// Over IPv6 only.
    pub const OTHERS_GIVE: &str = "others give addresses here";
    pub const LIMITED: &str = "too many unknown machines ask";
}

/// After an offer firmware asks for the address at once, and after four seconds again.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// From the acknowledgement to the first request for the file.
const FETCH_WITHIN: Duration = Duration::from_secs(15);

/// Another server answered it, and it has not come through since.
pub fn rogue(case: &Case) -> Option<Finding> {
    let (at, first) = case.foreign_answers().next()?;
    // Where ours was taken after all, the other one did no harm.
    let taken = |(when, sign): (_, &Sign)| {
        when > at && matches!(sign, Sign::Dhcp(p) if p.boots() && matches!(p.answer, Answer::Ack { .. }))
    };
    if !first.chosen && case.stuck_in().any(taken) {
        return None;
    }
    let detail = case.foreign_answers().find(|(_, f)| f.server == first.server && f.mac.is_some());
    let Foreign { server, mac, file, .. } = detail.map_or(first, |(_, f)| f);
    let mac = mac.as_ref().map(|m| format!(" (MAC {m})")).unwrap_or_default();
    let file = file.as_ref().map(|f| format!(", which offers the boot file {f}")).unwrap_or_default();
    let chose = if first.chosen { "has chosen" } else { "was answered by" };
    found(
        "rogue-dhcp",
        at,
        format!("{} {chose} another DHCP server: {server}{mac}{file}", case.who()),
        format!(
            "find {server} by its MAC in the switches' tables and turn it off, or have the switches drop its answers \
             (DHCP snooping); where it belongs here, allow it in [dhcp.watch] and use proxy mode"
        ),
    )
}

/// The newest packet is not answered for this reason.
fn unanswered<'a>(case: &'a Case, wanted: &[&str]) -> Option<(crate::machine::Time, &'a str)> {
    let (at, packet) = case.packets().next()?;
    match &packet.answer {
        Answer::Nothing { reason } | Answer::NoAddress { reason }
            if wanted.iter().any(|w| reason.starts_with(w)) =>
        {
            Some((at, reason.as_str()))
        }
        _ => None,
    }
}

pub fn pool_exhausted(case: &Case) -> Option<Finding> {
    let (at, why) = unanswered(case, &[reason::POOL_FULL, reason::NO_POOL])?;
    found(
        "pool-exhausted",
        at,
        format!("{} gets no address: {why}", case.who()),
        "enlarge `pool` of its subnet, give the machine an address of its own in its record (nics[].address), or \
         shorten lease_seconds",
    )
}

pub fn no_subnet(case: &Case) -> Option<Finding> {
    let (at, _) = unanswered(case, &[reason::NO_SUBNET])?;
    let newest = case.packets().next().map(|(_, p)| p);
    let (relay, v6) = (newest.and_then(|p| p.relay), newest.is_some_and(|p| p.is_v6()));
    let through = relay.map(|r| format!(" (it comes through the relay {r})")).unwrap_or_default();
    found(
        "no-subnet",
        at,
        format!("{} is on no subnet that is served{through}", case.who()),
        format!(
            "declare the relay's network as one of {}, or correct the relay's address",
            if v6 { "[[dhcp6.subnets]]" } else { "[[dhcp.subnets]]" }
        ),
    )
}

pub fn limited(case: &Case) -> Option<Finding> {
    let (at, why) = unanswered(case, &[reason::LIMITED])?;
    found(
        "rate-limited",
        at,
        format!("{} is not answered: {why}", case.who()),
        "declare the machine: known ones are never limited. Many unknown MACs on one port are an attack or a loop: see \
         `provisioner boot-plane`. The limits are in [dhcp.limits]",
    )
}

/// It solicits an address over IPv6 where others are to give them, and they do not.
pub fn no_address_given(case: &Case) -> Option<Finding> {
    let (at, _) = unanswered(case, &[reason::OTHERS_GIVE])?;
    let packets = case.packets().take_while(|(_, p)| p.is_v6() && matches!(p.answer, Answer::Nothing { .. }));
    let first = packets.last().map(|(first, _)| first)?;
    (case.now.since(first) >= REQUEST_WITHIN).then_some(())?;
    found(
        "no-address-given",
        at,
        format!("{} solicits an IPv6 address, and the network's own DHCPv6 server gives it none", case.who()),
        "look why that server does not answer it; or let this one give addresses: `mode = \"stateful\"` in [[dhcp6]]. \
         UEFI firmware asks for an address first and never for boot options alone",
    )
}

/// Refused three times in a row.
pub fn refused_address(case: &Case) -> Option<Finding> {
    let mut naks = case
        .packets()
        .filter(|(_, p)| p.message == "request")
        .take_while(|(_, p)| matches!(p.answer, Answer::Nak { .. }));
    let (at, packet) = naks.next()?;
    (naks.take(2).count() == 2).then_some(())?;
    let Answer::Nak { reason } = &packet.answer else { return None };
    found(
        "refused-address",
        at,
        format!("{} asks for an address that it cannot have, again and again: {reason}", case.who()),
        "it remembers an old lease: clear that, or give its record the address that it asks for",
    )
}

/// It boots from the network and there is no file for it.
pub fn no_boot_file(case: &Case) -> Option<Finding> {
    let (at, packet) = case.packets().next()?;
    let Some(Boot::Missing(why)) = packet.boot() else { return None };
    found(
        "no-boot-file",
        at,
        format!("there is no boot file for {} ({}): {why}", case.who(), packet.who),
        "put the iPXE binary for its architecture into boot.ipxe_dir (`cargo xtask boot-assets` makes them) and start \
         the server again",
    )
}

/// Nobody declared it, and discovery is off.
pub fn not_declared(case: &Case) -> Option<Finding> {
    let (at, packet) = case.packets().next()?;
    let none = case.machine.is_none() && !case.discovery && packet.boot() == Some(&Boot::None);
    none.then_some(())?;
    found(
        "not-declared",
        at,
        "nobody has declared a machine with this MAC, and discovery is off: it gets an address and nothing to boot",
        "apply its record (`provisioner machine apply`), or set discovery = true",
    )
}

/// A proxy's offer, and no question on port 4011 after it; or one that was not answered.
pub fn port_4011(case: &Case) -> Option<Finding> {
    let todo = "let UDP port 4011 pass between the machine and this server; a firmware that never asks there needs its \
                boot file from the site's own DHCP server (options 66 and 67)";
    if let Some((at, asked)) = case.packets().next().filter(|(_, p)| p.port == 4011) {
        let Answer::Nothing { reason } = &asked.answer else { return None };
        return found(
            "proxy-4011",
            at,
            format!("{} asks on port 4011 and is not answered: {reason}", case.who()),
            todo,
        );
    }
    let proxied = |p: &crate::doctor::sign::Packet| {
        let as_proxy = p.file().is_some() && given(&p.answer).is_none();
        p.program == Program::Pxe && p.message == "discover" && (as_proxy || p.boot() == Some(&Boot::Ask))
    };
    let (at, _) = case.packets().find(|(_, p)| proxied(p))?;
    let came = case.after(at).any(|(_, sign)| match sign {
        Sign::Dhcp(p) => p.port == 4011,
        Sign::Transfer(_) | Sign::Fetch(_) | Sign::Foreign(_) => true,
        _ => false,
    });
    if came || case.since(at) < REQUEST_WITHIN {
        return None;
    }
    found(
        "proxy-4011",
        at,
        format!("{} was told of its boot server here, and no question on port 4011 came", case.who()),
        todo,
    )
}

/// Offers, and no request after them.
pub fn no_request(case: &Case) -> Option<Finding> {
    let (at, last) = case.packets().next()?;
    let offered = |p: &crate::doctor::sign::Packet| {
        matches!(&*p.message, "discover" | "solicit") && matches!(p.answer, Answer::Offer { ip: Some(_), .. })
    };
    if !offered(last) || case.since(at) < REQUEST_WITHIN {
        return None;
    }
    let offers = case.packets().take_while(|(_, p)| offered(p)).count();
    if case.stuck_in().take_while(|(when, _)| *when >= at).any(|(_, s)| matches!(s, Sign::Transfer(_))) {
        return None;
    }
    let ip = given(&last.answer).map(|ip| ip.to_string()).unwrap_or_default();
    let todo = match last.relay {
        Some(relay) => format!(
            "our offers go to the relay {relay}, port {port}: look whether the relay passes them on to the machine's \
             VLAN, and whether a firewall lets UDP {port} through",
            port = last.port
        ),
        None if last.is_v6() => "look for another DHCPv6 server with a higher preference, and for a switch or firewall \
                                 that drops UDP to port 546 (DHCPv6 guard)"
            .to_owned(),
        None => "look for another DHCP server that answers faster, for a port that comes up late (spanning tree: turn \
                 portfast on), and for a firewall that drops UDP to port 68"
            .to_owned(),
    };
    found(
        "no-request",
        at,
        format!("{} was offered {ip} {offers} time(s) and has not asked for it", case.who()),
        todo,
    )
}

/// It has its address and was told a file, and does not come for it.
pub fn not_fetched(case: &Case) -> Option<Finding> {
    let (at, packet) = case.packets().next()?;
    let file = packet.file().filter(|_| matches!(packet.answer, Answer::Ack { .. }))?;
    let came =
        case.stuck_in().any(|(when, sign)| when >= at && matches!(sign, Sign::Transfer(_) | Sign::Fetch(_)));
    if came || case.since(at) < FETCH_WITHIN {
        return None;
    }
    let by = if file.starts_with("http") {
        "the plain HTTP port"
    } else {
        "UDP port 69 and the ports of its answers"
    };
    found(
        "file-not-fetched",
        at,
        format!("{} has its address and was told to fetch {file}, and no request for it came", case.who()),
        format!("let {by} pass between the machine's subnet and this server; look at the subnet's router"),
    )
}

#[cfg(test)]
mod tests {
    use super::reason;

    fn texts(folder: &str) -> Vec<String> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|p| p.is_file()).map(|p| std::fs::read_to_string(p).unwrap()).collect()
    }

    #[test]
    fn dhcp_says_these_reasons() {
        let (v4, v6) = (texts("provisioner/server/dhcp"), texts("provisioner/server/dhcp/v6"));
        let says = |texts: &[String], reason: &str| texts.iter().any(|t| t.contains(&format!("\"{reason}")));
        for reason in [reason::POOL_FULL, reason::NO_POOL, reason::NO_SUBNET] {
            assert!(says(&v4, reason) && says(&v6, reason), "{reason}");
        }
        assert!(says(&v4, reason::LIMITED));
        assert!(says(&v6, reason::OTHERS_GIVE));
    }
}
