//! The talk around the image: claim, licence, wipe, config, results, and a server that goes away.

use super::{
    machine::{DISK_BYTES, Machine, could_boot, disk_image, impatient},
    server::{Plan, Server, write_order},
};
use provisioner_agent::{patience::Patience, run::Ended};
use provisioner_wire::order::{
    Config, ConfigFile, HandOver, ImageFormat, LicenceId, Order, Outcome, PartitionSelector, Place,
    PlaceConfig, Step, Wipe, WipeMethod, path,
};
use std::{collections::HashMap, net::TcpListener, time::Duration};

fn run(plan: Plan) -> (Machine, Server, Ended) {
    let machine = Machine::new();
    let server = Server::start(plan);
    let ended = machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    (machine, server, ended)
}

fn place(selector: PartitionSelector) -> Order {
    let place = Place { partition: selector, directory: "/var/lib/cloud/seed/nocloud".into() };
    Order::PlaceConfig(PlaceConfig { disk: Machine::identity(), place })
}

const SECRET: &str = "abcdef.0123456789abcdef";

fn config() -> Config {
    let file =
        |name: &str, contents: &str| ConfigFile { name: name.into(), contents: contents.into(), mode: 0o600 };
    Config { files: vec![file("user-data", SECRET), file("meta-data", "instance-id: node-1\n")] }
}

#[test]
fn image_config_reboot() {
    let raw = disk_image(DISK_BYTES / 2, 3);
    let machine = Machine::new();
    // The kernel would make this node when it reads the new table.
    machine.put("dev/vda1", &raw[1 << 20..2 << 20]);
    let server = Server::start(Plan {
        orders: vec![write_order(&raw, &raw, ImageFormat::Raw), place(PartitionSelector::Number(1))],
        image: raw.clone(),
        config: Some(config()),
        ..Plan::default()
    });
    let ended = machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    assert_eq!(ended, Ended::Reboot("the plan is done".into()));
    let seen = server.seen.lock().unwrap();
    let steps: Vec<Step> = seen.results.iter().map(|r| r.step).collect();
    assert_eq!(steps, [Step::WriteImage, Step::PlaceConfig, Step::Reboot]);
    assert!(seen.results.iter().all(|r| matches!(r.outcome, Outcome::Done { .. })), "{:?}", seen.results);
    assert_eq!((seen.spent.len(), seen.claims, seen.unsigned), (1, 1, 0));
    // The table was moved to the end of the larger disk; all between the ends is the image.
    let disk = machine.disk();
    assert!(disk[1 << 20..raw.len()] == raw[1 << 20..] && could_boot(&disk));
    let config = gpt::GptConfig::new().only_valid_headers(true);
    let table = config.open_from_device(std::io::Cursor::new(disk)).unwrap();
    assert_eq!(table.partitions()[&1].name, "root");
    assert!(seen.progress.iter().any(|p| p.done_bytes > 0 && p.total_bytes == 2 * raw.len() as u64));
}

#[test]
fn the_config_is_placed_and_its_secret_is_nowhere_else() {
    let machine = Machine::new();
    machine.put("dev/vda1", &disk_image(DISK_BYTES, 1)[1 << 20..2 << 20]);
    let plan = Plan {
        orders: vec![place(PartitionSelector::Label("root".into()))],
        config: Some(config()),
        ..Plan::default()
    };
    let server = Server::start(plan);
    machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
    let seed = machine.mounted().join("var/lib/cloud/seed/nocloud");
    assert_eq!(std::fs::read_to_string(seed.join("user-data")).unwrap(), SECRET);
    let said = format!("{:?} {:?}", seen.progress, seen.results);
    assert!(said.contains("placed user-data, meta-data") && !said.contains(SECRET), "{said}");
    assert!(could_boot(&machine.disk()), "placing a config touched the disk's table");
}

