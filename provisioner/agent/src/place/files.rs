//! Writes files into a mounted file system as if it were the root: an absolute symbolic link inside the image leads to
//! a place in the image, never to one in the agent's own RAM (openat2, RESOLVE_IN_ROOT).

use super::PlaceError;
use provisioner_wire::order::{Config, ConfigFile, Place};
use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, Mode, OFlags, ResolveFlags, fchmod, fsync, mkdirat, open, openat, openat2, renameat,
        unlinkat,
    },
    io::Errno,
};
use std::{fs::File, io, io::Write, path::Path};

/// What was being done, to which path, and why it failed.
type Failure = (&'static str, String, io::Error);

/// Refuses names that would leave the directory, before anything is touched.
pub(super) fn check(place: &Place, config: &Config) -> Result<(), PlaceError> {
    let directory = &place.directory;
    if !directory.starts_with('/')
        || directory.split('/').any(|part| part == "..")
        || directory.contains('\0')
    {
        return Err(PlaceError::Directory { directory: directory.clone() });
    }
    let bad = |name: &str| matches!(name, "" | "." | "..") || name.contains('/') || name.contains('\0');
    match config.files.iter().find(|file| bad(&file.name)) {
        Some(file) => Err(PlaceError::Name { name: file.name.clone() }),
        None => Ok(()),
    }
}

/// Makes `directory` below `root` where missing (mode 0755) and writes every file, each whole or not at all.
pub(super) fn write(root: &Path, directory: &str, config: &Config) -> Result<(), Failure> {
    let opened = open(root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    let root = opened.map_err(|e| ("opening", root.display().to_string(), e.into()))?;
    let folder = make_directory(&root, directory)?;
    for file in &config.files {
        write_file(&folder, file).map_err(|e| ("writing", format!("{directory}/{}", file.name), e))?;
    }
    fsync(&folder).map_err(|e| ("flushing", directory.to_owned(), e.into()))
}

fn make_directory(root: &OwnedFd, directory: &str) -> Result<OwnedFd, Failure> {
    let enter = |path: &str, flags: OFlags| {
        openat2(root, path, OFlags::DIRECTORY | OFlags::CLOEXEC | flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    let failed = |path: &str| {
        let path = format!("/{path}");
        move |error: Errno| ("making the directory", path, io::Error::from(error))
    };
    let mut path = String::from(".");
    for part in directory.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let parent = enter(&path, OFlags::RDONLY).map_err(failed(&path))?;
        path = format!("{path}/{part}");
        if matches!(enter(&path, OFlags::PATH), Err(Errno::NOENT)) {
            mkdirat(&parent, part, Mode::from_raw_mode(0o755)).map_err(failed(&path))?;
            fsync(&parent).map_err(failed(&path))?;
        }
    }
    enter(&path, OFlags::RDONLY).map_err(failed(&path))
}

fn write_file(folder: &OwnedFd, file: &ConfigFile) -> io::Result<()> {
    let temporary = ".provisioner-new";
    match unlinkat(folder, temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut opened = File::from(openat(folder, temporary, flags, Mode::from_raw_mode(0o600))?);
    opened.write_all(file.contents.as_bytes())?;
    fchmod(&opened, Mode::from_raw_mode(file.mode & 0o7777))?;
    opened.sync_all()?;
    Ok(renameat(folder, temporary, folder, file.name.as_str())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use provisioner_wire::order::PartitionSelector;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn config(name: &str, contents: &str) -> Config {
        Config { files: vec![ConfigFile { name: name.into(), contents: contents.into(), mode: 0o640 }] }
    }

    #[test]
    fn files_are_written_with_their_modes_and_written_over() {
        let root = tempfile::tempdir().unwrap();
        for contents in ["one", "two"] {
            write(root.path(), "/var/lib/cloud/seed", &config("user-data", contents)).unwrap();
            let path = root.path().join("var/lib/cloud/seed/user-data");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), contents);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
            assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
        write(root.path(), "/", &config("at-root", "x")).unwrap();
        assert!(root.path().join("at-root").exists());
    }

    #[test]
    fn links_in_the_image_lead_into_the_image() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("real")).unwrap();
        symlink("/real", root.path().join("absolute")).unwrap();
        symlink("../../../../../real", root.path().join("climbing")).unwrap();
        for (n, link) in ["absolute", "climbing"].into_iter().enumerate() {
            write(root.path(), &format!("/{link}/deep"), &config(&format!("f{n}"), "x")).unwrap();
            assert!(root.path().join("real/deep").join(format!("f{n}")).exists(), "{link}");
        }
        assert!(!std::path::Path::new("/real").exists());
        // A link with the file's own name is replaced, not followed.
        symlink("/etc/passwd", root.path().join("real/f")).unwrap();
        write(root.path(), "/real", &config("f", "x")).unwrap();
        assert!(!root.path().join("real/f").is_symlink());
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let place =
            |directory: &str| Place { partition: PartitionSelector::Number(1), directory: directory.into() };
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0b"] {
            assert!(check(&place("/seed"), &config(name, "x")).is_err(), "{name:?}");
        }
        for directory in ["", "seed", "/a/../b", "/.."] {
            assert!(check(&place(directory), &config("a", "x")).is_err(), "{directory:?}");
        }
        assert!(check(&place("/seed"), &config("..a", "x")).is_ok());
    }
}
