//! Ignition: Butane's YAML through the template engine and out as JSON, judged by the real `ignition-validate` too.

use super::refused;
use provisioner::inventory::OperatingSystem::{FedoraCoreos, Flatcar};

#[test]
fn ignitions_json_is_held_to_the_schema_of_its_version() {
    let good = "{\n \"ignition\": {\"version\": \"3.3.0\"},\n \"storage\": {\"files\": [\n  {\"path\": \"/etc/a\", \
                \"mode\": 420}]}\n}\n";
    for os in [Flatcar, FedoraCoreos] {
        assert_eq!(refused(os, "config.ign", good), Vec::<String>::new());
        for (from, to, place) in [
            ("3.3.0", "2.2.0", "config.ign:2:26: unsupported config version: ignition.version"),
            ("\"/etc/a\"", "\"etc/a\"", "config.ign:4:12: path not absolute"),
            ("420", "\"0644\"", "config.ign:4:30: "),
            ("\"mode\"", "\"moed\"", "config.ign:4:30: Unused key moed"),
            ("}]}", "}, {\"path\": \"/etc/a\"}]}", "config.ign:4:45: duplicate entry"),
            ("{\n \"ign", "{\n x\"ign", "config.ign:2:2: not JSON"),
        ] {
            let problems = refused(os, "config.ign", &good.replace(from, to));
            assert!(problems.iter().any(|p| p.starts_with(place)), "{to}: {problems:#?}");
        }
    }
}
