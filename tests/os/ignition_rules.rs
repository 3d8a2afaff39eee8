//! Ignition's own rules: a table of configs, each judged by us and by Debian's `ignition-validate`, which say the same.

use super::{fixtures, refused};
use proptest::prelude::*;
use provisioner::inventory::OperatingSystem::{FedoraCoreos, Flatcar};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Command, Stdio},
};

/// Who, besides us, refuses a config.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Ignitions,
    /// We are stricter on purpose.
    Ours,
    /// The schema's words are others.
    Schema,
    /// Of Ignitions newer than Debian's.
    Later,
}

struct Case {
    minor: char,
    config: Value,
    rule: Rule,
    /// Empty where the config is taken.
    words: String,
}

fn cases() -> Vec<Case> {
    let table = fs::read_to_string(fixtures("ignition-rules/cases.txt")).unwrap();
    let mut cases = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (minors, rest) = line.split_once(' ').unwrap();
        let (config, words) = rest.rsplit_once(" =>").unwrap();
        let words = words.trim();
        let (rule, words) = match words.split_once(": ") {
            Some(("ours", words)) => (Rule::Ours, words),
            Some(("schema", words)) => (Rule::Schema, words),
            Some(("later", words)) => (Rule::Later, words),
            _ => (Rule::Ignitions, words),
        };
        for minor in minors.chars() {
            let config = serde_json::from_str(config).unwrap_or_else(|error| panic!("{line}: {error}"));
            cases.push(Case { minor, config, rule, words: words.to_owned() });
        }
    }
    cases
}

fn text(config: &Value, version: &str) -> String {
    let mut config = config.clone();
    config.as_object_mut().unwrap().entry("ignition").or_insert_with(|| json!({}))["version"] =
        version.into();
    config.to_string()
}

