//! PURE. Phase times out of a machine's timeline.

use serde::Serialize;
use serde_json::Value;

/// Seconds from power-on (the BMC's reset was done); what did not happen is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// The first DISCOVER.
    pub dhcp: Option<f64>,
    /// The boot script was served.
    pub script: Option<f64>,
    /// The agent claimed.
    pub agent: Option<f64>,
    /// The image was on the disk, read back.
    pub written: Option<f64>,
    /// The firmware asked again and was sent to its disk.
    pub first_boot: Option<f64>,
    /// The node phoned home.
    pub ready: Option<f64>,
}

impl Seconds {
    /// Of the events as the API gives them, oldest first.
    pub fn of(events: &[Value]) -> Self {
        let power = events.iter().position(|e| is(e, "acted", "network-boot done")).map_or(0, |at| at);
        let Some(zero) = events.get(power).and_then(at) else { return Self::default() };
        let written = events.iter().position(|e| is(e, "step-ended", "write-image done"));
        // A DISCOVER may be heard before the BMC has answered for the reset.
        let since = |event: &Value| seconds(zero, at(event)?);
        let first = |kind: &str, text: &str| events.iter().find(|e| is(e, kind, text)).and_then(since);
        let after_written = events.get(written.unwrap_or(events.len())..).unwrap_or_default();
        Self {
            dhcp: first("heard", "dhcp "),
            script: first("script-served", ""),
            agent: first("claimed", ""),
            written: first("step-ended", "write-image done"),
            first_boot: after_written.iter().find(|e| is(e, "heard", "boots its disk")).and_then(since),
            ready: first("phoned-home", ""),
        }
    }

    /// By name, in order.
    pub fn named(&self) -> [(&'static str, Option<f64>); 6] {
        [
            ("dhcp", self.dhcp),
            ("script", self.script),
            ("agent", self.agent),
            ("written", self.written),
            ("first_boot", self.first_boot),
            ("ready", self.ready),
        ]
    }
}

/// Of `kind`, its text beginning with `text`, and not refused.
fn is(event: &Value, kind: &str, text: &str) -> bool {
    let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    word("kind") == kind && word("text").starts_with(text) && word("verdict") != "refused"
}

fn at(event: &Value) -> Option<i64> {
    event.get("at_ms")?.as_i64()
}

fn seconds(from_ms: i64, to_ms: i64) -> Option<f64> {
    Some(f64::from(i32::try_from(to_ms - from_ms).ok()?.max(0)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_phase_is_its_first_accepted_event_after_power_on() {
        let event = |at_ms: i64, kind: &str, text: &str| json!({"at_ms": at_ms, "kind": kind, "text": text});
        let refused = json!({"at_ms": 6000, "kind": "claimed", "text": "agent claims", "verdict": "refused"});
        let events = [
            event(1, "declared", "declared"),
            event(500, "tried", "network-boot begins"),
            event(1000, "acted", "network-boot done"),
            event(3500, "heard", "dhcp discover from x"),
            event(4000, "script-served", "boot script served: the agent"),
            refused,
            event(7000, "claimed", "agent claims; sees 1 disks"),
            event(9000, "heard", "boots its disk (too early)"),
            event(20_000, "step-ended", "write-image done"),
            event(25_000, "heard", "boots its disk (uuid)"),
            event(31_250, "phoned-home", "node phones home"),
        ];
        let found = Seconds::of(&events);
        assert_eq!(
            found,
            Seconds {
                dhcp: Some(2.5),
                script: Some(3.0),
                agent: Some(6.0),
                written: Some(19.0),
                first_boot: Some(24.0),
                ready: Some(30.25),
            }
        );
        assert_eq!(Seconds::of(&events[..4]).agent, None);
        assert_eq!(Seconds::of(&[]), Seconds::default());
    }
}
