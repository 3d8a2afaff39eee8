//! PURE. What a profile's `method`, `netboot`, `place` and `deliver` must be to each other.

use super::{
    Delivery, ImageDeclaration, Method, OperatingSystem, Placement, Profile, RecordName, UrlDelivery,
};
use provisioner_wire::order::PartitionSelector;

/// Mistakes with their JSON pointer in the profile.
pub(super) fn delivery(profile: &Profile, images: &[ImageDeclaration]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut problem = |place: &str, what: &str| found.push((place.to_owned(), what.to_owned()));
    match (&profile.place, &profile.deliver) {
        (Some(_), Some(_)) => problem("/deliver", "say either place or deliver, not both"),
        (None, None) => problem("", "how does the config reach the node? say place or deliver"),
        (Some(place), None) => placement("/place", place, &mut problem),
        (None, Some(Delivery::Place(place))) => placement("/deliver/place", place, &mut problem),
        (None, Some(Delivery::Url(url))) => by_url(profile, url, &mut problem),
    }
    match (profile.method, &profile.netboot) {
        (Method::Disk, Some(_)) => problem("/netboot", "is for method: netboot"),
        (Method::Netboot, None) => {
            problem("", "method: netboot needs netboot: {initramfs: [IMAGE, …]}");
        }
        (Method::Disk, None) => {}
        (Method::Netboot, Some(files)) => {
            if profile.by_url().is_none() {
                let what =
                    "an installer that this server did not write fetches its config: deliver: {url: {}}";
                problem(if profile.place.is_some() { "/place" } else { "/deliver" }, what);
            }
            let unknown = |name: &RecordName| !images.iter().any(|image| image.name == *name);
            for (at, name) in files.initramfs.iter().enumerate().filter(|(_, name)| unknown(name)) {
                problem(&format!("/netboot/initramfs/{at}"), &format!("there is no image {name}"));
            }
            if let Some(name) = files.rootfs.as_ref().filter(|name| unknown(name)) {
                problem("/netboot/rootfs", &format!("there is no image {name}"));
            }
        }
    }
    found
}

fn by_url(profile: &Profile, url: &UrlDelivery, problem: &mut impl FnMut(&str, &str)) {
    let at = "/deliver/url/pointer";
    match (profile.method, &url.pointer) {
        (Method::Netboot, Some(_)) => {
            problem(at, "the URL stands on the kernel command line: there is no disk to put a pointer on");
        }
        (Method::Netboot, None) => {}
        (Method::Disk, None) => {
            let what =
                "where on the written disk does the node find its URL? say pointer: {partition, directory}";
            problem("/deliver/url", what);
        }
        (Method::Disk, Some(pointer)) => {
            placement(at, pointer, problem);
            if !has_pointer(profile.os) {
                problem("/deliver/url", "this operating system reads no file that leads to a URL: use place");
            }
        }
    }
}

/// Whether a file on the disk can send the operating system on to a URL: a NoCloud `seedfrom`, an Ignition `replace`.
fn has_pointer(os: OperatingSystem) -> bool {
    matches!(os, OperatingSystem::CloudInit | OperatingSystem::Flatcar | OperatingSystem::FedoraCoreos)
}

fn placement(at: &str, place: &Placement, problem: &mut impl FnMut(&str, &str)) {
    match &place.partition {
        PartitionSelector::Number(0) => {
            problem(&format!("{at}/partition"), "partitions are counted from 1");
        }
        PartitionSelector::New(label) if !is_fat_label(label) => {
            problem(&format!("{at}/partition/new"), "a FAT label has 1 to 11 letters, digits, - or _");
        }
        _ => {}
    }
}

fn is_fat_label(label: &str) -> bool {
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    (1..=11).contains(&label.len()) && label.bytes().all(fine)
}
