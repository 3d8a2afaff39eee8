//! GRUB's configuration for one machine: what [`super::boot`] decides, for the machines that come by shim. Debian's signed
//! GRUB reads one fixed path by TFTP, so who asks follows from the address it asks from: its lease.

use super::{
    App,
    boot::{Argument, Door, Script, Told, script_of},
    error::Result,
    script::{Word, line_of},
};
use crate::{
    machine::{
        Event,
        boot::{Boot, boots},
    },
    store,
};
use provisioner_wire::{Mac, order::cmdline};
use std::net::IpAddr;

/// What GRUB asks TFTP for, without the leading slash.
pub const CONFIG: &str = "grub/grub.cfg";

const AGENT: &str = include_str!("../../../ipxe/agent.grub");
const DISK: &str = include_str!("../../../ipxe/disk.grub");
const NO_NETBOOT: &str = include_str!("../../../ipxe/no-netboot.grub");
const NOTHING: &str = include_str!("../../../ipxe/nothing.grub");

/// The text for whoever has a lease on `ip`, and a boot id with it where the agent is to boot. `None`: nobody has.
pub async fn config(app: &App, ip: IpAddr) -> Result<Option<String>> {
    let leases = store::leases::all(&mut app.db().read().await?).await?;
    let now = app.engine().now().0;
    let live = leases.iter().find(|l| l.ip == ip.to_string() && l.state == "bound" && l.expires_at > now);
    let Some(mac) = live.and_then(|lease| lease.mac.parse::<Mac>().ok()) else { return Ok(None) };
    if refuses_netboot(app, mac).await? {
        return Ok(Some(NO_NETBOOT.to_owned()));
    }
    let script = script_of(app, mac, &Told::default(), Door::Plain).await?;
    text(&script, mac).map(Some).map_err(super::error::ApiError::internal)
}

/// The shim checks a kernel with its own vendor's keys, and these are not its operating system's. No URL is made for what
/// cannot boot; the timeline says why nothing goes on.
async fn refuses_netboot(app: &App, mac: Mac) -> Result<bool> {
    let machine = store::machines::by_mac(&mut app.db().read().await?, mac).await?;
    let Some(machine) = machine.filter(|machine| boots(machine) == Boot::Netboot) else { return Ok(false) };
    let what = "came by shim and GRUB, which cannot boot its operating system's own kernel".to_owned();
    app.engine().record(machine.id, &Event::Heard { what }).await?;
    Ok(true)
}

/// An error names the value that cannot stand in a configuration, unless the value is secret.
fn text(script: &Script, mac: Mac) -> std::result::Result<String, String> {
    let arguments = match script {
        Script::Disk { .. } => return Ok(DISK.to_owned()),
        Script::Netboot { .. } => return Ok(NO_NETBOOT.to_owned()),
        Script::Nothing | Script::NoAgent { .. } => return Ok(NOTHING.to_owned()),
        Script::Agent { arguments, .. } => arguments,
    };
    let boot_mac = Argument::Pair(cmdline::BOOTIF, format!("01-{}", mac.hyphened()));
    // Quoted: a word of a boot script has no quote in it, and between quotes GRUB takes `;`, `{` and `<` as they are.
    let quoted = |word: Word| format!("'{}'", word.as_str());
    let line = line_of([&boot_mac].into_iter().chain(arguments), quoted)?;
    Ok(AGENT.replace("{{arguments}}", &line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

    fn agent(words: &[&str]) -> Script {
        let arguments = words.iter().map(|w| Argument::Word((*w).to_owned())).collect();
        Script::Agent { arguments, door: Door::Plain }
    }

    #[test]
    fn the_agents_configuration_names_its_files_and_arguments() {
        let text = text(&agent(&["console=ttyS0,115200", "a;b"]), MAC).unwrap();
        assert!(
            text.contains(
                "linux /vmlinuz 'BOOTIF=01-52-54-00-01-02-03' 'console=ttyS0,115200' 'a;b'; then\n"
            ),
            "{text}"
        );
        assert!(!text.contains("{{"));
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_quotes(value in "\\PC*|.*") {
            if let Ok(text) = text(&agent(&[&value]), MAC) {
                prop_assert_eq!(text.lines().count(), AGENT.lines().count());
                let linux = text.lines().find(|l| l.contains("linux /vmlinuz")).unwrap_or_default();
                prop_assert_eq!(linux.matches('\'').count(), 4);
            }
        }
    }
}
