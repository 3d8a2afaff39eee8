//! `config render|diff`: what a machine is given, without its secrets.

use super::{
    Output,
    client::{Client, Failure, segment},
    records,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;
use similar::TextDiff;
use std::collections::BTreeSet;

#[derive(Debug, Subcommand)]
pub enum Configs {
    /// The config as it would be rendered now, checked. Nothing is minted; REDACTED stands for each secret.
    Render { machine: String },
    /// What has changed since the machine was last given its config: exit code 1 where something has.
    Diff { machine: String },
}

#[derive(Debug, Deserialize)]
struct File {
    name: String,
    contents: String,
    mode: u32,
}

pub async fn run(client: &Client, what: Configs) -> Result<(), Failure> {
    match what {
        Configs::Render { machine } => {
            let now: Value = client.get(&path(&machine, "")).await?;
            if client.output == Output::Json {
                return records::show(client, &now);
            }
            for file in opened(files(&now)?) {
                println!("# {} (mode {:04o})", file.name, file.mode);
                print!("{}", file.contents);
                println!();
            }
            Ok(())
        }
        Configs::Diff { machine } => {
            let (old, new): (Value, Value) =
                (client.get(&path(&machine, "/applied")).await?, client.get(&path(&machine, "")).await?);
            let changed = diff(&opened(files(&old)?), &opened(files(&new)?));
            if client.output == Output::Json {
                records::show(
                    client,
                    &serde_json::json!({ "changed": !changed.is_empty(), "diff": changed }),
                )?;
            } else {
                print!("{changed}");
            }
            match changed.is_empty() {
                true => Ok(()),
                false => {
                    Err(Failure::Failed(format!("{machine}: its config has changed since it was given")))
                }
            }
        }
    }
}

fn path(machine: &str, rest: &str) -> String {
    format!("/api/v1/machines/{}/config{rest}", segment(machine))
}

fn files(view: &Value) -> Result<Vec<File>, Failure> {
    let files = view.get("files").cloned().unwrap_or_default();
    serde_json::from_value(files)
        .map_err(|e| Failure::Failed(format!("the server's answer cannot be read: {e}")))
}

/// With the files that stand in an Ignition config in base64 as files of their own, `config.ign:/etc/hostname`: only so can
/// be read what is in them, and what has changed.
fn opened(files: Vec<File>) -> Vec<File> {
    let mut out = Vec::new();
    for mut file in files {
        let (mut inner, mut tree) = (Vec::new(), serde_json::from_str::<Value>(&file.contents).ok());
        let entries = tree.as_mut().and_then(|tree| tree.pointer_mut("/storage/files")?.as_array_mut());
        for entry in entries.into_iter().flatten() {
            let path = entry.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
            let mode = entry.get("mode").and_then(Value::as_u64).and_then(|mode| mode.try_into().ok());
            let Some(source) = entry.pointer_mut("/contents/source") else { continue };
            let Some(contents) = source.as_str().and_then(text_of) else { continue };
            *source = "data: (below)".into();
            inner.push(File { name: format!("{}:{path}", file.name), contents, mode: mode.unwrap_or(0o644) });
        }
        if let Some(tree) = tree.filter(|_| !inner.is_empty()) {
            file.contents = format!("{tree:#}\n");
        }
        out.push(file);
        out.extend(inner);
    }
    out
}

/// What a data URL holds, if it is base64 of text.
fn text_of(url: &str) -> Option<String> {
    let bytes = STANDARD.decode(url.strip_prefix("data:;base64,")?).ok()?;
    String::from_utf8(bytes).ok()
}

/// As `diff -u` writes it; empty where nothing has changed.
fn diff(old: &[File], new: &[File]) -> String {
    let find = |files: &[File], name: &str| {
        files.iter().find(|f| f.name == name).map(|f| (f.contents.clone(), f.mode))
    };
    let names: BTreeSet<&str> = old.iter().chain(new).map(|f| f.name.as_str()).collect();
    let mut text = String::new();
    for name in names {
        let (before, after) = (find(old, name), find(new, name));
        if before == after {
            continue;
        }
        match (&before, &after) {
            (None, _) => text.push_str(&format!("{name}: new\n")),
            (_, None) => text.push_str(&format!("{name}: gone\n")),
            (Some((_, was)), Some((_, is))) if was != is => {
                text.push_str(&format!("{name}: mode {was:04o}, now {is:04o}\n"));
            }
            _ => {}
        }
        let contents = |side: Option<(String, u32)>| side.map(|(contents, _)| contents).unwrap_or_default();
        let (before, after) = (contents(before), contents(after));
        let diff = TextDiff::from_lines(&before, &after);
        let (from, to) = (format!("applied/{name}"), format!("rendered/{name}"));
        text.push_str(&diff.unified_diff().header(&from, &to).to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, contents: &str) -> File {
        File { name: name.to_owned(), contents: contents.to_owned(), mode: 0o600 }
    }

    #[test]
    fn a_diff_has_what_changed_came_and_went() {
        let old = [file("a", "one\ntwo\n"), file("gone", "x\n"), file("same", "s\n")];
        let new = [file("a", "one\n2\n"), file("new", "y\n"), file("same", "s\n")];
        let text = diff(&old, &new);
        for line in ["--- applied/a", "+++ rendered/a", "-two", "+2", "-x", "+y"] {
            assert!(text.lines().any(|l| l == line), "{line}:\n{text}");
        }
        assert!(!text.contains("same"), "{text}");
        assert_eq!(diff(&old, &old), "");
        let (empty, executable) = (file("e", ""), File { mode: 0o700, ..file("e", "") });
        assert_eq!(diff(&[], std::slice::from_ref(&empty)), "e: new\n");
        assert_eq!(diff(&[empty], &[executable]), "e: mode 0600, now 0700\n");
    }

    #[test]
    fn files_in_an_ignition_config_are_read_as_files() {
        let url = |text: &str| format!("data:;base64,{}", STANDARD.encode(text));
        let config = |text: &str| {
            let entry =
                serde_json::json!({ "path": "/etc/a", "mode": 420, "contents": { "source": url(text) } });
            file("config.ign", &serde_json::json!({ "storage": { "files": [entry] } }).to_string())
        };
        let text = diff(&opened(vec![config("one\ntwo\n")]), &opened(vec![config("one\n2\n")]));
        assert!(text.starts_with("--- applied/config.ign:/etc/a\n"), "{text}");
        assert!(text.contains("-two\n+2\n"), "{text}");
        let other = file("user-data", "#cloud-config\na: data:;base64,eA==\n");
        assert_eq!(opened(vec![other])[0].contents, "#cloud-config\na: data:;base64,eA==\n");
    }
}
