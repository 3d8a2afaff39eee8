//! `image …`: the records, and what the server makes of them.

use super::{
    Output, Records,
    client::{Client, Failure, segment},
    records, table,
};
use clap::Subcommand;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value;
use std::{io::IsTerminal, path::PathBuf, time::Duration};

const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum Images {
    /// Declare an image, and stay until the server has fetched, checked and taken it in.
    #[command(after_help = "Example file:
  name: talos-1-10
  source: {url: https://mirror.example/talos/metal-amd64.raw.zst}
  mirrors: [https://second.example/talos/metal-amd64.raw.zst]
  format: zst
  sha256: 5b1f…

From a registry: source: {oci: registry.example/os/flatcar:stable}; from the server's images folder: source: {file: x.raw}.")]
    Add {
        /// YAML or JSON; `name` in it is the image's.
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
        /// Only declare it; the server goes on by itself.
        #[arg(long)]
        no_wait: bool,
    },
    /// All of them, and how far each is.
    List,
    /// One, as declared and as it stands.
    Show { name: String },
    /// Declare what is in a YAML or JSON file; `-` reads the standard input.
    Apply {
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
    },
    /// Read all chunks of an image again. What is damaged is made again from the original; the exit code is 1 then.
    Verify { name: String },
    /// Remove what no declaration and no running workflow needs.
    Gc {
        /// Say what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget the record; `gc` then removes its bytes. Refused while a profile names it.
    #[command(alias = "remove")]
    Delete { name: String },
}

pub async fn run(client: &Client, what: Images) -> Result<(), Failure> {
    let plain = |what| records::run(client, records::Kind::Image, what);
    match what {
        Images::Add { file, no_wait } => {
            let name = name_in(&file)?;
            records::run(client, records::Kind::Image, Records::Apply { file }).await?;
            if no_wait { Ok(()) } else { wait(client, &name).await }
        }
        Images::Apply { file } => plain(Records::Apply { file }).await,
        Images::List => list(client).await,
        Images::Show { name } => {
            let mut one: Value = client.get(&path(&name, "")).await?;
            let state: Value = client.get(&path(&name, "/state")).await?;
            if let Some(record) = one.as_object_mut() {
                record.insert("state".to_owned(), state);
            }
            records::show(client, &one)
        }
        Images::Verify { name } => verify(client, &name).await,
        Images::Gc { dry_run } => gc(client, dry_run).await,
        Images::Delete { name } => plain(Records::Delete { name, force: false }).await,
    }
}

fn path(name: &str, rest: &str) -> String {
    format!("/api/v1/images/{}{rest}", segment(name))
}

fn name_in(file: &std::path::Path) -> Result<String, Failure> {
    if file == std::path::Path::new("-") {
        let what = "add waits for the image by its name, and so cannot read the standard input; use apply";
        return Err(Failure::Usage(what.to_owned()));
    }
    let record = records::read(file)?;
    let name = record.get("name").and_then(Value::as_str).map(str::to_owned);
    name.ok_or_else(|| Failure::Usage(format!("{}: it has no name", file.display())))
}

async fn list(client: &Client) -> Result<(), Failure> {
    let mut all: Vec<Value> = client.get("/api/v1/images").await?;
    for image in &mut all {
        let name = image.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let state: Value = client.get(&path(&name, "/state")).await?;
        if let Some(record) = image.as_object_mut() {
            record.insert("state".to_owned(), state);
        }
    }
    let columns = [
        ("NAME", "name"),
        ("FORMAT", "format"),
        ("RAW", "state.raw_bytes"),
        ("PACKED", "state.packed_bytes"),
        ("STATE", "state.said"),
    ];
    records::show_list(client, &columns, &all)
}

/// Until it is ready, with a bar for people.
async fn wait(client: &Client, name: &str) -> Result<(), Failure> {
    let bar = bar(client);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let state: Value = client.get(&path(name, "/state")).await?;
        let number = |key| state.get(key).and_then(Value::as_u64);
        let phase = state.get("phase").and_then(Value::as_str).unwrap_or_default();
        match phase {
            "ready" => {
                bar.finish_and_clear();
                return ready(client, name, &state);
            }
            "failed" => {
                bar.finish_and_clear();
                return Err(Failure::Failed(failed(&state)));
            }
            _ => {
                bar.set_message(said(phase).to_owned());
                bar.set_length(number("of").unwrap_or(0));
                bar.set_position(number("done").unwrap_or(0));
            }
        }
    }
}

fn failed(state: &Value) -> String {
    let error = state.get("error").and_then(Value::as_str).unwrap_or("it failed");
    match state.get("next_try_ms").and_then(Value::as_i64) {
        Some(at) => format!("{error}; the server tries again at {}", table::time(at)),
        None => error.to_owned(),
    }
}

fn bar(client: &Client) -> ProgressBar {
    if client.output == Output::Json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let shape = "{spinner} {msg:12} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(shape) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(LOOK_EVERY);
    bar
}

fn said(phase: &str) -> &str {
    match phase {
        "fetching" => "fetching",
        "checking" => "checking",
        "taking-in" => "taking in",
        "waiting" => "waiting",
        _ => "not begun",
    }
}

fn ready(client: &Client, name: &str, state: &Value) -> Result<(), Failure> {
    if client.output == Output::Json {
        return records::show(client, state);
    }
    let bytes = |key| HumanBytes(state.get(key).and_then(Value::as_u64).unwrap_or(0));
    println!("image {name} ready: {} on the disk, {} in chunks", bytes("raw_bytes"), bytes("packed_bytes"));
    if let Some(pinned) = state.get("pinned").and_then(Value::as_str) {
        println!("pinned to {pinned}");
    }
    Ok(())
}

async fn verify(client: &Client, name: &str) -> Result<(), Failure> {
    let answer = client.send(Method::POST, &path(name, "/verify"), None).await?;
    let checked: Value = client.read(answer).await?;
    let damaged = checked.get("damaged").and_then(Value::as_array).map_or(0, Vec::len);
    if client.output == Output::Json {
        records::show(client, &checked)?;
    } else {
        let number = |key| checked.get(key).and_then(Value::as_u64).unwrap_or(0);
        println!("image {name}: {} chunks, {} read", number("chunks"), HumanBytes(number("bytes")));
    }
    if damaged > 0 {
        let what = format!(
            "image {name}: {damaged} chunk(s) were damaged and were made again; look at the server's disk"
        );
        return Err(Failure::Failed(what));
    }
    Ok(())
}

async fn gc(client: &Client, dry_run: bool) -> Result<(), Failure> {
    let query = format!("/api/v1/images-gc?dry_run={dry_run}");
    let answer = client.send(Method::POST, &query, None).await?;
    let removed: Value = client.read(answer).await?;
    if client.output == Output::Json {
        return records::show(client, &removed);
    }
    let number = |key| removed.get(key).and_then(Value::as_u64).unwrap_or(0);
    let row = ["manifests", "chunks", "files"].map(|key| number(key).to_string());
    let row = row.into_iter().chain([HumanBytes(number("bytes")).to_string()]).collect();
    table::print(&["MANIFESTS", "CHUNKS", "FETCHED FILES", "BYTES"], &[row]);
    println!("{}", if dry_run { "would be removed" } else { "removed" });
    Ok(())
}
