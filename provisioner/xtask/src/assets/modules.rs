//! PURE. Which module files a kernel needs for some drivers, dependencies first.

use std::collections::{BTreeMap, BTreeSet};

/// `depmod`'s table: a module's file and the files it needs.
#[derive(Debug, Default)]
pub struct Dependencies {
    needs: BTreeMap<String, Vec<String>>,
    by_name: BTreeMap<String, String>,
}

impl Dependencies {
    /// Reads `modules.dep`: `FILE: FILE FILE…`, relative to the folder of modules.
    pub fn parse(text: &str) -> Self {
        let mut this = Self::default();
        for (file, needs) in text.lines().filter_map(|line| line.split_once(':')) {
            this.by_name.insert(name(file), file.to_owned());
            this.needs.insert(file.to_owned(), needs.split_whitespace().map(str::to_owned).collect());
        }
        this
    }

    /// The files of `wanted` in load order. What this kernel lacks or has built in is left out.
    pub fn load_order(&self, wanted: &[&str]) -> Vec<String> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for file in wanted.iter().filter_map(|module| self.by_name.get(&name(module))) {
            self.add(file, &mut seen, &mut order);
        }
        order
    }

    fn add<'a>(&'a self, file: &'a str, seen: &mut BTreeSet<&'a str>, order: &mut Vec<String>) {
        if !seen.insert(file) {
            return;
        }
        for need in self.needs.get(file).into_iter().flatten() {
            self.add(need, seen, order);
        }
        order.push(file.to_owned());
    }
}

/// `kernel/fs/fat/vfat.ko.xz` → `vfat`; the kernel takes `-` and `_` for the same.
fn name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let text = "k/fat/vfat.ko: k/fat/fat.ko\nk/fat/fat.ko:\nk/virtio/virtio_pci.ko: k/virtio/ring.ko k/virtio/virtio.ko\n\
                    k/virtio/ring.ko: k/virtio/virtio.ko\nk/virtio/virtio.ko:\nk/crypto/crc32c-generic.ko.xz:\n";
        let all = Dependencies::parse(text);
        assert_eq!(
            all.load_order(&["virtio_pci", "vfat", "no_such", "fat", "crc32c_generic"]),
            [
                "k/virtio/virtio.ko",
                "k/virtio/ring.ko",
                "k/virtio/virtio_pci.ko",
                "k/fat/fat.ko",
                "k/fat/vfat.ko",
                "k/crypto/crc32c-generic.ko.xz"
            ]
        );
    }

    #[test]
    fn a_circle_ends() {
        let all = Dependencies::parse("a.ko: b.ko\nb.ko: a.ko\n");
        assert_eq!(all.load_order(&["a"]), ["b.ko", "a.ko"]);
    }
}
