//! PURE. By what a machine's firmware is brought to the agent, where its declaration says other than usual.

use super::{
    bootfile::{BootFile, Lead, NoBoot, Serving, boot_file, file_path, script_path},
    client::{Client, Platform, Program},
};
use provisioner_wire::Mac;

/// The signed first stage that firmware with Microsoft's keys takes; it fetches [`GRUB`] from where it came.
pub const SHIM: &str = "shimx64.efi";
/// The name that shim asks for, whatever is behind it.
pub const GRUB: &str = "grubx64.efi";

/// What a machine's declaration says of its boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Road {
    /// iPXE, as the firmware can fetch it.
    #[default]
    Ipxe,
    /// Debian's signed shim, GRUB and kernel by TFTP: Secure Boot with the keys that machines are sold with.
    Shim,
    /// iPXE and its script by HTTPS only. `base`: the TLS listener as machines reach it, `https://10.88.0.1:8443`.
    Https { base: String },
}

/// [`boot_file`] for a machine on `road`. A road that is narrower than the firmware's wish is an error that says what to
/// set there, never another road.
pub fn boot_file_on(
    road: &Road,
    client: &Client,
    mac: Mac,
    serving: &Serving,
    rounds: u32,
) -> Result<Option<BootFile>, NoBoot> {
    let usual = || boot_file(client, mac, serving, rounds);
    let arch = if client.platform() == Some(Platform::UefiArm64) { "?arch=arm64" } else { "" };
    let x64 = client.platform() == Some(Platform::UefiX64);
    match (road, client.program) {
        (Road::Shim, Program::Pxe) if x64 => {
            if ![SHIM, GRUB].iter().all(|name| serving.files.contains(*name)) {
                return Err(NoBoot::Road("shim and GRUB are not there; boot.shim_dir names their folder"));
            }
            Ok(Some(BootFile { file: SHIM.to_owned(), class: None, lead: Lead::Bare, no_proxy: false }))
        }
        (Road::Shim, Program::Http) => Err(NoBoot::Road(
            "declared to boot by shim, whose GRUB speaks TFTP only: set its firmware to PXE",
        )),
        (Road::Https { base }, Program::Ipxe { http: true, .. }) => {
            Ok(usual()?.map(|boot| BootFile { file: format!("{base}{}{arch}", script_path(mac)), ..boot }))
        }
        // The script is another one, for the agent's kernel is.
        (_, Program::Ipxe { http: true, .. }) => {
            Ok(usual()?.map(|boot| BootFile { file: format!("{}{arch}", boot.file), ..boot }))
        }
        (Road::Https { base }, Program::Http) => Ok(usual()?.map(|boot| {
            let name = boot.file.rsplit('/').next().unwrap_or_default();
            BootFile { file: format!("{base}{}", file_path(name)), ..boot }
        })),
        (Road::Https { .. }, Program::Pxe | Program::Ipxe { http: false, .. }) => {
            Err(NoBoot::Road("declared to boot by HTTPS only: set its firmware to HTTP Boot"))
        }
        _ => usual(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::client::Architecture;
    use std::net::Ipv4Addr;

    const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

    fn serving(files: &[&str]) -> Serving {
        Serving {
            server: Ipv4Addr::new(10, 88, 0, 1),
            http: "http://10.88.0.1:8080".to_owned(),
            files: files.iter().map(|f| (*f).to_owned()).collect(),
        }
    }

    fn client(program: Program, architecture: u16) -> Client {
        Client {
            program,
            architectures: vec![Architecture(architecture)],
            uuid: None,
            vendor_class: String::new(),
        }
    }

    #[test]
    fn each_road_gives_its_own_file_or_says_what_to_set() {
        let all = serving(&["undionly.kpxe", "snponly.efi", SHIM, GRUB]);
        let https = Road::Https { base: "https://10.88.0.1:8443".to_owned() };
        let ipxe = Program::Ipxe { ours: true, http: true };
        let script = "https://10.88.0.1:8443/boot/52-54-00-01-02-03.ipxe";
        for (road, program, architecture, expected) in [
            (&Road::Shim, Program::Pxe, 7, Ok("shimx64.efi")),
            (&Road::Shim, Program::Pxe, 0, Ok("undionly.kpxe")),
            (&Road::Shim, ipxe, 7, Ok("http://10.88.0.1:8080/boot/52-54-00-01-02-03.ipxe")),
            (&Road::Shim, Program::Http, 16, Err("set its firmware to PXE")),
            (&https, Program::Http, 16, Ok("https://10.88.0.1:8443/boot/files/snponly.efi")),
            (&https, ipxe, 7, Ok(script)),
            (&https, Program::Pxe, 7, Err("set its firmware to HTTP Boot")),
            (&https, ipxe, 11, Ok("https://10.88.0.1:8443/boot/52-54-00-01-02-03.ipxe?arch=arm64")),
            (&Road::Ipxe, Program::Pxe, 7, Ok("snponly.efi")),
            (&Road::Ipxe, ipxe, 11, Ok("http://10.88.0.1:8080/boot/52-54-00-01-02-03.ipxe?arch=arm64")),
        ] {
            match (boot_file_on(road, &client(program, architecture), MAC, &all, 0), expected) {
                (Ok(Some(boot)), Ok(file)) => assert_eq!(boot.file, file, "{road:?} {program:?}"),
                (Err(refused), Err(words)) => assert!(refused.to_string().contains(words), "{refused}"),
                (given, _) => panic!("{road:?} {program:?}: {given:?}"),
            }
        }
        for road in [&Road::Shim, &https] {
            assert_eq!(boot_file_on(road, &client(Program::System, 7), MAC, &all, 0), Ok(None));
        }
        let refused = boot_file_on(&Road::Shim, &client(Program::Pxe, 7), MAC, &serving(&[SHIM]), 0);
        assert!(refused.unwrap_err().to_string().contains("boot.shim_dir"));
    }
}
