//! `explain`: a machine's timeline, and why it is stuck.

use super::{
    Output,
    client::{Client, Failure, segment},
    records, table,
};
use serde_json::Value;

pub async fn run(client: &Client, subject: &str) -> Result<(), Failure> {
    let one: Value = client.get(&format!("/api/v1/explain/{}", segment(subject))).await?;
    if client.output == Output::Json {
        return records::show(client, &one);
    }
    print!("{}", text(&one));
    Ok(())
}

/// The timeline, then the causes: what an operator reads last stands last.
fn text(one: &Value) -> String {
    let list = |key: &str| one.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(words.trim_end());
        text.push('\n');
    };
    for entry in list("timeline") {
        let at = table::time(entry.get("at_ms").and_then(Value::as_i64).unwrap_or_default());
        line(format!("{at}  {:<8}  {}", table::cell(&entry, "kind"), table::cell(&entry, "text")));
    }
    line(String::new());
    let who = match table::cell(one, "machine").as_str() {
        "-" => format!("{}: no machine has this MAC", table::cell(one, "macs")),
        name => {
            format!(
                "{name} ({}): {}: {}",
                table::cell(one, "macs"),
                table::cell(one, "phase"),
                table::cell(one, "reason")
            )
        }
    };
    line(who);
    if one.get("waits_for").is_some_and(Value::is_string) {
        line(format!("waits for {}", whole(one, "waits_for")));
    }
    for server in list("foreign") {
        line(format!(
            "another DHCP server is on the network: {} (MAC {}, boot file {})",
            table::cell(&server, "ip"),
            table::cell(&server, "mac"),
            table::cell(&server, "boot_file")
        ));
    }
    let findings = list("findings");
    if findings.is_empty() {
        line("nothing wrong was found".to_owned());
    }
    for finding in findings {
        line(String::new());
        line(format!("CAUSE ({}): {}", table::cell(&finding, "rule"), whole(&finding, "cause")));
        line(format!("DO: {}", whole(&finding, "todo")));
    }
    text
}

/// Sentences are longer than a cell.
fn whole(value: &Value, key: &str) -> String {
    provisioner_wire::report::clean_to(value.get(key).and_then(Value::as_str).unwrap_or("-"), 2000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_stands_last() {
        let one = serde_json::json!({
            "machine": "node-1", "macs": ["52:54:00:00:00:01"], "phase": "powering", "reason": "powered on",
            "timeline": [{ "at_ms": 0, "kind": "dhcp", "text": "discover from x\u{1b}[2J" }],
            "findings": [{ "rule": "no-request", "cause": "it was offered 10.88.0.11", "todo": "look" }],
            "foreign": [], "waits_for": null,
        });
        assert_eq!(
            text(&one),
            "1970-01-01T00:00:00Z  dhcp      discover from x[2J\n\nnode-1 (52:54:00:00:00:01): powering: powered on\n\n\
             CAUSE (no-request): it was offered 10.88.0.11\nDO: look\n"
        );
        let waits = serde_json::json!({
            "machine": "node-1", "macs": ["x"], "phase": "assigned", "reason": "asked", "timeline": [], "findings": [],
            "waits_for": "image debian: fetching, 34 %, 12 MB/s, about 3 min",
        });
        let expected = "\nnode-1 (x): assigned: asked\nwaits for image debian: fetching, 34 %, 12 MB/s, about 3 min\n\
                        nothing wrong was found\n";
        assert_eq!(text(&waits), expected);
        let well = serde_json::json!({ "macs": ["52:54:00:00:00:01"], "timeline": [], "findings": [] });
        assert_eq!(text(&well), "\n52:54:00:00:00:01: no machine has this MAC\nnothing wrong was found\n");
    }
}
