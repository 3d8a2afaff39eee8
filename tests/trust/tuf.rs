//! TUF: a real repository with its own time, and one of ours that does all that an attacker who holds the mirror, an old
//! state, or one key can do.

use super::{
    Site,
    repository::{Repository, TARGET, id, key, role, sign, target},
};
use crate::content::repository as project;
use provisioner::machine::Time;
use serde_json::{Value, json};
use std::fs;

const IMAGE: &[u8] = b"the disk's bytes";

struct House {
    site: Site,
    repository: Repository,
    policy: Value,
}

fn house() -> House {
    let site = Site::new(IMAGE);
    let repository = Repository::new(site.path().join("tuf"), IMAGE);
    let root = repository.publish_root(1, &[1]);
    repository.publish();
    site.write("root.json", root);
    let policy =
        json!({"tuf": {"repository": {"folder": "tuf"}, "root": {"file": "root.json"}, "target": TARGET}});
    House { site, repository, policy }
}

impl House {
    fn good(&self) {
        self.site.verify(&self.policy).unwrap_or_else(|e| panic!("{e}"));
    }

    fn refused(&self, expected: &str) {
        let told = self.site.refusal(&self.policy);
        assert!(told.starts_with("image i: signature.tuf.") && told.contains(expected), "{expected}: {told}");
    }
}

/// theupdateframework/tuf-conformance's static repository, made by tuf-on-ci, at the time that belongs to it.
#[test]
fn a_real_repository_is_followed_to_a_delegated_target() {
    let fixture = project().join("tests/fixtures/tuf-on-ci");
    let name = fs::read_to_string(fixture.join("targetpath")).unwrap();
    let file = "45f337ee451b4c098d121d09cc224bacc7794503ac58a47a78cfe7ebefb7fab3.artifact";
    let mut site = Site::new(&fs::read(fixture.join("targets/delegatedrole").join(file)).unwrap());
    for entry in fs::read_dir(fixture.join("metadata")).unwrap() {
        let entry = entry.unwrap();
        site.write(&format!("tuf/{}", entry.file_name().to_str().unwrap()), fs::read(entry.path()).unwrap());
    }
    site.write("root.json", fs::read(fixture.join("initial_root.json")).unwrap());
    let policy = json!({"tuf": {"repository": {"folder": "tuf"}, "root": {"file": "root.json"}, "target": name.trim()}});
    // 2025-02-09 09:17:23, as its faketime says.
    site.now = Time(1_739_092_643_000);
    site.verify(&policy).unwrap();
    site.now = Time(4_000_000_000_000);
    assert!(site.refusal(&policy).contains("expired at"));
    site.now = Time(1_739_092_643_000);
    site.write("i.img", "another artifact of another length");
    site.refusal(&policy);
}

#[test]
fn a_target_is_its_length_and_its_hashes() {
    let mut house = house();
    house.good();
    for (described, expected) in [
        (
            json!({"length": IMAGE.len() + 1, "hashes": target(IMAGE)["hashes"]}),
            "has 16 bytes, the target 17",
        ),
        (json!({"length": IMAGE.len(), "hashes": {"sha256": "0".repeat(64)}}), "the file has sha256"),
        (json!({"length": IMAGE.len(), "hashes": {"sha512": "0".repeat(128)}}), "the file has sha512"),
        (json!({"length": IMAGE.len(), "hashes": {"md5": "0"}}), "neither sha256 nor sha512"),
    ] {
        house.repository.targets = json!({ TARGET: described });
        house.repository.step();
        house.refused(expected);
    }
    house.repository.targets = json!({"images/other.img": target(IMAGE)});
    house.repository.step();
    house.refused("no role that may speak of it has a target images/i.img");
}

#[test]
fn nothing_that_was_seen_goes_back() {
    let mut house = house();
    house.repository.step();
    let old = ["timestamp.json", "2.snapshot.json", "2.targets.json"]
        .map(|name| (name, fs::read(house.repository.folder.join(name)).unwrap()));
    house.good();
    house.repository.step();
    house.good();
    // The whole old state, still signed and not expired; each `good` and `refused` is a start of the server.
    old.iter().for_each(|(name, bytes)| house.repository.put(name, bytes));
    house.refused("timestamp.json has version 2, but version 3 was seen before: it was rolled back");
    house.repository.step();
    house.good();
    // New timestamp, old snapshot: somebody has the timestamp's key.
    house.repository.versions = [9, 3, 4];
    house.repository.publish();
    house.refused("snapshot.json has version 3, but version 4");
    // New timestamp and snapshot, old targets.
    house.repository.versions = [10, 10, 3];
    house.repository.publish();
    house.refused("targets.json has version 3, but version 4");
    // Or none at all: it was seen.
    let bytes = fs::read(house.repository.folder.join("timestamp.json")).unwrap();
    house.repository.put("timestamp.json", &bytes[..bytes.len() - 1]);
    house.refused("malformed");
}

#[test]
fn a_frozen_repository_is_refused_when_its_time_is_over() {
    let mut house = house();
    let soon = "2027-01-16T00:00:00Z";
    for which in 0..3 {
        house.repository.expires = ["2099-01-01T00:00:00Z"; 3];
        house.repository.expires[which] = soon;
        house.repository.step();
        house.site.now = Time(1_800_000_000_000);
        house.good();
        // An hour after it.
        house.site.now = Time(1_800_061_200_000);
        house.refused(&format!("expired at {soon}"));
    }
    let expired = sign(&house.repository.root(2, "2020-01-01T00:00:00Z"), &[1]);
    house.repository.put("2.root.json", &expired);
    house.site.now = Time(1_800_000_000_000);
    house.refused("2.root.json expired");
}

