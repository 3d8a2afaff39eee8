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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn image(name: &str) -> ImageDeclaration {
        let source = json!({ "file": "f" });
        let image = json!({ "name": name, "source": source, "format": "raw", "sha256": "ab".repeat(32) });
        serde_json::from_value(image).unwrap()
    }

    /// The mistakes of a profile with these keys, as `place: message`.
    fn mistakes(keys: Value) -> Vec<String> {
        let mut profile =
            json!({ "name": "p", "image": "k", "os": "flatcar", "template": "t", "role": "worker" });
        for (key, value) in keys.as_object().unwrap() {
            profile[key] = value.clone();
        }
        let profile = serde_json::from_value(profile).unwrap();
        let found = delivery(&profile, &[image("k"), image("i")]);
        found.into_iter().map(|(place, what)| format!("{place}: {what}")).collect()
    }

    #[test]
    fn what_fits_together_is_no_mistake() {
        let place = json!({ "partition": { "label": "OEM" }, "directory": "/" });
        let netboot = json!({ "initramfs": ["i"] });
        for good in [
            json!({ "place": place }),
            json!({ "deliver": { "place": place } }),
            json!({ "deliver": { "place": { "partition": { "new": "CIDATA" }, "directory": "/" } } }),
            json!({ "deliver": { "url": { "over": "http", "pointer": place } } }),
            json!({ "method": "netboot", "netboot": netboot, "deliver": { "url": {} } }),
        ] {
            assert_eq!(mistakes(good.clone()), [""; 0], "{good}");
        }
    }

    #[test]
    fn each_contradiction_is_named_at_its_place() {
        let place = json!({ "partition": { "label": "OEM" }, "directory": "/" });
        let at = |partition: Value| json!({ "partition": partition, "directory": "/" });
        for (bad, expected) in [
            (json!({}), ": how does the config reach the node"),
            (json!({ "place": place, "deliver": { "place": place } }), "/deliver: say either"),
            (json!({ "place": at(json!({ "number": 0 })) }), "/place/partition: partitions are counted"),
            (
                json!({ "place": at(json!({ "new": "too long a label" })) }),
                "/place/partition/new: a FAT label",
            ),
            (json!({ "deliver": { "url": {} } }), "/deliver/url: where on the written disk"),
            (
                json!({ "os": "talos", "deliver": { "url": { "pointer": place } } }),
                "/deliver/url: this operating system reads no",
            ),
            (json!({ "method": "netboot", "deliver": { "url": {} } }), ": method: netboot needs netboot"),
            (json!({ "method": "netboot", "netboot": {}, "place": place }), "/place: an installer"),
            (
                json!({ "method": "netboot", "netboot": { "initramfs": ["i", "x"] }, "deliver": { "url": {} } }),
                "/netboot/initramfs/1: there is no image x",
            ),
            (
                json!({ "method": "netboot", "netboot": { "rootfs": "y" }, "deliver": { "url": {} } }),
                "/netboot/rootfs: there is no image y",
            ),
            (
                json!({ "method": "netboot", "netboot": {}, "deliver": { "url": { "pointer": place } } }),
                "/deliver/url/pointer: the URL stands",
            ),
            (json!({ "netboot": {}, "place": place }), "/netboot: is for method: netboot"),
        ] {
            let found = mistakes(bad.clone());
            assert!(found.iter().any(|m| m.starts_with(expected)), "{bad}: {found:?}");
        }
    }
}