#[test]
fn a_disk_is_handed_over_with_its_licence_spent_and_nothing_written() {
    let over = |disk| Order::HandOver(HandOver { disk, licence: LicenceId(uuid::Uuid::nil()) });
    let machine = Machine::new();
    let before = machine.disk();
    let server = Server::start(Plan { orders: vec![over(Machine::identity())], ..Plan::default() });
    let ended = machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    assert_eq!(ended, Ended::Reboot("the plan is done".into()));
    let seen = server.seen.lock().unwrap();
    let steps: Vec<Step> = seen.results.iter().map(|r| r.step).collect();
    assert_eq!(steps, [Step::HandOver, Step::Reboot]);
    assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
    assert_eq!(seen.spent.len(), 1);
    assert!(machine.disk() == before, "the agent wrote on a disk that it handed over");
    drop(seen);
    // Another disk than the licensed one: nothing is spent.
    let mut other = Machine::identity();
    other.serial = Some("another".into());
    let (_, server, _) = run(Plan { orders: vec![over(other)], ..Plan::default() });
    let seen = server.seen.lock().unwrap();
    assert!(matches!(seen.results[0].outcome, Outcome::Failed { .. }), "{:?}", seen.results);
    assert!(seen.spent.is_empty());
}

#[test]
fn a_config_is_put_on_a_partition_that_is_made_for_it() {
    let machine = Machine::new();
    machine.put("dev/vda1", &disk_image(DISK_BYTES, 1)[1 << 20..2 << 20]);
    let new = |directory: &str| {
        let place = Place { partition: PartitionSelector::New("CIDATA".into()), directory: directory.into() };
        Order::PlaceConfig(PlaceConfig { disk: Machine::identity(), place })
    };
    let orders = vec![new("/")];
    let server = Server::start(Plan { orders, config: Some(config()), ..Plan::default() });
    machine.run(&server.address, &server.key, &server.boot_id).unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
    let table = gpt::GptConfig::new().only_valid_headers(true);
    let table = table.open_from_device(std::io::Cursor::new(machine.disk())).unwrap();
    let names: Vec<_> = table.partitions().values().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["root", "provisioner-seed"]);
    let said = format!("{:?} {:?}", seen.progress, seen.results);
    assert!(said.contains("new, CIDATA, FAT") && !said.contains(SECRET), "{said}");
    let (_, server, _) = run(Plan { orders: vec![new("/deep")], config: Some(config()), ..Plan::default() });
    let seen = server.seen.lock().unwrap();
    assert!(format!("{:?}", seen.results).contains("its directory is /"), "{:?}", seen.results);
}

#[test]
fn a_refused_licence_leaves_the_disk_as_it_was() {
    let raw = disk_image(DISK_BYTES / 2, 3);
    for order in [
        write_order(&raw, &raw, ImageFormat::Raw),
        Order::Wipe(Wipe {
            disks: vec![Machine::identity()],
            licence: LicenceId(uuid::Uuid::nil()),
            method: WipeMethod::Overwrite,
        }),
    ] {
        let machine = Machine::new();
        let before = machine.disk();
        let refuse = HashMap::from([(path::LICENCE, (usize::MAX, 403))]);
        let server =
            Server::start(Plan { orders: vec![order], image: raw.clone(), refuse, ..Plan::default() });
        machine.run(&server.address, &server.key, &server.boot_id).unwrap();
        let seen = server.seen.lock().unwrap();
        let Outcome::Failed { reason } = &seen.results[0].outcome else { panic!("{:?}", seen.results) };
        assert!(reason.contains("403: as the test wants it"), "{reason}");
        assert!(machine.disk() == before && seen.image_requests == 0);
    }
}

#[test]
fn a_disk_that_is_not_there_is_refused_with_the_list() {
    let raw = disk_image(DISK_BYTES / 2, 3);
    let mut order = write_order(&raw, &raw, ImageFormat::Raw);
    if let Order::WriteImage(write) = &mut order {
        write.disk.serial = Some("another".into());
    }
    let (machine, server, _) = run(Plan { orders: vec![order], image: raw, ..Plan::default() });
    let seen = server.seen.lock().unwrap();
    let Outcome::Failed { reason } = &seen.results[0].outcome else { panic!("{:?}", seen.results) };
    assert!(reason.contains("no disk is another") && reason.contains("vda = lab-disk-1"), "{reason}");
    assert!(seen.spent.is_empty() && could_boot(&machine.disk()));
}

#[test]
fn a_wipe_leaves_zeros() {
    for method in [WipeMethod::Discard, WipeMethod::Overwrite, WipeMethod::Metadata] {
        let wipe = Wipe { disks: vec![Machine::identity()], licence: LicenceId(uuid::Uuid::nil()), method };
        let (machine, server, _) = run(Plan { orders: vec![Order::Wipe(wipe)], ..Plan::default() });
        let seen = server.seen.lock().unwrap();
        assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
        assert_eq!(seen.spent[0].disks, [Machine::identity()]);
        let disk = machine.disk();
        assert!(!could_boot(&disk));
        assert!(method == WipeMethod::Metadata || disk.iter().all(|byte| *byte == 0));
        let wiped = &seen.results[0].wiped[0];
        assert_eq!((&wiped.disk, wiped.asked), (&Machine::identity(), method));
        assert_eq!(serde_json::to_value(wiped.done).unwrap(), serde_json::to_value(method).unwrap());
        assert!(wiped.passed_over.is_empty() && wiped.sampled.zero_now == wiped.sampled.with_data_before);
    }
}

