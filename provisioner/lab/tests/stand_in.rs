//! dnsmasq in the server's place: DHCP and TFTP, enough to carry a machine into the agent.

use provisioner_lab::{
    Assets,
    namespace::{ADDRESS, BRIDGE},
    process::Daemon,
};
use std::{fs, path::Path, process::Command, time::Duration};

pub fn start(assets: &Assets, folder: &Path) -> Daemon {
    let root = folder.join("tftp");
    fs::create_dir_all(&root).unwrap();
    for name in ["undionly.kpxe", "snponly.efi", "ipxe.efi"] {
        fs::copy(assets.ipxe().join(name), root.join(name)).unwrap();
    }
    fs::copy(assets.kernel(), root.join("vmlinuz")).unwrap();
    fs::copy(assets.initramfs(), root.join("initramfs.img")).unwrap();
    let script = "#!ipxe\nkernel vmlinuz initrd=initramfs.img console=ttyS0 panic=10 \
                  BOOTIF=01-${mac:hexhyp}\ninitrd initramfs.img\nboot\n";
    fs::write(root.join("boot.ipxe"), script).unwrap();
    let config = folder.join("dnsmasq.conf");
    fs::write(&config, configuration(&root)).unwrap();
    let mut command = Command::new("dnsmasq");
    command.arg("--keep-in-foreground").arg(format!("--conf-file={}", config.display()));
    command.arg(format!("--pid-file={}", folder.join("dnsmasq.pid").display()));
    command.arg(format!("--dhcp-leasefile={}", folder.join("leases").display()));
    command.arg("--log-facility=-");
    let log = folder.join("dnsmasq.log");
    let mut dnsmasq = Daemon::start("dnsmasq", &mut command, &log).unwrap();
    let started = || fs::read_to_string(&log).is_ok_and(|text| text.contains("started"));
    dnsmasq.wait_ready(Duration::from_secs(20), started).unwrap();
    dnsmasq
}

/// Option 175.176 spares iPXE three seconds, the router advertisement sixteen.
fn configuration(root: &Path) -> String {
    format!(
        "port=0\ninterface={BRIDGE}\nbind-interfaces\nexcept-interface=lo\nuser=root\nlog-dhcp\ndhcp-authoritative\n\
         enable-tftp\ntftp-root={}\ndhcp-range=10.88.0.200,10.88.0.250,255.255.255.0,1h\nno-ping\n\
         dhcp-userclass=set:ipxe,iPXE\ndhcp-match=set:bios,option:client-arch,0\n\
         dhcp-match=set:efi64,option:client-arch,7\ndhcp-boot=tag:ipxe,tftp://{ADDRESS}/boot.ipxe\n\
         dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe\ndhcp-boot=tag:!ipxe,tag:efi64,snponly.efi\n\
         dhcp-option=encap:175,176,1b\nenable-ra\ndhcp-range=fd88::,ra-only\n",
        root.display()
    )
}
