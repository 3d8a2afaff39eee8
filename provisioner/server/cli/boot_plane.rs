//! `boot-plane`: what was heard, counted, and other DHCP servers.

use super::{
    Output,
    client::{Client, Failure},
    records, table,
};
use serde_json::Value;

const COUNTS: [(&str, &str); 7] = [
    ("packets", "DHCP"),
    ("malformed", "malformed"),
    ("unanswered", "not answered"),
    ("transfers", "TFTP"),
    ("fetches", "HTTP"),
    ("unkept", "in no timeline"),
    ("images", "images"),
];

pub async fn run(client: &Client) -> Result<(), Failure> {
    let one: Value = client.get("/api/v1/boot-plane").await?;
    if client.output == Output::Json {
        return records::show(client, &one);
    }
    let mut rows = Vec::new();
    for (key, what) in COUNTS {
        let counts = one.pointer(&format!("/counts/{key}")).and_then(Value::as_object);
        for (why, count) in counts.into_iter().flatten() {
            let why = provisioner_wire::report::clean(why);
            rows.push(vec![what.to_owned(), why, count.to_string()]);
        }
    }
    table::print(&["WHAT", "WHICH", "COUNT"], &rows);
    let servers = one.get("foreign").and_then(Value::as_array).cloned().unwrap_or_default();
    if servers.is_empty() {
        println!("\nno other DHCP server was heard");
        return Ok(());
    }
    println!();
    let time =
        |server: &Value| table::time(server.get("last_ms").and_then(Value::as_i64).unwrap_or_default());
    let row = |server: &Value| {
        let mut cells: Vec<String> = ["ip", "mac", "kind", "boot_file", "heard_by", "times", "blocks"]
            .map(|key| table::cell(server, key))
            .into();
        cells.push(time(server));
        cells
    };
    table::print(
        &["SERVER", "MAC", "KIND", "BOOT FILE", "HEARD BY", "TIMES", "BLOCKS WIPES", "LAST"],
        &servers.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(())
}
