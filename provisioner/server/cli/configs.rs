//! `config render|diff`: what a machine is given, without its secrets.

use super::{
    Output,
    client::{Client, Failure, segment},
    records,
};
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
            for file in files(&now)? {
                println!("# {} (mode {:04o})", file.name, file.mode);
                print!("{}", file.contents);
                println!();
            }
            Ok(())
        }
        Configs::Diff { machine } => {
            let (old, new): (Value, Value) =
                (client.get(&path(&machine, "/applied")).await?, client.get(&path(&machine, "")).await?);
            let changed = diff(&files(&old)?, &files(&new)?);
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

/// As `diff -u` writes it; empty where nothing has changed.
fn diff(old: &[File], new: &[File]) -> String {
    let contents = |files: &[File], name: &str| {
        files.iter().find(|f| f.name == name).map(|f| f.contents.clone()).unwrap_or_default()
    };
    let names: BTreeSet<&str> = old.iter().chain(new).map(|f| f.name.as_str()).collect();
    let mut text = String::new();
    for name in names {
        let (before, after) = (contents(old, name), contents(new, name));
        if before != after {
            let diff = TextDiff::from_lines(&before, &after);
            let (from, to) = (format!("applied/{name}"), format!("rendered/{name}"));
            text.push_str(&diff.unified_diff().header(&from, &to).to_string());
        }
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
    }
}
