//! `what-if`: the answers that a machine would get, its boot script, its config.

use super::{
    Output, capture,
    client::{Client, Failure},
    records, table,
};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Asked {
    /// The machine's MAC; left out with --pcap.
    #[arg(required_unless_present = "pcap", conflicts_with = "pcap")]
    mac: Option<String>,
    /// What asks: bios, uefi, uefi-http, ipxe or system.
    #[arg(long, default_value = "uefi", conflicts_with = "pcap")]
    firmware: String,
    /// x86_64, i386, arm64, arm, riscv64, loongarch64, or the number of option 93.
    #[arg(long, default_value = "x86_64", conflicts_with = "pcap")]
    arch: String,
    /// The relay that it comes through.
    #[arg(long, value_name = "ADDRESS")]
    relay: Option<String>,
    /// The subnet that the relay selects.
    #[arg(long, value_name = "ADDRESS")]
    subnet: Option<String>,
    /// Take the packets to port 67 and 4011 of a capture (pcap or pcapng, Ethernet).
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Also the bytes of every packet and option, in hexadecimal.
    #[arg(long)]
    bytes: bool,
}

pub async fn run(client: &Client, asked: Asked) -> Result<(), Failure> {
    let mut question = json!({ "relay": asked.relay, "subnet": asked.subnet });
    let put = |question: &mut Value, key: &str, value: Value| {
        if let Some(object) = question.as_object_mut() {
            object.insert(key.to_owned(), value);
        }
    };
    match &asked.pcap {
        Some(file) => {
            let packets = capture::requests(file).map_err(Failure::Usage)?;
            put(&mut question, "packets", json!(packets));
        }
        None => {
            put(&mut question, "mac", json!(asked.mac));
            put(&mut question, "firmware", json!(asked.firmware));
            put(&mut question, "arch", json!(asked.arch));
        }
    }
    let response = client.send(Method::POST, "/api/v1/what-if", Some(&question)).await?;
    let answer: Value = client.read(response).await?;
    if client.output == Output::Json {
        return records::show(client, &answer);
    }
    for exchange in answer.get("exchanges").and_then(Value::as_array).into_iter().flatten() {
        exchange_shown(exchange, asked.bytes);
    }
    for machine in answer.get("machines").and_then(Value::as_array).into_iter().flatten() {
        machine_shown(machine);
    }
    Ok(())
}

fn exchange_shown(exchange: &Value, bytes: bool) {
    println!("{}: {}", table::cell(exchange, "asked"), long(exchange, "said"));
    if bytes {
        println!("  asked  {}", long(exchange, "request_bytes"));
    }
    if let Some(to) = exchange.get("to").and_then(Value::as_str) {
        println!("  sent to {to}");
    }
    for field in exchange.get("fields").and_then(Value::as_array).into_iter().flatten() {
        let name = format!("{} {}", table::cell(field, "code"), table::cell(field, "name"));
        println!("  {name:<28}  {}", long(field, "value"));
        if bytes {
            println!("  {:<28}  {}", "", long(field, "bytes"));
        }
    }
    if bytes && exchange.get("answer_bytes").is_some_and(Value::is_string) {
        println!("  answer {}", long(exchange, "answer_bytes"));
    }
    println!();
}

fn machine_shown(machine: &Value) {
    let name = match table::cell(machine, "machine").as_str() {
        "-" => "no machine has this MAC".to_owned(),
        name => name.to_owned(),
    };
    println!("{} ({name}): its boot script", table::cell(machine, "mac"));
    block(machine.get("script").and_then(Value::as_str).unwrap_or_default());
    for file in machine.get("config").and_then(Value::as_array).into_iter().flatten() {
        println!("{}", table::cell(file, "name"));
        block(file.get("contents").and_then(Value::as_str).unwrap_or_default());
    }
    if let Some(why) = machine.get("config_refused").and_then(Value::as_str) {
        println!("no config: {}", provisioner_wire::report::clean_to(why, 2000));
    }
}

fn block(text: &str) {
    for line in text.lines() {
        println!("  {}", provisioner_wire::report::clean_to(&line.replace('\t', "    "), 2000).trim_end());
    }
    println!();
}

fn long(value: &Value, key: &str) -> String {
    provisioner_wire::report::clean_to(value.get(key).and_then(Value::as_str).unwrap_or("-"), 10_000)
}
