//! Images that the real qemu-img has made.

use super::*;
use std::{path::Path, process::Command};

fn qemu_img(arguments: &[&str]) {
    let out = Command::new("qemu-img").args(arguments).output().expect("qemu-img of Debian's qemu-utils");
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Noise, a hole, noise; not a multiple of a cluster.
fn raw(folder: &Path) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..300_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
    bytes.resize(5 << 20, 0);
    bytes.extend(std::iter::repeat_n(b"abcdefgh", 40_000).flatten());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    fs::write(folder.join("raw"), &bytes).unwrap();
    bytes
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Disk::open(fs::File::open(path)?)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn every_kind_of_cluster_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = raw(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, options) in [
        ("v3", &["-o", "compat=1.1"][..]),
        ("v2", &["-o", "compat=0.10"]),
        ("packed", &["-c"]),
        ("packed2", &["-c", "-o", "compat=0.10,cluster_size=4096"]),
        ("large", &["-o", "cluster_size=2M"]),
    ] {
        let (from, to) = (path("raw"), path(name));
        qemu_img(&[&["convert", "-f", "raw", "-O", "qcow2"], options, &[&from, &to]].concat());
        assert!(read(Path::new(&to)).unwrap() == bytes, "{name}");
    }
}

#[test]
fn what_reaches_out_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    raw(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    qemu_img(&["create", "-f", "qcow2", "-b", &path("raw"), "-F", "raw", &path("backed")]);
    qemu_img(&["create", "-f", "qcow2", "-o", &format!("data_file={}", path("data")), &path("split"), "1M"]);
    for (name, expected) in [("backed", "backing file"), ("split", "another file"), ("raw", "no qcow2")] {
        let error = read(Path::new(&path(name))).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    qemu_img(&["create", "-f", "qcow2", &path("dirty"), "1M"]);
    let mut bytes = fs::read(path("dirty")).unwrap();
    bytes[79] |= 1;
    fs::write(path("dirty"), &bytes).unwrap();
    assert!(read(Path::new(&path("dirty"))).unwrap_err().to_string().contains("not closed"));
}

#[test]
fn a_damaged_file_is_an_error_or_other_bytes_and_never_harm() {
    let folder = tempfile::tempdir().unwrap();
    raw(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    qemu_img(&["convert", "-c", "-f", "raw", "-O", "qcow2", &path("raw"), &path("good")]);
    let good = fs::read(path("good")).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..random.usize(1..6) {
            // Most of what steers the reader stands in the first clusters.
            let at = if random.bool() { random.usize(0..400) } else { random.usize(0..bad.len()) };
            bad[at] = random.u8(..);
        }
        bad.truncate(random.usize(1..=bad.len()));
        fs::write(path("bad"), &bad).unwrap();
        let disk = fs::File::open(path("bad")).and_then(Disk::open);
        if let Ok(disk) = disk {
            // A size that was made up must not be believed: the caller's limit holds.
            let _ = io::copy(&mut disk.take(16 << 20), &mut io::sink());
        }
    }
}
