//! What operators write: the inventory and the templates, as files and as values.

mod images;
mod inventory;
mod templates;

use provisioner::{os::read_templates, render::Templates};
use std::{collections::BTreeSet, path::Path};

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn templates() -> Templates {
    read_templates(&repository().join("templates/machine-config")).unwrap()
}

pub fn template_names() -> BTreeSet<provisioner::inventory::RecordName> {
    templates().names().into_iter().map(|name| name.parse().unwrap()).collect()
}
