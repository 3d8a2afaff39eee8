//! The source tree tests itself: who may import whom (ARCHITECTURE.md), how long a file may be, and words that must
//! not be in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Lines of one Rust file, tests included.
const LINES_MAX: usize = 700;

/// Each room of the server and the rooms it may import. A room that is not here does not pass.
const ALLOWED: &[(&str, &[&str])] = &[
    ("machine", &[]),
    ("render", &["machine"]),
    ("token", &["machine"]),
    ("inventory", &["machine"]),
    ("os", &["machine", "inventory", "render", "token"]),
    ("reach", &[]),
    ("image", &["machine", "inventory", "reach"]),
    ("bmc", &["machine"]),
    ("secret", &["machine", "token"]),
    ("store", &["machine", "inventory", "token"]),
    ("cluster", &["machine", "inventory", "token", "secret", "store", "reach", "clock"]),
    (
        "workflow",
        &[
            "machine",
            "inventory",
            "store",
            "bmc",
            "cluster",
            "image",
            "token",
            "render",
            "os",
            "secret",
            "clock",
            "crash",
        ],
    ),
    ("dhcp", &["machine", "inventory", "store", "clock"]),
    ("doctor", &["machine"]),
    ("tftp", &["machine", "clock"]),
    (
        "http",
        &[
            "machine",
            "inventory",
            "store",
            "render",
            "os",
            "token",
            "image",
            "secret",
            "workflow",
            "doctor",
            "clock",
            "config",
        ],
    ),
    ("config", &["dhcp", "image", "inventory", "tftp"]),
    ("pull_through", &["http", "image"]),
    ("cli", &["config", "serve", "inventory"]),
    ("clock", &["machine"]),
    ("crash", &[]),
    (
        "serve",
        &[
            "machine",
            "cluster",
            "inventory",
            "store",
            "render",
            "os",
            "token",
            "image",
            "secret",
            "workflow",
            "clock",
            "config",
            "dhcp",
            "tftp",
            "http",
            "bmc",
            "doctor",
            "reach",
        ],
    ),
];

fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    ALLOWED.iter().copied().collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn all_rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["provisioner", "tests"] {
        rust_files(&root().join(folder), &mut files);
    }
    assert!(files.len() > 50, "the walk has lost the tree");
    files
}

/// `crate::room` as named in code, not in comments.
fn rooms_named(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    let mut rooms = BTreeSet::new();
    let joined = code.collect::<Vec<_>>().join("\n");
    for (at, _) in joined.match_indices("crate::") {
        let rest = &joined[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        rooms.insert(first_word(&word));
                        word.clear();
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 || !word.contains("::") {
                    word.push(c);
                }
            }
            rooms.insert(first_word(&word));
        } else {
            rooms.insert(first_word(rest));
        }
    }
    rooms.retain(|r| !r.is_empty());
    rooms
}

fn first_word(text: &str) -> String {
    text.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_point_inward() {
    let (server, allowed) = (root().join("provisioner/server"), allowed());
    let mut files = Vec::new();
    rust_files(&server, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&server).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let Some(may) = allowed.get(room) else {
            wrong.push(format!("{room} is not a room; put it into one, or into this table"));
            continue;
        };
        for named in rooms_named(&fs::read_to_string(&file).unwrap()) {
            if named != room && allowed.contains_key(named.as_str()) && !may.contains(&named.as_str()) {
                wrong.push(format!("{} imports {named}, which {room} may not", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_rooms_touch_no_world() {
    let server = root().join("provisioner/server");
    let pure = [
        "machine",
        "render",
        "token",
        "cluster/node.rs",
        "reach/rules.rs",
        "doctor",
        "dhcp/answer.rs",
        "dhcp/lease.rs",
        "dhcp/client.rs",
        "dhcp/v6/answer.rs",
        "dhcp/v6/client.rs",
        "dhcp/v6/intake.rs",
        "dhcp/v6/lease.rs",
        "dhcp/v6/relay.rs",
        "dhcp/v6/validate.rs",
        "tftp/transfer.rs",
    ];
    let mut files = Vec::new();
    for place in pure {
        let path = server.join(place);
        if path.is_dir() { rust_files(&path, &mut files) } else { files.push(path) }
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in
            ["tokio::", "sqlx::", "std::fs", "std::net::Udp", "Instant::now", "SystemTime::now", "getrandom"]
        {
            assert!(!code.contains(word), "{} is pure and names {word}", file.display());
        }
    }
}

#[test]
fn sql_is_only_in_the_store() {
    let mut files = Vec::new();
    rust_files(&root().join("provisioner/server"), &mut files);
    for file in files {
        let in_store = file.components().any(|c| c.as_os_str() == "store");
        let text = fs::read_to_string(&file).unwrap();
        assert!(in_store || !text.contains("sqlx::query"), "{} has SQL", file.display());
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines; split it", file.display());
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!"), "{} does not say in its first line what it is for", file.display());
    }
}

#[test]
fn nothing_is_left_open() {
    // Put together here, so that this file does not find itself.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["X", "XX"].concat(),
        ["unimpl", "emented!("].concat(),
    ];
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} has a {word}", file.display());
        }
    }
}
