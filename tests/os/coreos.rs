//! The real coreos-installer takes the Ignition that is rendered, for the system it installs, and refuses what is none. It
//! is given a stand-in for the live initramfs: the two files by which it knows one.

use super::samples::{machine, render};
use provisioner_lab::process::run;
use serde_json::json;
use std::{env, fs, path::Path};

/// Bytes before and after `coreos-installer pxe customize` has put `config` in.
fn customize(folder: &Path, config: &str) -> anyhow::Result<(u64, u64)> {
    let program = env::var("PROVISIONER_COREOS_INSTALLER").expect("set by `cargo xtask test`");
    let (ignition, made) = (folder.join("config.ign"), folder.join("made.img"));
    fs::write(&ignition, config)?;
    let initrd = live_initramfs(folder)?;
    let shown = |path: &Path| path.display().to_string();
    run(
        &program,
        [
            "pxe".into(),
            "customize".into(),
            "--dest-device=/dev/disk/by-id/virtio-88-1".into(),
            format!("--dest-ignition={}", shown(&ignition)),
            format!("--output={}", shown(&made)),
            initrd.clone(),
        ],
    )?;
    let sizes = (fs::metadata(&initrd)?.len(), fs::metadata(&made)?.len());
    fs::remove_file(&made)?;
    Ok(sizes)
}

fn live_initramfs(folder: &Path) -> anyhow::Result<String> {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("etc/coreos"))?;
    fs::write(tree.join("etc/coreos-live-initramfs"), "")?;
    fs::write(tree.join("etc/coreos/features.json"), r#"{"installer-config": true}"#)?;
    let (tree, initrd) = (tree.display(), folder.join("initrd.img").display().to_string());
    run(
        "sh",
        [
            "-c",
            &format!("cd {tree} && find . -mindepth 1 -printf '%P\\n' | cpio --quiet -o -H newc > {initrd}"),
        ],
    )?;
    Ok(initrd)
}

#[test]
#[ignore = "needs coreos-installer: run by `cargo xtask test`"]
fn vm_coreos_installer_takes_what_is_rendered_and_nothing_else() {
    let machine = machine(json!({}), json!({"rack": "r1"}));
    let folder = tempfile::tempdir().unwrap();
    for role in ["control-plane", "worker"] {
        let rendered = &render("fedora-coreos", role, &machine).files[0].contents;
        let (before, made) = customize(folder.path(), rendered).unwrap();
        assert!(made > before, "{role}: nothing was added to the initramfs");
    }
    for wrong in
        [r#"{"ignition": {"version": "9.9.9"}}"#, r#"{"ignition": {"version": "3.4.0"}, "storage": 5}"#, "#!"]
    {
        let error = customize(folder.path(), wrong).unwrap_err().to_string();
        assert!(error.contains("parsing Ignition config"), "{error}");
    }
}
