//! PURE. What an operating system cannot do of a machine's `network`, said before anything is rendered.

use super::{
    OperatingSystem,
    network::{BondMode, LinkName, Network},
};

/// What `os` would refuse or leave out, as JSON pointers below the record, with messages.
pub fn unfit(network: &Network, os: OperatingSystem) -> Vec<(String, String)> {
    match os {
        OperatingSystem::Bottlerocket => bottlerocket(network),
        _ => Vec::new(),
    }
}

/// netdog refuses the whole file for each of these, and the machine would have no network.
fn bottlerocket(network: &Network) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, link) in &network.links {
        let mut say = |below: &str, message: String| {
            found.push((format!("/links/{name}{below}"), format!("Bottlerocket {message}")));
        };
        if link.dhcp && !link.routes.is_empty() {
            let message =
                "takes no routes on a link with dhcp: leave out one of them; a static address may have both";
            say("/routes", message.to_owned());
        }
        if link.mtu.is_some() {
            say("/mtu", "has no setting for the MTU: leave it out".to_owned());
        }
        let by_name = link.mac.is_none() || network.is_below_a_vlan(name) || network.bond_of(name).is_some();
        if by_name && name.as_str().contains('.') {
            say("", "takes no name with a dot: take another".to_owned());
        }
        if let Some(mode) = link.bond.as_ref().map(|bond| bond.mode).filter(|m| *m != BondMode::ActiveBackup)
        {
            say("/bond/mode", format!("has bonds of mode active-backup only, not {}", mode.word()));
        }
        if let Some(vlan) = &link.vlan
            && let Some(bond) = network.bond_of(&vlan.on)
        {
            let on: &LinkName = &vlan.on;
            say("/vlan/on", format!("takes no VLAN on {on}, which is in {bond}: put it on {bond}"));
        }
    }
    found
}
