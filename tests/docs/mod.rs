//! The documentation is true: links lead somewhere, commands are known, examples are read by what reads the real ones.

use crate::content::{repository, template_names};
use provisioner::{config::Config, inventory::load};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Every Markdown file of ours; what others wrote (fixtures) is left alone.
fn pages() -> Vec<(PathBuf, String)> {
    let root = repository();
    let mut found = Vec::new();
    let mut folders = vec![root.join("docs"), root.join("hardware"), root.join("ipxe")];
    let top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root.join(name));
    found.extend(top);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() >= 10, "the walk has lost the pages");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, text)
    };
    found.into_iter().map(read).collect()
}

/// Fenced code blocks: what stands after the fence, and the lines.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => found.push(block),
            (Some(info), None) => open = Some((info.trim().to_owned(), String::new())),
            (None, Some((info, body))) => open = Some((info, format!("{body}{line}\n"))),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a code block is not closed");
    found
}

/// Targets of `[text](target)`, without their anchor.
fn links(text: &str) -> Vec<String> {
    let parts = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    parts.map(|target| target.split('#').next().unwrap_or_default().to_owned()).collect()
}

/// Words of each `provisioner …` or `cargo xtask …` line in the page's shell blocks.
fn commands(text: &str) -> Vec<Vec<String>> {
    let shell = blocks(text).into_iter().filter(|(info, _)| info == "sh").map(|(_, body)| body);
    let lines: Vec<String> =
        shell.flat_map(|body| body.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let words = |line: &String| -> Vec<String> {
        let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        words.skip_while(|word| *word == "sudo" || *word == "$").map(str::to_owned).collect()
    };
    lines.iter().map(words).filter(|words| !words.is_empty()).collect()
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut broken = Vec::new();
    for (page, text) in pages() {
        for target in links(&text) {
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !page.parent().unwrap_or(Path::new("")).join(&target).exists() {
                broken.push(format!("{} -> {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_command_shown_is_known_with_its_options() {
    let mut seen = BTreeSet::new();
    for (page, text) in pages() {
        for words in commands(&text) {
            if words.first().is_some_and(|w| w == "provisioner") {
                check_command(&page, words.get(1..).unwrap_or_default());
                seen.extend(words.get(1).cloned());
            }
        }
    }
    for expected in ["serve", "check", "machine", "provision", "release", "events"] {
        assert!(seen.contains(expected), "no page shows {expected}");
    }
}

/// The subcommand answers `--help`, and each option of the line stands in that answer.
fn check_command(page: &Path, words: &[String]) {
    let groups = ["cluster", "config", "machine", "profile", "image", "wipe-certificate", "workflow"];
    let depth = if words.first().is_some_and(|w| groups.contains(&w.as_str())) { 2 } else { 1 };
    let subcommand: Vec<&String> = words.iter().take(depth).collect();
    let answer =
        Command::new(env!("CARGO_BIN_EXE_provisioner")).args(&subcommand).arg("--help").output().unwrap();
    let line = words.join(" ");
    assert!(answer.status.success(), "{}: no such command: provisioner {line}", page.display());
    let help = String::from_utf8(answer.stdout).unwrap();
    for option in words.iter().filter(|word| word.starts_with("--")) {
        let name = option.split('=').next().unwrap();
        assert!(help.contains(name), "{}: provisioner {line} has no {name}", page.display());
    }
}

#[test]
fn the_example_configuration_is_good_and_its_paths_are_the_projects() {
    let file = repository().join("docs/example-server.toml");
    let config = Config::read(&file).unwrap_or_else(|e| panic!("{e}"));
    assert!(!config.dhcp.is_empty() && config.tftp.is_some() && !config.discovery);
    assert!(config.templates_dir.join("machine-config/cloud-init").is_dir());
    assert!(config.hardware_dir.unwrap().join("machines").is_dir());
}

#[test]
fn the_ipv6_page_shows_sections_that_are_taken() {
    let page = fs::read_to_string(repository().join("docs/ipv6.md")).unwrap();
    let example = fs::read_to_string(repository().join("docs/example-server.toml")).unwrap();
    let sections: Vec<_> = blocks(&page).into_iter().filter(|(info, _)| info == "toml").collect();
    assert_eq!(sections.len(), 2);
    for (_, section) in sections {
        let config = Config::parse(Path::new("server.toml"), &format!("{example}{section}"));
        assert_eq!(config.unwrap_or_else(|e| panic!("{e}")).dhcp6.len(), 1);
    }
    let commented: String = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    let config = Config::parse(Path::new("server.toml"), &commented).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.dhcp6.len(), 1);
}

#[test]
fn the_inventory_page_shows_records_that_the_inventory_takes() {
    let page = fs::read_to_string(repository().join("docs/hardware.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for kind in ["machine", "profile", "image"] {
        let records = folder.path().join(format!("{kind}s"));
        fs::create_dir(&records).unwrap();
        let mut count = 0;
        for (info, body) in blocks(&page) {
            if info == format!("yaml {kind}") {
                count += 1;
                fs::write(records.join(format!("{count}.yaml")), body).unwrap();
            }
        }
        assert!(count > 0, "no example of a {kind}");
    }
    let read = load(folder.path(), &template_names()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(!read.machines.is_empty() && !read.profiles.is_empty() && !read.images.is_empty());
}

/// The sample of each operating system's page, with the images that it names declared beside it.
#[test]
fn each_system_page_shows_a_profile_that_the_inventory_takes() {
    let pages = fs::read_dir(repository().join("docs/os")).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let profiles = blocks(&text).into_iter().map(|(_, body)| body).filter(|b| b.contains("\nos: "));
        for profile in profiles {
            count += 1;
            let folder = tempfile::tempdir().unwrap();
            for kind in ["machines", "profiles", "images"] {
                fs::create_dir(folder.path().join(kind)).unwrap();
            }
            fs::write(folder.path().join("profiles/p.yaml"), &profile).unwrap();
            let record: serde_json::Value = serde_saphyr::from_str(&profile).unwrap();
            let beside = record["netboot"]["initramfs"].as_array().cloned().unwrap_or_default();
            for image in beside.iter().chain([&record["image"]]).map(|name| name.as_str().unwrap()) {
                let hash = "a".repeat(64);
                let spec = format!("name: {image}\nsource: {{file: {image}}}\nformat: raw\nsha256: {hash}\n");
                fs::write(folder.path().join(format!("images/{image}.yaml")), spec).unwrap();
            }
            let read = load(folder.path(), &template_names());
            read.unwrap_or_else(|problems| panic!("{}: {problems:#?}", page.display()));
        }
    }
    assert!(count >= 5, "{count}");
}
