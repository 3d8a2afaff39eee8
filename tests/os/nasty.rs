//! Values that are something else in one format or another, and the readers that say what became of them.

use proptest::{collection, prelude::*, sample::select};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Each is structure, a number, a line end or the end of a quotation for some reader.
const TEXTS: [&str; 78] = [
    "",
    " ",
    "~",
    "null",
    "yes",
    "No",
    "on",
    "y",
    "n",
    "true",
    "1e3",
    "1e21",
    "0x10",
    "0o17",
    "017",
    "1_000",
    "12:30:45",
    "2001-12-14",
    ".inf",
    ".nan",
    "inf",
    "nan",
    "+1",
    "0b1",
    "=",
    "<<",
    "!!str x",
    "&a",
    "*a",
    "---",
    "...",
    "# x",
    "a #b",
    "a: b",
    "a:",
    "- a",
    "? a",
    "| ",
    "> ",
    "%TAG",
    "@a",
    "`id`",
    "{{ token }}",
    "{% raw %}",
    "{#x#}",
    "${uuid}",
    "$(id)",
    "%s%n",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\",
    "\\n",
    "a\nb",
    "\r\n",
    "\n---\nkind: Evil\n",
    "x\n  key: value",
    "\t",
    "\0",
    "\u{7}",
    "\u{1b}[0m",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}x",
    "\u{fffe}",
    "\u{10ffff}",
    "\u{202e}",
    "{{ .Values.os.name }}",
    "{{{",
    "}}",
    "]}",
    "],\"x\":{",
    "\nEOF\n",
    "#cloud-config",
];

/// Text that an operator might have, or might not.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(&TEXTS[..]).prop_map(str::to_owned),
        2 => collection::vec(select(&TEXTS[..]), 1..4).prop_map(|parts| parts.concat()),
        2 => "\\PC{0,24}",
        1 => collection::vec(any::<char>(), 0..16).prop_map(|all| all.into_iter().collect()),
        1 => "[\"'\\\\{}\\[\\]:#&*!|>%@`\n\t$ =-]{1,24}",
        1 => select(&TEXTS[..]).prop_map(|text| text.repeat(4096 / text.len().max(1)).to_owned() + "x"),
    ]
}

/// Text on one line, as an SSH key is.
pub fn line() -> impl Strategy<Value = String> {
    text().prop_map(|text| {
        let line: String = text.chars().filter(|c| !c.is_control()).collect();
        format!("ssh-ed25519 {line}")
    })
}

/// A value of the values map: any JSON of some depth. `null` is left out where a format has none.
pub fn tree(with_null: bool) -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        // Floats whose shortest form differs between the readers' grammars.
        select(&[0.1, 1e21, -1.5e300, 1e-7, 1e16, -0.0, 123_456.789][..]).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        4 => text().prop_map(Value::from),
        1 => number,
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(if with_null { Value::Null } else { json!(0) }),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            collection::btree_map(text(), inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// Python's YAML, which cloud-init reads with, and libyaml, from which Go's reader was made.
pub struct PyYaml {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

const READER: &str = "
import json, sys, yaml
for line in sys.stdin:
    text, answers = json.loads(line), []
    for loader in (yaml.SafeLoader, getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
        try:
            answers.append(list(yaml.load_all(text, loader)))
        except Exception as error:
            answers.append('refused: ' + str(error))
    print(json.dumps(answers, default=lambda it: 'a ' + type(it).__name__), flush=True)
";

impl PyYaml {
    pub fn start() -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("python3: {error}"));
        let (asks, says) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, asks, says }
    }

    /// The documents of a file as each of the two readers has them.
    pub fn read(&mut self, text: &str) -> [Value; 2] {
        writeln!(self.asks, "{}", json!(text)).unwrap();
        let mut answer = String::new();
        self.says.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("python3 with its yaml module: {error}"))
    }

    /// The documents of a file, which every reader must have alike.
    #[track_caller]
    pub fn agreed(&mut self, text: &str) -> Vec<Value> {
        // Kairos' own way to write permissions is 0644, which Go's reader has as octal, too.
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let ours: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        for theirs in self.read(text) {
            assert_eq!(theirs, Value::from(ours.clone()), "{text}");
        }
        ours
    }
}

impl Drop for PyYaml {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