#[test]
fn every_config_of_the_table_gets_its_verdict() {
    let mut wrong = Vec::new();
    for case in cases() {
        let text = text(&case.config, &format!("3.{}.0", case.minor));
        let problems = refused(FedoraCoreos, "config.ign", &text);
        let as_said = match &*case.words {
            "" => problems.is_empty(),
            _ if case.rule == Rule::Schema => !problems.is_empty(),
            words => problems.iter().any(|problem| problem.contains(words)),
        };
        if !as_said {
            wrong.push(format!("{text} is not «{}»: {problems:?}", case.words));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The program's standard error, where it refuses.
fn ignition_validate(text: &str) -> Option<String> {
    let mut child = Command::new("ignition-validate")
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("ignition-validate: {error}"));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (!output.status.success()).then(|| String::from_utf8_lossy(&said).into_owned())
}

/// Debian's 2.14 knows 3.4.0 before it was finished, and no later one.
#[test]
fn ignition_validate_says_the_same() {
    let mut wrong = Vec::new();
    let mut asked = 0;
    for case in cases() {
        let version = match case.minor {
            '0'..='3' => format!("3.{}.0", case.minor),
            '4' => "3.4.0-experimental".to_owned(),
            _ => continue,
        };
        asked += 1;
        let text = text(&case.config, &version);
        let said = ignition_validate(&text);
        let as_said = match (case.rule, &*case.words) {
            (Rule::Ours | Rule::Later, _) | (_, "") => said.is_none(),
            (Rule::Ignitions | Rule::Schema, words) => said.as_ref().is_some_and(|said| said.contains(words)),
        };
        if !as_said {
            wrong.push(format!("{text} is not «{}»: {said:?}", case.words));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked > 800, "{asked}");
}

#[test]
fn each_system_has_its_newest_version_and_its_own_parts() {
    let of =
        |config: Value, minor: u32, os| refused(os, "config.ign", &text(&config, &format!("3.{minor}.0")));
    assert_eq!(of(json!({}), 4, Flatcar), Vec::<String>::new());
    assert_eq!(of(json!({}), 6, FedoraCoreos), Vec::<String>::new());
    let words = "unsupported config version: ignition.version is one of 3.0.0, 3.1.0, 3.2.0, 3.3.0, 3.4.0 for Flatcar";
    assert!(of(json!({}), 5, Flatcar)[0].ends_with(words));
    assert!(of(json!({}), 7, FedoraCoreos)[0].contains("3.6.0 for Fedora CoreOS"));

    let oem = json!({"storage": {"files": [{"path": "/a", "contents": {"source": "oem:///a"}}]}});
    assert_eq!(of(oem.clone(), 3, Flatcar), Vec::<String>::new());
    assert!(of(oem, 3, FedoraCoreos)[0].ends_with("invalid url scheme"));
    let clevis = json!({"storage": {"luks": [{"name": "a", "device": "/dev/a", "clevis": {"tpm2": true}}]}});
    assert!(of(clevis.clone(), 3, Flatcar)[0].ends_with("Flatcar has no clevis: write a keyFile"));
    assert_eq!(of(clevis, 3, FedoraCoreos), Vec::<String>::new());
}

#[test]
fn each_mistake_has_its_place() {
    let config = "{\"ignition\": {\"version\": \"3.3.0\"},\n \"storage\": {\n  \"files\": [\n   {\"path\": \"/a/\",\n    \
                  \"mode\": 4096,\n    \"contents\": {\"source\": \"ftp://a\"}}],\n  \"raid\": [{\"name\": \"a\",\n    \
                  \"level\": \"raid7\",\n    \"devices\": [\"/dev/a\",\n     \"dev/b\"]}]}}\n";
    let problems = refused(FedoraCoreos, "config.ign", config).into_iter().collect::<BTreeSet<_>>();
    let expected = [
        "config.ign:10:6: path not absolute",
        "config.ign:4:13: path is not fully simplified",
        "config.ign:5:13: illegal file mode",
        "config.ign:6:28: invalid url scheme",
        "config.ign:8:14: unrecognized raid level",
    ];
    assert_eq!(problems, expected.map(str::to_owned).into());
}

/// A config of the keys that the rules look at, with any values.
fn any_config() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        "[a-z]{0,8}:[/;,=%\"\\\\?#@:\\[\\]a-z0-9ä]{0,20}".prop_map(Value::from),
        "(/?[.a]{0,2}){0,4}".prop_map(Value::from),
        "[\\[\\]=\\\\\n#; aä]{0,16}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let names = [
        "files",
        "directories",
        "links",
        "disks",
        "partitions",
        "raid",
        "luks",
        "filesystems",
        "path",
        "mode",
        "target",
        "hard",
        "contents",
        "source",
        "verification",
        "hash",
        "device",
        "devices",
        "number",
        "startMiB",
        "sizeMiB",
        "name",
        "level",
        "clevis",
        "custom",
        "tang",
        "url",
        "units",
        "dropins",
        "format",
        "label",
        "append",
    ];
    let name = prop::sample::select(names.to_vec());
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics(storage in any_config(), systemd in any_config(), minor in 0..7) {
        let config = json!({"storage": storage, "systemd": systemd});
        refused(FedoraCoreos, "config.ign", &text(&config, &format!("3.{minor}.0")));
    }

    /// These reach the rules, for the schema takes them.
    #[test]
    fn nothing_panics_in_texts(
        path in "(/?[.aä\\\\]{0,2}){0,4}",
        source in "(data|http|s3|arn|[a-z])?:?[;,/]{0,2}[/;,=%\"\\\\?#@:\\[\\]a-z0-9ä]{0,30}",
        contents in "[\\[\\]=\\\\\n#; aä]{0,30}",
        hash in "(sha512)?-?[0-9a-fä]{0,5}",
        numbers in any::<[i64; 3]>(),
        minor in 0..7,
    ) {
        let config = json!({
            "storage": {
                "files": [{"path": path, "mode": numbers[0], "contents": {"source": source, "verification": {"hash": hash}}}],
                "links": [{"path": path, "target": source, "hard": true}],
                "disks": [{"device": path, "partitions": [
                    {"number": 1, "label": contents, "startMiB": numbers[1], "sizeMiB": numbers[2]},
                    {"number": 2, "guid": hash, "startMiB": numbers[2], "sizeMiB": numbers[0]}
                ]}]
            },
            "systemd": {"units": [{"name": path, "contents": contents}]}
        });
        for os in [Flatcar, FedoraCoreos] {
            refused(os, "config.ign", &text(&config, &format!("3.{minor}.0")));
        }
    }

    /// What we take is never refused in the machine, and what we refuse has a reason of the program or of ours.
    #[test]
    fn any_source_and_unit_gets_the_programs_verdict(
        source in "(data:(;base64)?,?|http://|s3:|[a-z]{1,3}:)[/;,=%\"?#@:\\[\\]a-c0-9ä]{0,12}",
        contents in "(\\[a\\]\n)?[\\[\\]=\\\\\n#; a]{0,12}",
    ) {
        let config = json!({
            "storage": {"files": [{"path": "/a", "contents": {"source": source}}]},
            "systemd": {"units": [{"name": "a.service", "contents": contents}]}
        });
        let text = text(&config, "3.3.0");
        let (ours, theirs) = (refused(FedoraCoreos, "config.ign", &text), ignition_validate(&text));
        prop_assert_eq!(ours.is_empty(), theirs.is_none(), "{} {:?} {:?}", text, ours, theirs);
        for problem in ours {
            let (_, words) = problem.split_once(": ").unwrap();
            prop_assert!(theirs.as_ref().unwrap().contains(words), "{} {} {:?}", text, words, theirs);
        }
    }
}
