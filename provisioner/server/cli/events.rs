//! `events`: a machine's timeline, and what happens from now on.

use super::{
    Output,
    client::{Client, Failure, segment},
    table,
};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// Between a lost stream and the next try.
const AGAIN: Duration = Duration::from_secs(2);

pub async fn run(client: &Client, machine: Option<&str>, follow: bool) -> Result<(), Failure> {
    if machine.is_none() && !follow {
        return Err(Failure::Usage("name a machine, or --follow them all".to_owned()));
    }
    let mut after = None;
    if let Some(name) = machine {
        let mut seq = 0;
        loop {
            let path = format!("/api/v1/machines/{}/events?after={seq}&limit=1000", segment(name));
            let page: Vec<Value> = client.get(&path).await?;
            let Some(last) = page.last().and_then(|e| e.get("seq")?.as_i64()) else { break };
            page.iter().for_each(|event| print(client, event));
            seq = last;
        }
        after = Some(seq);
    }
    if follow { follow_on(client, machine, after).await } else { Ok(()) }
}

/// Shows the stream; where it breaks, goes on from the last event.
async fn follow_on(client: &Client, machine: Option<&str>, mut after: Option<i64>) -> Result<(), Failure> {
    let query = machine.map(|m| format!("?machine={}", segment(m))).unwrap_or_default();
    loop {
        let mut request = client.request(Method::GET, &format!("/api/v1/events{query}"));
        if let Some(seq) = after {
            request = request.header("last-event-id", seq.to_string());
        }
        let response = match request.send().await {
            Ok(response) if response.status().is_success() => response,
            Ok(refused) => return Err(client.refusal(refused).await),
            // The first try tells that there is no server; a later one waits for it.
            Err(error) if after.is_none() => return Err(client.unreachable(&error)),
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let mut body = response.bytes_stream();
        let mut lines = Lines::default();
        while let Some(Ok(bytes)) = body.next().await {
            for (event, data) in lines.take(&bytes) {
                match event.as_str() {
                    "timeline" => {
                        after = data.get("seq").and_then(Value::as_i64).or(after);
                        print(client, &data);
                    }
                    "resync" => eprintln!("events were missed: look at the machines anew"),
                    _ => {}
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn print(client: &Client, event: &Value) {
    if client.output == Output::Json {
        println!("{event}");
        return;
    }
    let at = table::time(event.get("at_ms").and_then(Value::as_i64).unwrap_or_default());
    let (machine, text) = (table::cell(event, "machine"), table::cell(event, "text"));
    match table::cell(event, "refusal").as_str() {
        "-" => println!("{at} {machine}: {text}"),
        refusal => println!("{at} {machine}: {text} (refused: {refusal})"),
    }
}

/// Cuts a server-sent stream into events (WHATWG HTML §9.2.6, as far as our server uses it).
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    event: String,
    data: String,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<(String, Value)> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                if let Ok(value) = serde_json::from_str(&self.data) {
                    events.push((std::mem::take(&mut self.event), value));
                }
                self.data.clear();
            } else if let Some(event) = line.strip_prefix("event:") {
                event.trim().clone_into(&mut self.event);
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.trim_start());
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_wherever_the_network_cuts_it() {
        let text = ": keep-alive\n\nevent: timeline\nid: 7\ndata: {\"seq\":7}\n\nevent: resync\ndata: {}\n\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let events: Vec<_> = text.as_bytes().chunks(size).flat_map(|c| lines.take(c)).collect();
            let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["timeline", "resync"], "{size}");
            assert_eq!(events[0].1["seq"], 7);
        }
    }
}
