//! `machine|profile|image list|show|apply|delete`.

use super::{
    Output, Records,
    client::{Client, Failure, segment},
    table,
};
use reqwest::Method;
use serde_json::Value;
use std::{io::Read, path::Path};

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Machine,
    Profile,
    Image,
    Cluster,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Profile => "profile",
            Self::Image => "image",
            Self::Cluster => "cluster",
        }
    }

    /// Headings, and the path of each column's value.
    fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Machine => &[
                ("NAME", "name"),
                ("PHASE", "phase"),
                ("PROFILE", "profile"),
                ("WORKFLOW", "workflow"),
                ("MACS", "macs"),
                ("REASON", "reason"),
            ],
            Self::Profile => &[("NAME", "name"), ("OS", "os"), ("IMAGE", "image"), ("ROLE", "role")],
            Self::Image => &[("NAME", "name"), ("FORMAT", "format"), ("SHA256", "sha256")],
            Self::Cluster => &[("NAME", "name"), ("ENDPOINT", "endpoint"), ("VERSION", "kubernetes_version")],
        }
    }
}

pub async fn run(client: &Client, kind: Kind, what: Records) -> Result<(), Failure> {
    let path = |name: &str| format!("/api/v1/{}s/{}", kind.word(), segment(name));
    match what {
        Records::List => {
            let all: Vec<Value> = client.get(&format!("/api/v1/{}s", kind.word())).await?;
            show_list(client, kind.columns(), &all)
        }
        Records::Show { name } => {
            let one: Value = client.get(&path(&name)).await?;
            show(client, &one)
        }
        Records::Apply { file } => {
            let record = read(&file)?;
            let name = record.get("name").and_then(Value::as_str);
            let name = name.ok_or_else(|| Failure::Usage(format!("{}: it has no name", file.display())))?;
            client.send(Method::PUT, &path(name), Some(&record)).await?;
            said(client, kind.word(), name, "declared")
        }
        Records::Delete { name, force } => {
            let query = if force { "?force=true" } else { "" };
            client.send(Method::DELETE, &format!("{}{query}", path(&name)), None).await?;
            said(client, kind.word(), &name, "deleted")
        }
    }
}

fn said(client: &Client, kind: &str, name: &str, what: &str) -> Result<(), Failure> {
    match client.output {
        Output::Table => println!("{kind} {name} {what}"),
        Output::Json => println!("{}", serde_json::json!({ "kind": kind, "name": name, "done": what })),
    }
    Ok(())
}

pub fn show_list(client: &Client, columns: &[(&str, &str)], all: &[Value]) -> Result<(), Failure> {
    if client.output == Output::Json {
        return json(&Value::Array(all.to_vec()));
    }
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let row = |one: &Value| columns.iter().map(|(_, path)| table::cell(one, path)).collect();
    table::print(&headings, &all.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

/// One record: YAML for people.
pub fn show(client: &Client, one: &Value) -> Result<(), Failure> {
    if client.output == Output::Json {
        return json(one);
    }
    let text =
        serde_saphyr::to_string(one).map_err(|e| Failure::Failed(format!("cannot be written: {e}")))?;
    print!("{text}");
    Ok(())
}

fn json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Failed(e.to_string()))?;
    println!("{text}");
    Ok(())
}

/// A YAML or JSON file as a JSON value. JSON is YAML, so one reader reads both.
pub fn read(file: &Path) -> Result<Value, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::Usage(format!("{}: {e}", file.display()));
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|e| wrong(&e))?;
        text
    } else {
        std::fs::read_to_string(file).map_err(|e| wrong(&e))?
    };
    serde_saphyr::from_str(&text).map_err(|e| wrong(&e))
}
