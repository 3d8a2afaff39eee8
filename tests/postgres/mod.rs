//! The store on a real Postgres: a private cluster in a temporary folder, on a socket in it, run by `nobody` because
//! Postgres refuses root.

use provisioner::{
    machine::{Event, Machine, MachineId, Time, Verdict},
    store::{self, Db, StoreError, audit, statements},
    workflow::turn::turn,
};
use sqlx::{Executor, SqlSafeStr, SqlStr};
use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use uuid::Uuid;

/// A running cluster; stopped when dropped.
struct Cluster {
    folder: tempfile::TempDir,
    bin: PathBuf,
}

impl Cluster {
    fn start() -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql")
            .expect("Debian's postgresql is installed by `cargo xtask test`");
        let bin =
            versions.map(|v| v.unwrap().path().join("bin")).find(|b| b.join("initdb").exists()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let cluster = Self { folder, bin };
        let data = cluster.data();
        cluster.run("initdb", &["-D", &data, "-U", "test", "-A", "trust", "-N"]);
        let options = format!("-k {} -c listen_addresses= -c fsync=off", cluster.folder.path().display());
        let log = cluster.folder.path().join("log").display().to_string();
        cluster.run("pg_ctl", &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
        cluster
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let ran = Command::new("setpriv")
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
            .arg(self.bin.join(program))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(ran.success(), "{program} {arguments:?}: {ran}");
    }

    async fn db(&self) -> Db {
        Db::postgres(&format!("postgres://test@localhost/postgres?host={}", self.folder.path().display()))
            .await
            .unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

fn machine(n: u128) -> Machine {
    Machine::declared(MachineId(Uuid::from_u128(n)), format!("m{n}").parse().unwrap(), true, Time(1))
}

#[tokio::test]
async fn every_statement_prepares_and_the_engine_turns() {
    let cluster = Cluster::start();
    let db = cluster.db().await;
    let Db::Postgres(pool) = &db else { unreachable!() };
    for statement in statements() {
        let prepared = (&mut *pool.acquire().await.unwrap())
            .prepare(SqlStr::from_static(statement).into_sql_str())
            .await;
        prepared.unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    let mut tx = db.write().await.unwrap();
    store::machines::insert(&mut tx, &machine(1), Time(1)).await.unwrap();
    store::machines::set_macs(&mut tx, machine(1).id, &["52:54:00:00:00:01".parse().unwrap()]).await.unwrap();
    store::secrets::put(&mut tx, "m1", "bmc-password", &[1, 2, 3]).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = db.write().await.unwrap();
    let twice = store::machines::insert(&mut tx, &machine(1), Time(1)).await;
    assert!(matches!(twice, Err(StoreError::Exists(_))), "{twice:?}");
    drop(tx);
    let mut tx = db.write().await.unwrap();
    let asked = Event::Provision { workflow: Uuid::from_u128(2), profile: "p".into() };
    let seq = store::events::append(&mut tx, machine(1).id, &asked, Time(2)).await.unwrap();
    tx.commit().await.unwrap();
    let turned = turn(&db, machine(1).id, Time(3)).await.unwrap().unwrap();
    assert!(turned.act.is_some());
    let mut tx = db.read().await.unwrap();
    assert_eq!(store::events::verdict(&mut tx, seq).await.unwrap(), Some(Verdict::Accepted));
    assert_eq!(store::machines::find(&mut tx, machine(1).id).await.unwrap(), Some(turned.machine));
    assert_eq!(store::secrets::get(&mut tx, "m1", "bmc-password").await.unwrap(), Some(vec![1, 2, 3]));
    assert_eq!(audit::verify(&mut tx).await.unwrap(), Ok(1));
    drop(tx);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_does_not_fork_under_concurrent_writers() {
    let cluster = Cluster::start();
    let db = cluster.db().await;
    let writers = (0..8).map(|writer| {
        let db = db.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                let entry = audit::Entry {
                    at: Time(n),
                    machine: machine(writer).id,
                    generation: 1,
                    kind: audit::Kind::Transition,
                    before: "a".into(),
                    after: "b".into(),
                    cause: "test".into(),
                    reason: format!("{writer} {n}"),
                };
                let mut tx = db.write().await.unwrap();
                audit::append(&mut tx, &entry).await.unwrap();
                tx.commit().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(audit::verify(&mut db.read().await.unwrap()).await.unwrap(), Ok(160));
    let Db::Postgres(pool) = &db else { unreachable!() };
    assert!(sqlx::query("UPDATE audit SET reason = ''").execute(pool).await.is_err(), "append-only");
    db.close().await;
}

#[test]
fn both_databases_have_the_same_tables_and_columns() {
    let columns = |folder: &str| -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
        let mut found = BTreeSet::new();
        for file in std::fs::read_dir(path).unwrap() {
            let (text, mut table) = (std::fs::read_to_string(file.unwrap().path()).unwrap(), String::new());
            for line in text.lines() {
                if let Some(name) = line.strip_prefix("CREATE TABLE ") {
                    table = name.trim_end_matches(" (").to_owned();
                } else if line.starts_with("    ")
                    && line.trim_start().starts_with(|c: char| c.is_ascii_lowercase())
                {
                    found.insert(format!("{table}.{}", line.split_whitespace().next().unwrap()));
                }
            }
        }
        found
    };
    let (sqlite, postgres) = (columns("sqlite"), columns("postgres"));
    assert!(sqlite.len() > 30);
    assert_eq!(sqlite, postgres);
}
