//! What is wrong is refused before any power change: the real engine, store, templates and validators, and a BMC door
//! that counts who comes.

use provisioner::{
    bmc::{Answer, Bmc, BmcDoor, BmcError, BmcTarget, Cause, governor::Policy, visit::Visits},
    clock::Clock,
    cluster::Clusters,
    image::Images,
    machine::{Event, Machine, MachineId, Time, Verdict},
    os::{Site, read_templates},
    secret::Keyring,
    store::{self, Db, declared::Kind},
    workflow::{Engine, perform::Performer},
};
use provisioner_wire::{ids::hex, machine::Phase};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// A BMC that is never there, and counts the visits.
struct Door(Arc<AtomicUsize>);

impl BmcDoor for Door {
    fn open(&self, target: BmcTarget, _within: Duration) -> Answer<'_, Box<dyn Bmc>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let cause = Cause::Unreachable("nobody home".into());
        Box::pin(async move { Err(BmcError { host: target.address.host(), doing: "opening", cause }) })
    }
}

struct House {
    engine: Engine,
    visits: Arc<AtomicUsize>,
    machine: MachineId,
    _folder: tempfile::TempDir,
}

const IMAGE: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3];

fn hardware() -> Value {
    json!({
        "name": "node-1",
        "nics": [{"mac": "52:54:00:00:00:01", "address": "10.88.0.11/24"}],
        "bmc": {"url": "http://127.0.0.1:9/redfish/v1/Systems/1", "username": "admin", "password": "stored"},
        "profile": "p",
    })
}

fn profile() -> Value {
    json!({
        "name": "p", "image": "i", "os": "cloud-init", "template": "cloud-init", "role": "worker",
        "place": {"partition": {"label": "root"}, "directory": "/var/lib/cloud/seed/nocloud"},
        "values": {"ssh_authorized_keys": ["ssh-ed25519 AAAA a@b"]},
    })
}

fn image() -> Value {
    json!({"name": "i", "source": {"file": "i.zst"}, "format": "zst", "sha256": hex(&Sha256::digest(IMAGE))})
}

async fn house(profile: Value, image: Value) -> House {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::write(folder.path().join("i.zst"), IMAGE).unwrap();
    let db = Db::sqlite(&folder.path().join("db")).await.unwrap();
    let keyring = Arc::new(Keyring::open(folder.path(), None).unwrap());
    let machine = Machine::declared(MachineId(Uuid::from_u128(1)), "node-1".parse().unwrap(), true, Time(0));
    let mut tx = db.write().await.unwrap();
    store::machines::insert(&mut tx, &machine, Time(0)).await.unwrap();
    for (kind, name, spec) in
        [(Kind::Machine, "node-1", hardware()), (Kind::Profile, "p", profile), (Kind::Image, "i", image)]
    {
        store::declared::put(&mut tx, kind, name, &spec, Time(0)).await.unwrap();
    }
    let sealed = keyring.seal("node-1", "bmc-password", b"hunter2").unwrap();
    store::secrets::put(&mut tx, "node-1", "bmc-password", &sealed).await.unwrap();
    tx.commit().await.unwrap();
    let visits = Arc::new(AtomicUsize::new(0));
    let clock = Clock::system();
    let now = clock.clone();
    let performer = Performer {
        db: db.clone(),
        clock: clock.clone(),
        keyring: keyring.clone(),
        clusters: Arc::new(Clusters::new(db.clone(), keyring, clock.clone())),
        templates: Arc::new(read_templates(&root.join("templates/machine-config")).unwrap()),
        images: Arc::new(Images::new(folder.path())),
        site: Arc::new(|machine| Site {
            phone_home_url: format!("https://127.0.0.1/node/v1/{machine}/ready"),
            phone_home_http_url: format!("http://127.0.0.1/node/v1/{machine}/ready"),
            ca_pem: "pem".into(),
        }),
        visits: Visits::new(Box::new(Door(visits.clone())), Policy::USUAL, move || now.now()),
    };
    let engine = Engine::new(db, clock);
    tokio::spawn(engine.clone().run(Arc::new(performer)));
    House { engine, visits, machine: machine.id, _folder: folder }
}

/// The machine once its pre-flight has ended, and how often its BMC was visited.
async fn provisioned(house: &House) -> (Machine, usize) {
    let event = Event::Provision { workflow: Uuid::from_u128(7), profile: "p".into() };
    assert_eq!(house.engine.submit(house.machine, &event).await.unwrap(), Verdict::Accepted);
    for _ in 0..500 {
        let mut tx = house.engine.db().read().await.unwrap();
        let machine = store::machines::find(&mut tx, house.machine).await.unwrap().unwrap();
        let visits = house.visits.load(Ordering::SeqCst);
        if machine.phase == Phase::Failed || visits > 0 {
            return (machine, visits);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the pre-flight does not end");
}

#[tokio::test]
async fn what_is_good_reaches_the_bmc() {
    let (machine, visits) = provisioned(&house(profile(), image()).await).await;
    assert_eq!((machine.phase, visits), (Phase::Powering, 1), "{}", machine.reason);
}

#[tokio::test]
async fn what_is_wrong_does_not() {
    let mut missing = profile();
    missing["values"] = json!({});
    let mut wrong_type = profile();
    wrong_type["values"]["ssh_authorized_keys"] = json!(5);
    let mut other_image = image();
    other_image["sha256"] = json!("0".repeat(64));
    let mut no_template = profile();
    no_template["template"] = json!("nowhere");
    let mut no_image = profile();
    no_image["image"] = json!("nothing");
    for (profile, image, expected) in [
        (missing, image(), &["cloud-init/user-data.yaml.j2:", "ssh_authorized_keys"][..]),
        (wrong_type, image(), &["user-data:", "ssh_authorized_keys"]),
        (profile(), other_image, &["image i", "SHA-256"]),
        (no_template, image(), &["nowhere"]),
        (no_image, image(), &["no image nothing"]),
    ] {
        let house = house(profile, image).await;
        let (machine, visits) = provisioned(&house).await;
        assert_eq!((machine.phase, visits), (Phase::Failed, 0));
        for word in expected {
            assert!(machine.reason.contains(word), "{word} in {}", machine.reason);
        }
    }
}
