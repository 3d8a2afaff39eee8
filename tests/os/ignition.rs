//! Ignition: Butane's YAML through the template engine and out as JSON, judged by the real `ignition-validate` too.

use super::refused;
use provisioner::{
    inventory::{
        OperatingSystem::{FedoraCoreos, Flatcar},
        from_json,
    },
    os::{Site, preflight},
    render::Templates,
};
use serde_json::{Value, json};

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

/// A template of JSON: what it renders to is JSON with each name once, then Ignition; the place is one in the file.
#[test]
fn a_template_of_json_is_typed() {
    let rendered = |source: &str| {
        let templates = Templates::new([("t/config.ign.json.j2".to_owned(), source.to_owned())]).unwrap();
        let profile = from_json(&json!({
            "name": "p", "image": "i", "os": "flatcar", "template": "t", "role": "worker",
            "place": {"partition": {"number": 1}, "directory": "/"},
        }));
        let machine = from_json(&json!({"name": "n", "labels": {"a": "\"}, {\n"}})).unwrap();
        let site = Site { phone_home_url: "u".into(), phone_home_http_url: "u".into(), ca_pem: "p".into() };
        preflight(&templates, &profile.unwrap(), &machine, &site, None)
            .map_err(|problems| problems[0].to_string())
    };
    let good = "{\n  \"ignition\": {\"version\": \"3.3.0\"},\n  \"storage\": {\"files\": [\n    {\"path\": \"/a\", \
                \"contents\": {\"source\": {{ \"data:;base64,\" ~ (machine.labels.a | b64encode) }}}}\n  ]}\n}\n";
    let config: Value = serde_json::from_str(&rendered(good).unwrap().files[0].contents).unwrap();
    assert_eq!(config["storage"]["files"][0]["contents"]["source"], "data:;base64,In0sIHsK");
    for (from, to, place) in [
        ("3.3.0\"},", "3.3.0\"}", "config.ign:3:3: not JSON: expected `,` or `}`"),
        ("]}\n}", "]}\n", "config.ign:7:1: not JSON: EOF"),
        ("{\"path\"", "{\"path\": \"/b\", \"path\"", "config.ign:4:20: duplicate"),
        ("\"/a\"", "5", "config.ign:4:14: storage.files.0"),
        ("\"path\"", "\"pfad\": 1, \"path\"", "config.ign:4:14: Unused key pfad"),
        (
            "machine.labels.a",
            "machine.labels.b",
            "t/config.ign.json.j2:4: the value before | b64encode is not given",
        ),
    ] {
        let problem = rendered(&good.replace(from, to)).unwrap_err();
        assert!(problem.starts_with(place), "{to}: {problem}");
    }
}
