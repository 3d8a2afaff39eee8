//! PURE. A machine's network as Bottlerocket's `net.toml`. What netdog cannot have is refused before
//! (`inventory/check_network.rs`); what is written here, [`super::netdog`] judges again.

use crate::inventory::network::{Link, LinkName, Network};

/// Version 3. A plain link is found by its MAC, because its kernel name is not known; one below a VLAN is named, because
/// netdog puts a VLAN only on a name.
pub(super) fn net_toml(network: &Network) -> String {
    let mut text = "version = 3\n".to_owned();
    let primary = primary(network);
    for (name, link) in network.links.iter().filter(|(_, link)| is_written(link)) {
        // Keys are quoted: a MAC is no bare key.
        let section = match link.mac.filter(|_| !network.is_below_a_vlan(name)) {
            Some(mac) => format!("\"{mac}\""),
            None => format!("\"{name}\""),
        };
        text += &format!("\n[{section}]\n{}", head(link));
        if primary == Some(name) {
            text += "primary = true\n";
        }
        if link.bond.is_some() {
            text +=
                &format!("\n[{section}.monitoring]\nmiimon-frequency-ms = 100\nmiimon-updelay-ms = 200\n");
            text += "miimon-downdelay-ms = 200\n";
        }
        for (key, v4) in [("static4", true), ("static6", false)] {
            let own = link.addresses.iter().filter(|address| address.addr().is_ipv4() == v4);
            let own: Vec<String> = own.map(|address| format!("\"{address}\"")).collect();
            if !own.is_empty() {
                text += &format!("\n[{section}.{key}]\naddresses = [{}]\n", own.join(", "));
            }
        }
        for route in &link.routes {
            let to = route.to.map_or_else(|| "default".to_owned(), |to| to.to_string());
            text += &format!("\n[[{section}.route]]\nto = \"{to}\"\nvia = \"{}\"\n", route.via);
        }
    }
    text
}

/// A plain link without an address is a bond's member, a VLAN's device, or off: netdog wants a section of none of them.
fn is_written(link: &Link) -> bool {
    link.mac.is_none() || is_addressed(link)
}

fn is_addressed(link: &Link) -> bool {
    link.dhcp || !link.addresses.is_empty()
}

fn head(link: &Link) -> String {
    let mut text = String::new();
    if let Some(bond) = &link.bond {
        let members: Vec<String> = bond.members.iter().map(|member| format!("\"{member}\"")).collect();
        let mode = bond.mode.word();
        text += &format!("kind = \"bond\"\nmode = \"{mode}\"\ninterfaces = [{}]\n", members.join(", "));
    } else if let Some(vlan) = &link.vlan {
        text += &format!("kind = \"vlan\"\ndevice = \"{}\"\nid = {}\n", vlan.on, vlan.id);
    }
    if link.dhcp || link.addresses.is_empty() {
        text += &format!("dhcp4 = {}\n", link.dhcp);
    }
    text
}

/// The link whose address the kubelet takes. netdog would take the first of the file, which may have none.
fn primary(network: &Network) -> Option<&LinkName> {
    let leads_out =
        |link: &Link| link.routes.iter().any(|route| route.to.is_none_or(|to| to.prefix_len() == 0));
    let first = |wanted: &dyn Fn(&Link) -> bool| {
        network.links.iter().find(|(_, link)| wanted(link)).map(|(name, _)| name)
    };
    first(&leads_out).or_else(|| first(&|link| link.dhcp)).or_else(|| first(&is_addressed))
}
