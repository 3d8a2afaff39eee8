//! Where things are.

use anyhow::{Context, Result};
use provisioner_lab::Assets;
use std::{env, fs, path::PathBuf};

/// The workspace and the folders that commands fill.
#[derive(Debug, Clone)]
pub struct Project {
    /// The workspace's root.
    pub root: PathBuf,
    /// Cargo's.
    pub target: PathBuf,
}

impl Project {
    pub fn here() -> Result<Self> {
        let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = own.canonicalize().with_context(|| format!("{}: no workspace there", own.display()))?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// `PROVISIONER_ASSETS`, else `target/assets`. Content is checked by what it was made of, so several clones may share it.
    pub fn assets(&self) -> Assets {
        Assets::at(self.folder("PROVISIONER_ASSETS", "assets"))
    }

    /// `PROVISIONER_TOOLS`, else `target/tools`: cargo's tools and Python's.
    pub fn tools(&self) -> PathBuf {
        self.folder("PROVISIONER_TOOLS", "tools")
    }

    /// One folder a lab run.
    pub fn labs(&self) -> PathBuf {
        self.target.join("labs")
    }

    fn folder(&self, variable: &str, default: &str) -> PathBuf {
        match env::var_os(variable) {
            Some(folder) => self.root.join(folder),
            None => self.target.join(default),
        }
    }
}

/// Holds `folder` for this process until dropped; waits for another that has it.
pub fn lock(folder: &std::path::Path) -> Result<fs::File> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let path = folder.join(".lock");
    let file = fs::File::create(&path).with_context(|| format!("{}: cannot be made", path.display()))?;
    file.lock().with_context(|| format!("{}: cannot be locked", path.display()))?;
    Ok(file)
}
