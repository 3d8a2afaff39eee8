//! Kairos: cloud-config with its own keys.

use super::refused;
use provisioner::inventory::OperatingSystem::Kairos;

#[test]
fn its_own_keys_are_known_and_others_refused() {
    let good = "#cloud-config\nhostname: n1\nusers:\n  - name: kairos\ninstall:\n  device: auto\n  auto: true\n  \
                reboot: true\n  partitions.oem.size: 60\nk3s:\n  enabled: true\nstages:\n  boot.after:\n    - name: x\n";
    assert_eq!(refused(Kairos, "config", good), Vec::<String>::new());
    for (from, to, place) in [
        ("#cloud-config\n", "", "config:1:1: "),
        ("install:", "instal:", "config:6:3: Kairos knows no instal"),
        ("  auto: true", "  autos: true", "config:7:10: Kairos knows no install autos"),
        ("device: auto", "device: sda", "config:6:11: install.device"),
        ("auto: true", "auto: \"yes\"", "config:7:9: install.auto"),
        ("boot.after", "bot.after", "config:14:5: Kairos runs no stage"),
        ("reboot: true", "reboot: true\n  poweroff: true", "config:9:13: "),
    ] {
        let problems = refused(Kairos, "config", &good.replace(from, to));
        assert!(problems.iter().any(|p| p.starts_with(place)), "{to}: {problems:#?}");
    }
}