#[test]
fn a_purge_that_the_drive_cannot_do_is_refused_and_the_disk_is_as_it_was() {
    let method = WipeMethod::Purge;
    let wipe = Wipe { disks: vec![Machine::identity()], licence: LicenceId(uuid::Uuid::nil()), method };
    let (machine, server, _) = run(Plan { orders: vec![Order::Wipe(wipe)], ..Plan::default() });
    let seen = server.seen.lock().unwrap();
    let Outcome::Failed { reason } = &seen.results[0].outcome else { panic!("{:?}", seen.results) };
    assert!(reason.contains("a purge is asked for"), "{reason}");
    assert!(could_boot(&machine.disk()) && seen.results[0].wiped.is_empty());
}

#[test]
fn a_generation_that_is_over_ends_in_a_reboot() {
    let raw = disk_image(DISK_BYTES / 2, 3);
    for (at, status) in [
        (path::CLAIM, 410),
        (path::CLAIM, 409),
        (path::ORDER, 409),
        (path::LICENCE, 410),
        (path::RESULT, 409),
    ] {
        let (machine, server, ended) = run(Plan {
            orders: vec![write_order(&raw, &raw, ImageFormat::Raw)],
            image: raw.clone(),
            refuse: HashMap::from([(at, (usize::MAX, status))]),
            ..Plan::default()
        });
        assert!(
            matches!(&ended, Ended::Reboot(reason) if reason.contains(&status.to_string())),
            "{at} {ended:?}"
        );
        let seen = server.seen.lock().unwrap();
        assert!(seen.results.is_empty());
        assert!(at == path::RESULT || could_boot(&machine.disk()), "{at}: the disk was touched");
    }
}

#[test]
fn errors_and_silence_on_every_question_are_outlived() {
    let raw = disk_image(DISK_BYTES / 2, 3);
    for status in [500, 503, 429, 0] {
        let paths = [path::CLAIM, path::ORDER, path::LICENCE, path::RESULT, path::PROGRESS];
        let (machine, server, _) = run(Plan {
            orders: vec![write_order(&raw, &raw, ImageFormat::Raw)],
            image: raw.clone(),
            refuse: paths.into_iter().map(|p| (p, (3, status))).collect(),
            ..Plan::default()
        });
        let seen = server.seen.lock().unwrap();
        assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
        assert!(could_boot(&machine.disk()) && !seen.progress.is_empty());
        let said: Vec<&str> = seen.progress.iter().flat_map(|p| &p.log).map(|l| l.text.as_str()).collect();
        assert!(said.iter().any(|line| line.contains("claimed machine node-1, generation 3")), "{said:?}");
    }
}

/// The server is not there at all when the agent starts, and comes a second later.
#[test]
fn a_server_that_comes_late_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let raw = disk_image(DISK_BYTES / 2, 3);
    let machine = Machine::new();
    let url = format!("http://{address}");
    let late = {
        let (url, raw) = (url.clone(), raw.clone());
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            let plan = Plan {
                orders: vec![write_order(&raw, &raw, ImageFormat::Raw)],
                image: raw,
                ..Plan::default()
            };
            Server::serve(plan, TcpListener::bind(address).unwrap(), url)
        })
    };
    let twin = Server::start(Plan::default());
    let patience = Patience { give_up_after: Duration::from_secs(30), ..impatient() };
    machine.run_with(&url, &twin.key, &twin.boot_id, patience).unwrap();
    let server = late.join().unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(matches!(seen.results[0].outcome, Outcome::Done { .. }), "{:?}", seen.results);
}

#[test]
fn a_server_that_never_comes_is_given_up_and_nothing_was_written() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let machine = Machine::new();
    let before = machine.disk();
    let twin = Server::start(Plan::default());
    let error = machine.run(&address, &twin.key, &twin.boot_id).unwrap_err().to_string();
    assert!(error.contains("did not answer for"), "{error}");
    assert!(machine.disk() == before);
}
