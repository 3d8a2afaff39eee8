//! Kairos: cloud-config with its own keys, and the samples of its own documentation.

use super::{all, fixtures, refused};
use provisioner::inventory::OperatingSystem::Kairos;
use std::fs;

#[test]
fn its_own_keys_are_known_and_others_refused() {
    let good = "#cloud-config\nhostname: n1\nusers:\n  - name: kairos\ninstall:\n  device: auto\n  auto: true\n  \
                reboot: true\n  partitions.oem.size: 60\nk3s:\n  enabled: true\nstages:\n  boot.after:\n    - name: x\n      \
                files:\n        - path: /a\n          permissions: 0644\nruncmd:\n  - echo\n";
    assert_eq!(refused(Kairos, "config", good), Vec::<String>::new());
    for (from, to, place) in [
        ("#cloud-config\n", "", "config:1:1: "),
        ("install:", "instal:", "config:6:3: Kairos knows no instal; did you mean install?"),
        ("  auto: true", "  autos: true", "config:7:10: Kairos knows no install autos; did you mean auto?"),
        ("device: auto", "device: sda", "config:6:11: install.device"),
        ("auto: true", "auto: \"yes\"", "config:7:9: install.auto"),
        ("boot.after", "bot.after", "config:14:5: Kairos runs no stage bot.after; did you mean boot?"),
        (
            "- name: x",
            "- nane: x",
            "config:14:13: Kairos knows no stages boot.after 0 nane; did you mean name?",
        ),
        ("permissions: 0644", "permissions: rw", "config:17:24: permissions are an octal number"),
        (
            "permissions: 0644",
            "permission: 0644",
            "config:17:23: Kairos knows no stages boot.after 0 files 0 permission;",
        ),
        ("path: /a", "path: a", "config:16:17: a file needs an absolute path"),
        ("reboot: true", "reboot: true\n  poweroff: true", "config:9:13: "),
        ("  - echo", "  - [echo, a]", "config:19:5: a command is one text"),
        ("k3s:", "packages:", "config:11:3: Kairos knows no packages"),
        // What cloud-init itself says of the keys that both have.
        ("- name: kairos", "- nam: kairos", "config:4:10: users.0: Additional properties are not allowed"),
        ("- name: kairos", "- {name: kairos, groups: 5}", "config:4:28: users.0.groups: "),
        ("hostname: n1", "hostname: [n1]", "config:2:11: hostname: "),
    ] {
        let problems = refused(Kairos, "config", &good.replace(from, to));
        assert!(problems.iter().any(|p| p.starts_with(place)), "{to}: {problems:#?}");
    }
}

/// Each cloud-config of Kairos' own documentation, but for what is wrong in it.
#[test]
fn the_samples_of_its_documentation_are_taken() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in all(&fixtures("kairos/docs"), ".md") {
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("```yaml").skip(1).filter_map(|rest| rest.split("```").next()) {
            let block = block.split_once('\n').unwrap().1;
            // `{{<` is the page's own template, `<string>` stands for a value.
            if !block.starts_with("#cloud-config") || block.contains("{{<") || block.contains(": <string>") {
                continue;
            }
            let problems = refused(Kairos, "config", block);
            wrong.extend(problems.into_iter().map(|problem| format!("{} {problem}", path.display())));
            seen += 1;
        }
    }
    // A sample of what its validator refuses, a stage of one's own, and a typing error.
    wrong.retain(|problem: &String| {
        let known = ["users.0.name: value is not", "runs no stage foo", "2 systctl; did you mean sysctl?"];
        !known.iter().any(|known| problem.contains(known))
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 15, "{seen}");
}
