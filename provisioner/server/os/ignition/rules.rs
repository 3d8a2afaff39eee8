//! PURE. What Ignition itself refuses in a config that its schema takes (its `config/v3_*/types/*.go`), in its own words,
//! each with the JSON pointer of what it speaks of. Rules on disks are in [`super::disks`].

use super::{
    disks,
    model::{Node, Owner, Resource, Spec, Storage, without_nulls},
    source, unit,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Pointer and message of each mistake.
pub(super) type Found = Vec<(String, String)>;

/// Of which Ignition the rules are.
#[derive(Clone, Copy)]
pub(super) struct Dialect {
    /// x of the config's version 3.x.0.
    pub(super) minor: u32,
    /// Flatcar's Ignition: it knows `oem:`, and has no clevis.
    pub(super) is_flatcar: bool,
}

/// Every mistake of a config that its schema takes.
pub(super) fn check(config: &Value, dialect: Dialect) -> Found {
    let mut found = Found::new();
    match Spec::deserialize(without_nulls(config)) {
        Ok(spec) => {
            fetched(&spec, dialect, &mut found);
            nodes(&spec.storage, dialect, &mut found);
            links(&spec.storage, dialect, &mut found);
            parents(&spec, dialect, &mut found);
            systemd(&spec, &mut found);
            twice(&spec, &mut found);
            disks::check(&spec.storage, dialect, &mut found);
        }
        Err(error) => found.push((String::new(), format!("Ignition cannot read it: {error}"))),
    }
    found
}

/// What is fetched for the config itself.
fn fetched(spec: &Spec, dialect: Dialect, found: &mut Found) {
    let ignition = &spec.ignition;
    let authorities = &ignition.security.tls.certificate_authorities;
    let lists = [
        ("/ignition/config/merge", &ignition.config.merge),
        ("/ignition/security/tls/certificateAuthorities", authorities),
    ];
    for (pointer, list) in lists {
        for (index, entry) in list.iter().enumerate() {
            let here = format!("{pointer}/{index}");
            if entry.source.is_none() {
                found.push((here.clone(), "source is required".to_owned()));
            }
            resource(entry, &here, dialect, found);
        }
    }
    resource(&ignition.config.replace, "/ignition/config/replace", dialect, found);
    let proxy = &ignition.proxy;
    for (key, url) in [("httpProxy", &proxy.http_proxy), ("httpsProxy", &proxy.https_proxy)] {
        if let Some(url) = url
            && let Err(message) = source::check_http(url, "proxies must be http(s)")
        {
            found.push((format!("/ignition/proxy/{key}"), message.to_owned()));
        }
    }
}

/// Anything that names a source.
pub(super) fn resource(resource: &Resource, pointer: &str, dialect: Dialect, found: &mut Found) {
    let mut say = |key: &str, message: &str| found.push((format!("{pointer}/{key}"), message.to_owned()));
    if !matches!(&*resource.compression, "" | "gzip") {
        say("compression", "invalid compression method");
    }
    if let Some(text) = &resource.source
        && let Err(message) = source::check(text, dialect.minor, dialect.is_flatcar)
    {
        say("source", &message);
    }
    if let Some(hash) = &resource.verification.hash {
        if let Err(message) = source::check_hash(hash, dialect.minor) {
            say("verification/hash", message);
        }
        if resource.source.is_none() {
            say("verification/hash", "source must be specified if verification is specified");
        }
    }
    if !resource.http_headers.is_empty() {
        let other = "cannot use HTTP headers with this source scheme";
        let source = resource.source.as_deref().ok_or("unable to parse url");
        if let Err(message) = source.and_then(|source| source::check_http(source, other)) {
            say("httpHeaders", message);
        }
    }
    for (index, header) in resource.http_headers.iter().enumerate() {
        if header.name.is_empty() {
            say(&format!("httpHeaders/{index}/name"), "HTTP header name can't be empty");
        }
    }
    let names = resource.http_headers.iter().map(|header| &*header.name);
    distinct(names, &format!("{pointer}/httpHeaders"), "/name", found);
}

/// Ignition's words of what is wrong with a path.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("path not specified");
    }
    let below = path.strip_prefix('/').ok_or("path not absolute")?;
    if !below.is_empty() && below.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("path is not fully simplified");
    }
    Ok(())
}

