//! Network interfaces of real hardware: not loopback, bridges, tunnels or the like.

use super::{flag, link_name, names, number, text};
use provisioner_wire::report::Nic;
use std::path::Path;

pub(super) fn nics(root: &Path) -> Vec<Nic> {
    let class = root.join("sys/class/net");
    names(&class).into_iter().filter_map(|name| nic(&class, name)).collect()
}

fn nic(class: &Path, name: String) -> Option<Nic> {
    let folder = class.join(&name);
    if !folder.join("device").exists() {
        return None;
    }
    // A bond gives its members one common address; the burnt-in one stays here.
    let address = text(folder.join("bonding_slave/perm_hwaddr")).or_else(|| text(folder.join("address")))?;
    let link = flag(folder.join("carrier"));
    Some(Nic {
        mac: address.parse().ok()?,
        link,
        speed_mbit: number(folder.join("speed"))
            .filter(|speed| link && *speed > 0)
            .and_then(|speed| u32::try_from(speed).ok()),
        driver: link_name(folder.join("device/driver")),
        name,
    })
}
