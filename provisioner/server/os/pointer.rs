//! A file on the written disk that holds no secret but the way to one: it sends the operating system on to the one-shot
//! URL of its config.

use super::context::instance_id;
use crate::inventory::{Hardware, OperatingSystem, Profile};
use provisioner_wire::{
    Generation,
    order::{Config, ConfigFile},
};
use serde_json::json;

/// What the URL of one config is made of.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// `https://…/config/MACHINE/CAPABILITY`, without a slash at the end.
    pub base: &'a str,
    /// The authority that the node must trust to reach it; none by plain HTTP.
    pub ca_pem: Option<&'a str>,
}

impl std::fmt::Debug for Way<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Way(…)")
    }
}

/// Under this name a URL gives out a config that is one file, whatever the template calls it.
pub const WHOLE: &str = "config";

/// Whether what is rendered can be had by the URL in the way that the operating system asks for it.
pub fn fetchable(profile: &Profile, config: &Config) -> Result<(), String> {
    if profile.by_url().is_none() || profile.os == OperatingSystem::CloudInit || config.files.len() == 1 {
        return Ok(());
    }
    let names: Vec<&str> = config.files.iter().map(|file| file.name.as_str()).collect();
    Err(format!(
        "{:?} fetches one file from a URL, and the template {} makes {}",
        profile.os,
        profile.template,
        names.join(", ")
    ))
}

/// The files for the agent to place; an error for an operating system that reads none.
pub fn pointer(
    os: OperatingSystem,
    way: Way<'_>,
    hardware: &Hardware,
    generation: Generation,
) -> Result<Config, String> {
    let file = |name: &str, contents: String| ConfigFile { name: name.to_owned(), contents, mode: 0o600 };
    let files = match os {
        OperatingSystem::CloudInit => {
            // Its instance id is here, too: cloud-init then knows at later boots that nothing is new, and does not ask the
            // URL again. JSON is YAML, and quotes whatever stands in a value.
            let meta = json!({
                "instance-id": instance_id(hardware, generation),
                "seedfrom": format!("{}/", way.base),
            });
            vec![file("meta-data", format!("{meta}\n")), file("user-data", "#cloud-config\n{}\n".to_owned())]
        }
        OperatingSystem::Flatcar | OperatingSystem::FedoraCoreos => {
            vec![file("config.ign", format!("{}\n", ignition(way)))]
        }
        other => return Err(format!("{other:?} reads no file that leads to a URL")),
    };
    Ok(Config { files })
}

/// A config that is replaced by what the URL gives, as a JSON of Ignition 3.0.
fn ignition(way: Way<'_>) -> serde_json::Value {
    let mut ignition = json!({
        "version": "3.0.0",
        "config": { "replace": { "source": format!("{}/{WHOLE}", way.base) } },
    });
    if let (Some(pem), Some(object)) = (way.ca_pem, ignition.as_object_mut()) {
        let source = format!("data:,{}", percent(pem));
        let authorities = json!({ "tls": { "certificateAuthorities": [{ "source": source }] } });
        object.insert("security".to_owned(), authorities);
    }
    json!({ "ignition": ignition })
}

/// For a `data:` URL (RFC 2397): all but the unreserved characters of RFC 3986.
fn percent(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len() * 2), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardware() -> Hardware {
        serde_json::from_value(json!({ "name": "node-1", "nics": [{ "mac": "52:54:00:00:00:01" }] })).unwrap()
    }

    #[test]
    fn cloud_init_is_sent_on_and_knows_its_instance() {
        let way = Way { base: "https://10.0.0.1:8443/config/node-1/00ff", ca_pem: None };
        let config = pointer(OperatingSystem::CloudInit, way, &hardware(), Generation(3)).unwrap();
        crate::os::validate(OperatingSystem::CloudInit, &config).unwrap();
        let meta: serde_json::Value = serde_json::from_str(&config.files[0].contents).unwrap();
        assert_eq!(meta["instance-id"], "node-1-3");
        assert_eq!(meta["seedfrom"], "https://10.0.0.1:8443/config/node-1/00ff/");
    }

    #[test]
    fn ignition_is_sent_on_and_trusts_the_site() {
        let way = Way { base: "https://h/config/n/c", ca_pem: Some("-----BEGIN A+/=\n") };
        let config = pointer(OperatingSystem::FedoraCoreos, way, &hardware(), Generation(1)).unwrap();
        let text: serde_json::Value = serde_json::from_str(&config.files[0].contents).unwrap();
        assert_eq!(text["ignition"]["config"]["replace"]["source"], "https://h/config/n/c/config");
        let authority = &text["ignition"]["security"]["tls"]["certificateAuthorities"][0]["source"];
        assert_eq!(authority, "data:,-----BEGIN%20A%2B%2F%3D%0A");
        let refused = pointer(OperatingSystem::Talos, way, &hardware(), Generation(1)).unwrap_err();
        assert!(refused.contains("Talos"), "{refused}");
    }
}
