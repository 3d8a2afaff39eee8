//! perfdhcp, Kea's own load generator. With DHCPv4 it plays a relay: its packets have a `giaddr`, and answers come to that
//! address by unicast.

use super::super::place::{Place, RELAY, SERVER};
use anyhow::{Context, Result};
use provisioner_lab::process;

/// One run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Share of the packets that got no answer, 0 to 1.
    pub lost: f64,
    /// Four-packet exchanges. Its own figure of them a second counts the seconds it waits at the end, too.
    pub completed: f64,
}

/// `seconds` at `rate` exchanges a second, of `clients` different clients.
pub fn run(place: &Place, rate: u32, seconds: u32, clients: u32) -> Result<Trial> {
    let mut command = place.for_clients("perfdhcp");
    command.args(["-4", "-l", &RELAY.to_string(), "-b", "mac=52:55:00:00:00:00"]);
    command.args(["-r", &rate.to_string(), "-R", &clients.to_string()]);
    command.args(["-p", &seconds.to_string(), "-W", "500000", "-s", "1"]).arg(SERVER.to_string());
    // It ends with 3 where packets were lost: its figures count, not its end.
    let done =
        command.output().with_context(|| format!("{}: package kea-admin?", process::words(&command)))?;
    let text = String::from_utf8_lossy(&done.stdout);
    parse(&text).with_context(|| format!("{}: no figures in\n{text}", process::words(&command)))
}

fn parse(text: &str) -> Option<Trial> {
    let number = |after: &str, name: &str| -> Option<f64> {
        let rest = text.split(after).nth(1)?;
        let line = rest.lines().find_map(|l| l.trim().strip_prefix(name))?;
        line.trim_start_matches([':', ' ']).split_whitespace().next()?.parse().ok()
    };
    let (offers, acks) = ("DISCOVER-OFFER", "REQUEST-ACK");
    let (sent, drops) = (number(offers, "sent packets")?, number(offers, "drops:")?);
    let lost = (drops + number(acks, "drops:")?) / sent.max(1.0);
    Some(Trial { lost, completed: number(acks, "received packets")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_report_is_read() {
        let text = "Running: perfdhcp\nRate: 992.9 4-way exchanges/second, expected rate: 1000\n\n\
            ***Statistics for: DISCOVER-OFFER***\nsent packets: 2000\nreceived packets: 1990\ndrops: 10\n\n\
            ***Statistics for: REQUEST-ACK***\nsent packets: 1990\nreceived packets: 1980\ndrops: 10\n";
        assert_eq!(parse(text), Some(Trial { lost: 0.01, completed: 1980.0 }));
        assert_eq!(parse("nothing"), None);
    }
}