fn nodes(storage: &Storage, dialect: Dialect, found: &mut Found) {
    for (kind, nodes) in kinds(storage) {
        for (index, node) in nodes.iter().enumerate() {
            let here = format!("/storage/{kind}/{index}");
            if let Err(message) = check_path(&node.path) {
                found.push((format!("{here}/path"), message.to_owned()));
            }
            for (key, Owner { id, name }) in [("user", &node.user), ("group", &node.group)] {
                if id.is_some() && !name.is_empty() {
                    found.push((format!("{here}/{key}"), "cannot set both id and name".to_owned()));
                }
            }
            if let Some(message) = node.mode.and_then(wrong_mode) {
                found.push((format!("{here}/mode"), message));
            }
            if kind == "files" {
                contents(node, &here, dialect, found);
            }
        }
    }
}

fn contents(file: &Node, here: &str, dialect: Dialect, found: &mut Found) {
    if file.overwrite && file.contents.source.is_none() {
        found.push((
            format!("{here}/overwrite"),
            "overwrite must be false if source is unspecified".to_owned(),
        ));
    }
    resource(&file.contents, &format!("{here}/contents"), dialect, found);
    for (index, part) in file.append.iter().enumerate() {
        resource(part, &format!("{here}/append/{index}"), dialect, found);
    }
}

fn wrong_mode(mode: i64) -> Option<String> {
    if !(0..=0o7777).contains(&mode) {
        return Some("illegal file mode".to_owned());
    }
    // A rule of ours: Ignition's JSON has no octal numbers, and 644 is 0o1204, which nobody means.
    let meant = i64::from_str_radix(&mode.to_string(), 8).ok()?;
    let rights = |shift: u32| (mode >> shift) & 7;
    let is_odd = mode >= 0o1000 || (rights(3) | rights(0)) & !rights(6) != 0;
    let is_usual = meant >= 0o400 && (meant >> 6) & 7 >= (meant >> 3) & 7 && (meant >> 3) & 7 >= meant & 7;
    ((0o400..=0o777).contains(&meant) && is_usual && is_odd && mode != 0o620).then(|| {
        format!("the decimal {mode} is 0o{mode:o}, surely not meant: write {meant}, which is 0o{mode}")
    })
}

