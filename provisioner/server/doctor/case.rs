//! What the rules look at, and the questions that several of them ask.

use super::sign::{Answer, Boots, End, Fetch, Foreign, Outcome, Packet, Platform, Sign, Transfer};
use crate::machine::Time;
use provisioner_wire::machine::Phase;
use std::time::Duration;

/// One sign and when it was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: Time,
    pub sign: Sign,
}

/// The machine as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub name: String,
    pub phase: Phase,
    pub reason: String,
    pub since: Time,
    /// A workflow has it.
    pub busy: bool,
    pub bmc: bool,
    /// What its agent last saw.
    pub secure_boot: Option<bool>,
}

/// Everything known of one machine, or of one MAC that nobody declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub now: Time,
    /// In the order they were heard.
    pub entries: Vec<Entry>,
    pub machine: Option<State>,
    /// Unknown machines boot the agent.
    pub discovery: bool,
    /// Servers that are heard on the network now and are not allowed: addresses, for a person.
    pub foreign: Vec<String>,
}

impl Case {
    pub fn since(&self, at: Time) -> Duration {
        self.now.since(at)
    }

    /// Newest first.
    pub fn back(&self) -> impl Iterator<Item = (Time, &Sign)> {
        self.entries.iter().rev().map(|e| (e.at, &e.sign))
    }

    /// Oldest first, after `at`.
    pub fn after(&self, at: Time) -> impl Iterator<Item = (Time, &Sign)> {
        self.entries.iter().filter(move |e| e.at > at).map(|e| (e.at, &e.sign))
    }

    /// When the machine last showed that it had got through the boot plane: it was given its script, or its agent spoke.
    pub fn through(&self) -> Option<Time> {
        self.back().find(|(_, s)| matches!(s, Sign::Script { .. } | Sign::Agent { .. })).map(|(at, _)| at)
    }

    /// Signs since it last got through, newest first: what a machine that is stuck in the boot plane is stuck in.
    pub fn stuck_in(&self) -> impl Iterator<Item = (Time, &Sign)> {
        self.back().take_while(|(_, s)| !matches!(s, Sign::Script { .. } | Sign::Agent { .. }))
    }

    /// Packets of what boots from the network, since it last got through, newest first.
    pub fn packets(&self) -> impl Iterator<Item = (Time, &Packet)> {
        self.stuck_in().filter_map(|(at, sign)| match sign {
            Sign::Dhcp(packet) if packet.boots() => Some((at, packet.as_ref())),
            _ => None,
        })
    }

    pub fn transfers(&self) -> impl Iterator<Item = (Time, &Transfer)> {
        self.stuck_in().filter_map(|(at, sign)| match sign {
            Sign::Transfer(transfer) => Some((at, transfer)),
            _ => None,
        })
    }

    pub fn fetches(&self) -> impl Iterator<Item = (Time, &Fetch)> {
        self.stuck_in().filter_map(|(at, sign)| match sign {
            Sign::Fetch(fetch) => Some((at, fetch)),
            _ => None,
        })
    }

    pub fn foreign_answers(&self) -> impl Iterator<Item = (Time, &Foreign)> {
        self.stuck_in().filter_map(|(at, sign)| match sign {
            Sign::Foreign(foreign) => Some((at, foreign)),
            _ => None,
        })
    }

    /// The platform that the firmware last said it has.
    pub fn platform(&self) -> Option<Platform> {
        self.back().find_map(|(_, sign)| match sign {
            Sign::Dhcp(packet) if packet.is_firmware() => packet.platform,
            _ => None,
        })
    }

    /// The boot program that was last fetched whole, by either way: when, its name, and what it is made for.
    pub fn fetched_program(&self) -> Option<(Time, &str, Platform)> {
        self.stuck_in().find_map(|(at, sign)| match sign {
            Sign::Transfer(Transfer { file, made_for: Some(kind), end: End::Complete, .. }) => {
                Some((at, file.as_str(), *kind))
            }
            Sign::Fetch(Fetch { method, path, made_for: Some(kind), status: 200, whole: true, .. })
                if method == "GET" =>
            {
                Some((at, path.as_str(), *kind))
            }
            _ => None,
        })
    }

    /// The power-on to boot from the network that the BMC last answered for.
    pub fn powered_on(&self) -> Option<Time> {
        self.back().find_map(|(at, sign)| match sign {
            Sign::Bmc { what, outcome: Outcome::Done } if what == "network-boot" => Some(at),
            _ => None,
        })
    }

    /// The agent's script is the last that was heard of the boot plane.
    pub fn agent_script(&self) -> Option<Time> {
        self.back().find_map(|(at, sign)| match sign {
            Sign::Script { boots: Boots::Agent } => Some(Some(at)),
            Sign::Script { .. } | Sign::Agent { .. } => Some(None),
            _ => None,
        })?
    }

    /// What machine this is, for a sentence.
    pub fn who(&self) -> &str {
        self.machine.as_ref().map_or("it", |m| m.name.as_str())
    }
}

/// The address that an answer gives.
pub fn given(answer: &Answer) -> Option<std::net::IpAddr> {
    match answer {
        Answer::Offer { ip, .. } | Answer::Ack { ip, .. } => *ip,
        _ => None,
    }
}
