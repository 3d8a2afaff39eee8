//! Bottlerocket on metal: `user-data.toml` (settings) and `net.toml` (read by netdog, see [`super::netdog`]).

use super::netdog;
use crate::inventory::Problem;
use provisioner_wire::order::{Config, ConfigFile};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Groups of settings that any metal variant has; another name stops the first boot.
const SETTINGS: [&str; 18] = [
    "autoscaling",
    "aws",
    "bootstrap-commands",
    "bootstrap-containers",
    "boot",
    "cloudformation",
    "container-registry",
    "container-runtime",
    "container-runtime-plugins",
    "dns",
    "host-containers",
    "kernel",
    "kubernetes",
    "metrics",
    "motd",
    "network",
    "ntp",
    "oci-defaults",
];
const MORE_SETTINGS: [&str; 4] = ["oci-hooks", "pki", "updates", "xfs"];

/// Of `settings.kubernetes`.
const KUBERNETES: [&str; 53] = [
    "allowed-unsafe-sysctls",
    "api-server",
    "authentication-mode",
    "bootstrap-token",
    "cloud-provider",
    "cluster-certificate",
    "cluster-dns-ip",
    "cluster-domain",
    "cluster-name",
    "container-log-max-files",
    "container-log-max-size",
    "cpu-cfs-quota-enforced",
    "cpu-manager-policy",
    "cpu-manager-policy-options",
    "cpu-manager-reconcile-period",
    "credential-providers",
    "device-ownership-from-security-context",
    "event-burst",
    "event-qps",
    "eviction-hard",
    "eviction-max-pod-grace-period",
    "eviction-soft",
    "eviction-soft-grace-period",
    "hostname-override",
    "hostname-override-source",
    "ids-per-pod",
    "image-gc-high-threshold-percent",
    "image-gc-low-threshold-percent",
    "kube-api-burst",
    "kube-api-qps",
    "kube-reserved",
    "log-level",
    "max-pods",
    "memory-manager-policy",
    "memory-manager-reserved-memory",
    "node-ip",
    "node-labels",
    "node-taints",
    "nvidia",
    "pod-infra-container-image",
    "pod-pids-limit",
    "provider-id",
    "registry-burst",
    "registry-qps",
    "reserved-cpus",
    "seccomp-default",
    "server-certificate",
    "server-key",
    "server-tls-bootstrap",
    "shutdown-grace-period",
    "standalone-mode",
    "static-pods",
    "system-reserved",
];
const MORE_KUBERNETES: [&str; 4] = [
    "shutdown-grace-period-for-critical-pods",
    "single-process-oom-kill",
    "topology-manager-policy",
    "topology-manager-scope",
];

/// A table with the place of every key and value.
pub(super) type Table<'a> = DeTable<'a>;

pub(super) fn validate(config: &Config, problems: &mut Vec<Problem>) {
    if !config.files.iter().any(|file| file.name == "user-data.toml") {
        problems.push(Problem::new("user-data.toml", "Bottlerocket on metal needs this file"));
    }
    for file in &config.files {
        match file.name.as_str() {
            "user-data.toml" => user_data(file, problems),
            "net.toml" => {
                if let Some(table) = parse(file, problems) {
                    netdog::validate(file, &table, problems);
                }
            }
            name => problems.push(Problem::new(name, "Bottlerocket reads user-data.toml and net.toml only")),
        }
    }
}

/// The file as TOML, or a problem at its place.
pub(super) fn parse<'a>(file: &'a ConfigFile, problems: &mut Vec<Problem>) -> Option<Table<'a>> {
    match DeTable::parse(&file.contents) {
        Ok(table) => Some(table.into_inner()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            // The reader's message names kinds of tokens, not values.
            problems.push(at_offset(file, at, error.message().to_owned()));
            None
        }
    }
}

pub(super) fn at_offset(file: &ConfigFile, offset: usize, message: impl Into<String>) -> Problem {
    let before = file.contents.get(..offset).unwrap_or(&file.contents);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Problem::new(format!("{}:{line}:{column}", file.name), message)
}

fn user_data(file: &ConfigFile, problems: &mut Vec<Problem>) {
    let Some(table) = parse(file, problems) else { return };
    for (key, value) in &table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("settings", DeValue::Table(settings)) => groups(file, settings, problems),
            ("settings", _) => problems.push(at_offset(file, value.span().start, "settings is a table")),
            (other, _) => {
                let message = format!("user data holds [settings.…] only, not {other}");
                problems.push(at_offset(file, key.span().start, message));
            }
        }
    }
}

fn groups(file: &ConfigFile, settings: &Table<'_>, problems: &mut Vec<Problem>) {
    for (key, value) in settings {
        let name = key.get_ref().as_ref();
        if !SETTINGS.contains(&name) && !MORE_SETTINGS.contains(&name) {
            problems.push(at_offset(file, key.span().start, format!("unknown field settings.{name}")));
        }
        if let ("kubernetes", DeValue::Table(kubernetes)) = (name, value.get_ref()) {
            for (key, value) in kubernetes {
                kubernetes_setting(file, key.get_ref(), key.span().start, value, problems);
            }
        }
    }
}

fn kubernetes_setting(
    file: &ConfigFile,
    name: &str,
    at: usize,
    value: &Spanned<DeValue<'_>>,
    problems: &mut Vec<Problem>,
) {
    if !KUBERNETES.contains(&name) && !MORE_KUBERNETES.contains(&name) {
        problems.push(at_offset(file, at, format!("unknown field settings.kubernetes.{name}")));
        return;
    }
    let inner = value.get_ref();
    let wanted = match name {
        "standalone-mode" | "server-tls-bootstrap" | "seccomp-default" if !inner.is_bool() => "true or false",
        "max-pods" if !inner.is_integer() => "a whole number",
        "node-labels" | "node-taints" if !inner.is_table() => "a table",
        "api-server"
        | "cluster-name"
        | "cluster-certificate"
        | "bootstrap-token"
        | "hostname-override"
        | "node-ip"
            if !inner.is_str() =>
        {
            "a text"
        }
        _ => return,
    };
    problems.push(at_offset(file, value.span().start, format!("settings.kubernetes.{name} is not {wanted}")));
}