fn kinds(storage: &Storage) -> [(&'static str, &Vec<Node>); 3] {
    [("files", &storage.files), ("directories", &storage.directories), ("links", &storage.links)]
}

/// Nothing below a link, and links that can be made.
fn links(storage: &Storage, dialect: Dialect, found: &mut Found) {
    let is_below =
        |path: &str, link: &Node| path.strip_prefix(&*link.path).is_some_and(|rest| rest.starts_with('/'));
    let words = ["file", "directory", "link"];
    for ((kind, nodes), word) in kinds(storage).into_iter().zip(words) {
        for (index, node) in nodes.iter().enumerate() {
            if storage.links.iter().any(|link| is_below(&node.path, link)) {
                let message = format!("{word} path includes link in config");
                found.push((format!("/storage/{kind}/{index}/path"), message));
            }
        }
    }
    for (index, link) in storage.links.iter().enumerate() {
        let here = format!("/storage/links/{index}/target");
        let target = link.target.as_deref().unwrap_or_default();
        if target.is_empty() && dialect.minor >= 3 {
            found.push((here, "link target is required".to_owned()));
        } else if link.hard {
            let target = if target.starts_with('/') {
                clean(target)
            } else {
                clean(&format!("{}/{target}", link.path))
            };
            if storage.directories.iter().any(|directory| directory.path == target) {
                found.push((here, "hard link target is a directory".to_owned()));
            }
        }
    }
}

/// An absolute path without what can be left out.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Paths that are a unit's own, and files and links that others would have as their directory.
fn parents(spec: &Spec, dialect: Dialect, found: &mut Found) {
    let mut of_units = HashSet::new();
    for unit in &spec.systemd.units {
        let path = format!("/etc/systemd/system/{}", unit.name);
        let dropins = unit.dropins.iter().filter(|dropin| !dropin.contents.is_empty());
        of_units.extend(dropins.map(|dropin| format!("{path}.d/{}", dropin.name)));
        if !unit.contents.is_empty() {
            of_units.insert(path);
        }
    }
    let files: BTreeSet<&str> = spec.storage.files.iter().map(|file| &*file.path).collect();
    for (kind, nodes) in kinds(&spec.storage) {
        for (index, node) in nodes.iter().enumerate() {
            let here = format!("/storage/{kind}/{index}/path");
            // Older Ignitions write one over the other.
            if dialect.minor >= 4 && of_units.contains(&node.path) {
                found.push((here, "path conflicts with systemd unit or dropin".to_owned()));
                continue;
            }
            // Older Ignitions fail at it in the machine; what is below a link is refused elsewhere.
            let file = node
                .path
                .match_indices('/')
                .filter_map(|(at, _)| node.path.get(..at))
                .find(|p| files.contains(p));
            if let Some(file) = file {
                let message = format!(
                    "invalid entry at path {}: {file} is a file of the config, not a directory",
                    node.path
                );
                found.push((here, message));
            }
        }
    }
}

fn systemd(spec: &Spec, found: &mut Found) {
    for (index, unit) in spec.systemd.units.iter().enumerate() {
        let here = format!("/systemd/units/{index}");
        if !unit::is_unit_name(&unit.name) {
            found.push((format!("{here}/name"), "invalid systemd unit extension".to_owned()));
        }
        if let Err(message) = unit::check(&unit.contents) {
            found.push((format!("{here}/contents"), message));
        }
        for (index, dropin) in unit.dropins.iter().enumerate() {
            let here = format!("{here}/dropins/{index}");
            if unit::extension(&dropin.name) != Some("conf") {
                found.push((format!("{here}/name"), "invalid systemd drop-in extension".to_owned()));
            }
            if let Err(message) = unit::check(&dropin.contents) {
                found.push((format!("{here}/contents"), message));
            }
        }
    }
}

/// What Ignition merges by a name must not be there twice.
fn twice(spec: &Spec, found: &mut Found) {
    let mut paths = BTreeMap::new();
    for (kind, nodes) in kinds(&spec.storage) {
        for (index, node) in nodes.iter().enumerate() {
            if paths.insert(&node.path, ()).is_some() {
                let message = format!("duplicate entry defined: {}", node.path);
                found.push((format!("/storage/{kind}/{index}/path"), message));
            }
        }
    }
    let units = &spec.systemd.units;
    distinct(units.iter().map(|unit| &*unit.name), "/systemd/units", "/name", found);
    for (index, unit) in units.iter().enumerate() {
        let names = unit.dropins.iter().map(|dropin| &*dropin.name);
        distinct(names, &format!("/systemd/units/{index}/dropins"), "/name", found);
    }
    let users = &spec.passwd.users;
    distinct(users.iter().map(|user| &*user.name), "/passwd/users", "/name", found);
    for (index, user) in users.iter().enumerate() {
        for (key, list) in [("groups", &user.groups), ("sshAuthorizedKeys", &user.ssh_authorized_keys)] {
            distinct(list.iter().map(String::as_str), &format!("/passwd/users/{index}/{key}"), "", found);
        }
    }
    distinct(spec.passwd.groups.iter().map(|group| &*group.name), "/passwd/groups", "/name", found);
    let ignition = &spec.ignition;
    let no_proxy = ignition.proxy.no_proxy.iter().map(String::as_str);
    distinct(no_proxy, "/ignition/proxy/noProxy", "", found);
    let merge = ignition.config.merge.iter().filter_map(|resource| resource.source.as_deref());
    distinct(merge, "/ignition/config/merge", "/source", found);
    let authorities =
        ignition.security.tls.certificate_authorities.iter().filter_map(|r| r.source.as_deref());
    distinct(authorities, "/ignition/security/tls/certificateAuthorities", "/source", found);
    arguments(spec, found);
}

/// An argument that shall be there must not be one that shall not.
fn arguments(spec: &Spec, found: &mut Found) {
    let wanted = &spec.kernel_arguments.should_exist;
    let unwanted = &spec.kernel_arguments.should_not_exist;
    distinct(wanted.iter().map(String::as_str), "/kernelArguments/shouldExist", "", found);
    distinct(unwanted.iter().map(String::as_str), "/kernelArguments/shouldNotExist", "", found);
    for (index, argument) in unwanted.iter().enumerate().filter(|(_, argument)| wanted.contains(argument)) {
        let message = format!("duplicate entry defined: {argument} is in shouldExist, too");
        found.push((format!("/kernelArguments/shouldNotExist/{index}"), message));
    }
}

/// `key` is the pointer from an entry of the list to its name.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str>, list: &str, key: &str, found: &mut Found) {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            found.push((format!("{list}/{index}{key}"), "duplicate entry defined".to_owned()));
        }
    }
}
