//! From a machine, its profile and a token to the files of its config, valid for its operating system.
//!
//! One file an operating system: its validator, with the place and the system's own words in each error. [`preflight`]
//! does all of it with a token that opens nothing, before any power change.

mod bottlerocket;
mod bottlerocket_settings;
mod butane;
mod cloud_init;
mod context;
mod document;
mod ignition;
mod kairos;
mod lint;
mod near;
mod net_toml;
pub mod netboot;
mod netdog;
mod netdog_bond;
mod network;
pub mod pointer;
mod shown;
pub mod talos;
mod templates;

pub use crate::inventory::KernelArgument;
pub use context::{Run, Site};
pub use shown::redact;
pub use templates::{ReadError, read_templates};

use crate::{
    inventory::{Cluster, Hardware, IssuerKind, OperatingSystem, Problem, Profile, unfit},
    render::{Rendered, Templates},
    token::{Grant, k3s, talos as talos_secrets},
};
use provisioner_wire::{
    Generation,
    order::{Config, ConfigFile},
};
use std::collections::BTreeSet;

/// Renders and validates the config of one machine in one generation. Errors hold no secret.
pub fn config<'a>(
    templates: &Templates,
    profile: &'a Profile,
    hardware: &'a Hardware,
    run: impl Into<Run<'a>>,
    site: &'a Site,
    cluster: Option<&'a Cluster>,
    grant: &'a Grant,
) -> Result<Config, Vec<Problem>> {
    fits(profile, hardware)?;
    let context = context::Context::new(profile, hardware, run.into(), site, cluster, grant);
    let files = templates
        .render(profile.template.as_str(), &context, &grant.secrets())
        .map_err(|error| vec![Problem::new(format!("{}:{}", error.template, error.line), error.message)])?;
    let json: BTreeSet<String> = files.iter().filter(|f| f.is_json()).map(|f| f.name.clone()).collect();
    let mut config = Config { files: files.into_iter().map(file).collect() };
    document::check_json(&config, |file| json.contains(&file.name))
        .and_then(|()| finish(profile, hardware, &mut config))
        .and_then(|()| validate(profile.os, &config))
        .and_then(|()| linted(profile, hardware, &config))
        .map_err(|problems| redacted(problems, grant))?;
    Ok(config)
}

/// The machine's `network` is one that the operating system can have. A machine may be given another profile than its
/// record names, so the inventory's own check is not enough.
fn fits(profile: &Profile, hardware: &Hardware) -> Result<(), Vec<Problem>> {
    let unfit = hardware.network.iter().flat_map(|network| unfit(network, profile.os));
    let place = |pointer: String| format!("{}: /network{pointer}", hardware.name);
    let problems: Vec<_> = unfit.map(|(pointer, message)| Problem::new(place(pointer), message)).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// [`config`] with a dummy token, which opens nothing: what runs before any power change.
pub fn preflight(
    templates: &Templates,
    profile: &Profile,
    hardware: &Hardware,
    site: &Site,
    cluster: Option<&Cluster>,
) -> Result<Config, Vec<Problem>> {
    config(templates, profile, hardware, Generation(0), site, cluster, &dummy(profile))
}

/// A grant that opens nothing, with the names that this profile's issuer gives.
pub fn dummy(profile: &Profile) -> Grant {
    let control_plane = profile.is_control_plane();
    let names = match profile.token.issuer {
        IssuerKind::Talos if control_plane => [talos_secrets::WORKER, talos_secrets::CONTROL_PLANE].concat(),
        IssuerKind::Talos => talos_secrets::WORKER.to_vec(),
        IssuerKind::K3s | IssuerKind::Rke2 => k3s::NAMES.to_vec(),
        IssuerKind::Builtin | IssuerKind::Kubernetes | IssuerKind::Webhook => Vec::new(),
    };
    Grant::dummy(&names)
}

/// From what an operator writes to what the operating system reads: Talos' patches, Butane's YAML.
fn finish(profile: &Profile, hardware: &Hardware, config: &mut Config) -> Result<(), Vec<Problem>> {
    match profile.os {
        OperatingSystem::Talos => talos::patched(config, profile, &hardware.values),
        OperatingSystem::Flatcar | OperatingSystem::FedoraCoreos => ignition::transpiled(profile.os, config),
        _ => Ok(()),
    }
}

fn linted(profile: &Profile, hardware: &Hardware, config: &Config) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    lint::lint(profile, hardware, config, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Whether `os` will take these files. The place of a problem is `FILE:LINE:COLUMN` in the rendered file.
pub fn validate(os: OperatingSystem, config: &Config) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    for file in &config.files {
        if file.name.is_empty() || file.name.starts_with('.') || file.name.contains(['/', '\0']) {
            problems.push(Problem::new(file.name.clone(), "not a file name"));
        }
    }
    match os {
        OperatingSystem::CloudInit => cloud_init::validate(config, &mut problems),
        OperatingSystem::Talos => talos::validate(config, &mut problems),
        OperatingSystem::Flatcar | OperatingSystem::FedoraCoreos => {
            ignition::validate(os, config, &mut problems)
        }
        OperatingSystem::Bottlerocket => bottlerocket::validate(config, &mut problems),
        OperatingSystem::Kairos => kairos::validate(config, &mut problems),
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn file(rendered: Rendered) -> ConfigFile {
    ConfigFile { name: rendered.name, contents: rendered.contents, mode: rendered.mode }
}

fn redacted(problems: Vec<Problem>, grant: &Grant) -> Vec<Problem> {
    let secrets = grant.secrets();
    let hide = |text: String| secrets.iter().fold(text, |text, secret| text.replace(secret, "…"));
    let redact = |p: Problem| Problem::new(p.place, hide(p.message));
    problems.into_iter().map(redact).collect()
}
