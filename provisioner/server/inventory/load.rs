//! Reads `hardware/{machines,profiles,images,clusters}/*.yaml`: all of it or nothing.

use super::{Cluster, Hardware, Inventory, Password, Problem, RecordName, check::check, located::Located};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The inventory in `folder`, in which every rule of [`check`] holds; or every problem with `file:line:column`.
/// `templates` are the template folders that exist. A file may hold several documents.
pub fn load(folder: &Path, templates: &BTreeSet<RecordName>) -> Result<Inventory, Vec<Problem>> {
    let mut problems = Vec::new();
    let machines = read_all::<Hardware>(&folder.join("machines"), &mut problems);
    let profiles = read_all(&folder.join("profiles"), &mut problems);
    let images = read_all(&folder.join("images"), &mut problems);
    let mut clusters = read_all::<Cluster>(&folder.join("clusters"), &mut problems);
    for (cluster, place) in &mut clusters {
        let written = |p: &Password| matches!(p, Password::Value(_) | Password::Stored);
        if cluster.secrets_mut().iter().any(|(_, secret)| written(secret)) {
            problems.push(Problem::new(
                place.of("/name"),
                "a secret does not belong into a file of the inventory; use {file: NAME} or {env: NAME}",
            ));
        }
    }
    for (machine, place) in &machines {
        if machine.bmc.as_ref().is_some_and(|b| matches!(b.password, Password::Value(_) | Password::Stored)) {
            problems.push(Problem::new(
                place.of("/bmc/password"),
                "a password does not belong into a file of the inventory; use {file: NAME} or {env: NAME}",
            ));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (machines, machine_places) = machines.into_iter().unzip();
    let (profiles, profile_places) = profiles.into_iter().unzip();
    let (images, image_places) = images.into_iter().unzip();
    let (clusters, cluster_places) = clusters.into_iter().unzip();
    let inventory = Inventory { machines, profiles, images, clusters };
    let places = Places {
        machines: machine_places,
        profiles: profile_places,
        images: image_places,
        clusters: cluster_places,
    };
    let problems = check(&inventory, templates, |pointer| places.of(pointer));
    if problems.is_empty() { Ok(inventory) } else { Err(problems) }
}

/// How all YAML of operators is read: no duplicate keys, no `no` that means false, no tags, bounded aliases.
pub(crate) fn strict() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// One document's file and the places in it.
struct DocumentPlace {
    file: PathBuf,
    located: Located,
}

impl DocumentPlace {
    fn of(&self, pointer: &str) -> String {
        let (line, column) = self.located.find(pointer);
        format!("{}:{line}:{column}", self.file.display())
    }
}

struct Places {
    machines: Vec<DocumentPlace>,
    profiles: Vec<DocumentPlace>,
    images: Vec<DocumentPlace>,
    clusters: Vec<DocumentPlace>,
}

impl Places {
    /// `/machines/3/nics/0/mac` → place of `/nics/0/mac` in the fourth machine's document.
    fn of(&self, pointer: &str) -> String {
        let mut parts = pointer.splitn(4, '/').skip(1);
        let documents = match parts.next() {
            Some("machines") => &self.machines,
            Some("profiles") => &self.profiles,
            Some("clusters") => &self.clusters,
            _ => &self.images,
        };
        let document =
            parts.next().and_then(|index| index.parse().ok()).and_then(|i: usize| documents.get(i));
        let rest = parts.next().map_or_else(String::new, |rest| format!("/{rest}"));
        document.map_or_else(|| pointer.to_owned(), |document| document.of(&rest))
    }
}

/// Every document of every YAML file in `folder`, in the order of the files' names. A folder that is not there is empty.
fn read_all<T: DeserializeOwned>(folder: &Path, problems: &mut Vec<Problem>) -> Vec<(T, DocumentPlace)> {
    let files = match yaml_files(folder) {
        Ok(files) => files,
        Err(error) => {
            problems.push(Problem::new(folder.display().to_string(), error.to_string()));
            return Vec::new();
        }
    };
    let mut records = Vec::new();
    for file in files {
        match read_file(&file) {
            Ok(found) => records.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    records
}

fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    files.sort();
    Ok(files)
}

fn read_file<T: DeserializeOwned>(file: &Path) -> Result<Vec<(T, DocumentPlace)>, Problem> {
    let text = fs::read_to_string(file)
        .map_err(|error| Problem::new(file.display().to_string(), error.to_string()))?;
    let records: Vec<T> = documents(file, &text)?;
    let places: Vec<Located> = documents(file, &text)?;
    let place = |located| DocumentPlace { file: file.to_owned(), located };
    Ok(records.into_iter().zip(places.into_iter().map(place)).collect())
}

fn documents<T: DeserializeOwned>(file: &Path, text: &str) -> Result<Vec<T>, Problem> {
    serde_saphyr::from_multiple_with_options(text, strict()).map_err(|error| yaml_problem(file, &error))
}

/// The reader's error as a problem at `file:line:column`.
pub(crate) fn yaml_problem(file: &Path, error: &serde_saphyr::Error) -> Problem {
    let error = error.without_snippet();
    let place = match error.location() {
        Some(at) => format!("{}:{}:{}", file.display(), at.line(), at.column()),
        None => file.display().to_string(),
    };
    let message = error.to_string();
    // The reader ends its text with the place that already stands in front, and with advice for programmers.
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default().trim();
    Problem::new(place, message)
}