#[test]
fn a_role_needs_its_own_keys_and_its_threshold() {
    let mut house = house();
    house.repository.keys.timestamp = 9;
    house.repository.step();
    house.refused("timestamp.json has 0 of 1 needed signatures by the keys");
    house.repository.keys.timestamp = 2;
    house.repository.keys.snapshot = 2;
    house.repository.step();
    house.refused("snapshot.json has 0 of 1");
    house.repository.keys.snapshot = 3;
    house.repository.keys.targets = 3;
    house.repository.step();
    house.refused("targets.json has 0 of 1");
    // Three of five roots, of whom two sign.
    house.repository.keys.targets = 4;
    house.repository.keys.root = vec![1, 11, 12, 13, 14];
    house.repository.keys.root_threshold = 3;
    house.repository.publish_root(2, &[1, 11]);
    house.repository.step();
    house.refused("2.root.json has 2 of 3");
    house.repository.publish_root(2, &[1, 1, 1]);
    house.refused("2.root.json has 1 of 3");
    house.repository.publish_root(2, &[11, 12, 13]);
    house.refused("2.root.json has 0 of 1");
    house.repository.publish_root(2, &[1, 11, 12]);
    house.good();
}

#[test]
fn a_new_root_is_remembered_and_its_keys_free_a_role_of_a_stolen_one() {
    let mut house = house();
    house.good();
    // The timestamp's key was stolen: it signed a version that nothing honest reaches.
    house.repository.versions[0] = 1_000_000;
    house.repository.publish();
    house.good();
    house.repository.keys.timestamp = 22;
    house.repository.publish_root(2, &[1]);
    house.repository.versions = [3, 3, 3];
    house.repository.publish();
    house.good();
    // The mirror forgets the new root, and offers what the old key signs.
    fs::remove_file(house.repository.folder.join("2.root.json")).unwrap();
    house.good();
    house.repository.keys.timestamp = 2;
    house.repository.step();
    house.refused("timestamp.json has 0 of 1");
    // A root that skips a version, or says another than its name.
    house.repository.keys.timestamp = 22;
    house.repository.step();
    let five = sign(&house.repository.root(5, "2099-01-01T00:00:00Z"), &[1]);
    house.repository.put("3.root.json", &five);
    house.refused("3.root.json has version 5");
}

#[test]
fn files_of_two_states_are_not_mixed_and_none_is_endless() {
    let mut house = house();
    house.repository.step();
    let targets = house.repository.folder.join("2.targets.json");
    let mut bytes = fs::read(&targets).unwrap();
    bytes.insert(0, b' ');
    fs::write(&targets, &bytes).unwrap();
    house.refused("targets.json cannot be read: it has more than");
    bytes.remove(0);
    bytes.rotate_left(1);
    fs::write(&targets, &bytes).unwrap();
    house.refused("targets.json is not the one that the repository's signed metadata names");
    fs::remove_file(&targets).unwrap();
    house.refused("there is no 2.targets.json");
    house.repository.put("timestamp.json", &vec![b' '; 70_000]);
    house.refused("timestamp.json cannot be read: it has more than 65536 bytes");
    fs::remove_dir_all(&house.repository.folder).unwrap();
    house.refused("No such file");
}

#[test]
fn a_delegated_role_speaks_only_of_its_paths() {
    let mut house = house();
    let delegated = |name: &str, paths: &[&str], seed: u8, terminating: bool| {
        let mut role = role(&[seed], 1);
        role["name"] = json!(name);
        role["paths"] = json!(paths);
        role["terminating"] = json!(terminating);
        role
    };
    house.repository.targets = json!({});
    house.repository.publish_role("role-a", 31, &json!({ TARGET: target(b"forged") }), None);
    house.repository.publish_role("role-b", 32, &json!({ TARGET: target(IMAGE) }), None);
    let keys = json!({id(31): key(31), id(32): key(32)});
    let mut delegate = |roles: Value| {
        house.repository.delegations = Some(json!({"keys": keys, "roles": roles}));
        house.repository.step();
        house.site.verify(&house.policy).map(|_| ()).map_err(|e| e.to_string())
    };
    // The first one may not speak of it, whatever it says.
    delegate(json!([
        delegated("role-a", &["other/*"], 31, true),
        delegated("role-b", &["images/*"], 32, false)
    ]))
    .unwrap();
    // In their order.
    let told = delegate(json!([
        delegated("role-a", &["images/*"], 31, false),
        delegated("role-b", &["images/*"], 32, false)
    ]));
    assert!(told.unwrap_err().contains("the target 6"));
    // A terminating role that does not know it ends the search.
    let told = delegate(json!([delegated("role-b", &["images/*"], 31, false)])).unwrap_err();
    assert!(told.contains("role-b.json has 0 of 1"), "{told}");
    // Circles end.
    let circle = json!({"keys": keys, "roles": [delegated("role-a", &["images/*"], 31, false)]});
    house.repository.publish_role("role-a", 31, &json!({}), Some(&circle));
    house.repository.delegations = Some(circle);
    house.repository.step();
    house.refused("no role that may speak of it");
}
