//! The store on a real SQLite file.

use super::*;
use crate::machine::{Event, Machine, MachineId, Time, Verdict};
use provisioner_wire::Mac;
use uuid::Uuid;

async fn fresh() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(&folder.path().join("db")).await.unwrap();
    (folder, db)
}

fn machine(n: u128) -> Machine {
    Machine::declared(MachineId(Uuid::from_u128(n)), format!("m{n}").parse().unwrap(), true, Time(1))
}

#[tokio::test]
async fn every_statement_prepares() {
    let (_folder, db) = fresh().await;
    let Db::Sqlite { writer, .. } = &db else { unreachable!() };
    let all = statements();
    assert!(all.len() > 30);
    for statement in all {
        use sqlx::{Executor, SqlSafeStr};
        (&mut *writer.acquire().await.unwrap())
            .prepare(sqlx::SqlStr::from_static(statement).into_sql_str())
            .await
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}

#[tokio::test]
async fn a_save_over_another_version_is_refused() {
    let (_folder, db) = fresh().await;
    let mut tx = db.write().await.unwrap();
    machines::insert(&mut tx, &machine(1), Time(1)).await.unwrap();
    assert!(matches!(machines::insert(&mut tx, &machine(1), Time(1)).await, Err(StoreError::Exists(_))));
    let mut mine = machines::find(&mut tx, machine(1).id).await.unwrap().unwrap();
    let mut theirs = mine.clone();
    machines::save(&mut tx, &mut mine, Time(2)).await.unwrap();
    assert!(matches!(machines::save(&mut tx, &mut theirs, Time(3)).await, Err(StoreError::Raced(_))));
}

#[tokio::test]
async fn a_mac_has_one_machine() {
    let (_folder, db) = fresh().await;
    let mut tx = db.write().await.unwrap();
    let mac: Mac = "52:54:00:00:00:01".parse().unwrap();
    for n in [1, 2] {
        machines::insert(&mut tx, &machine(n), Time(1)).await.unwrap();
    }
    machines::set_macs(&mut tx, machine(1).id, &[mac]).await.unwrap();
    let error = machines::set_macs(&mut tx, machine(2).id, &[mac]).await.unwrap_err();
    assert!(error.to_string().contains("52:54:00:00:00:01"), "{error}");
    assert_eq!(machines::by_mac(&mut tx, mac).await.unwrap().unwrap().name, machine(1).name);
}

#[tokio::test]
async fn an_event_is_unfolded_until_it_is_settled_once() {
    let (_folder, db) = fresh().await;
    let mut tx = db.write().await.unwrap();
    let id = machine(1).id;
    let seq = events::append(&mut tx, id, &Event::Cancel, Time(5)).await.unwrap();
    assert_eq!(events::waiting(&mut tx).await.unwrap(), [id]);
    events::settle(&mut tx, seq, &Verdict::Accepted).await.unwrap();
    assert_eq!(events::waiting(&mut tx).await.unwrap(), []);
    assert_eq!(events::verdict(&mut tx, seq).await.unwrap(), Some(Verdict::Accepted));
    assert_eq!(events::since(&mut tx, id, 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_changed_trail_shows() {
    let (_folder, db) = fresh().await;
    let mut tx = db.write().await.unwrap();
    for n in 0..3 {
        let entry = audit::Entry {
            at: Time(n),
            machine: machine(1).id,
            generation: 1,
            kind: audit::Kind::Transition,
            before: "available".into(),
            after: "assigned".into(),
            cause: "provision".into(),
            reason: "asked".into(),
        };
        audit::append(&mut tx, &entry).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(audit::verify(&mut db.read().await.unwrap()).await.unwrap(), Ok(3));
    let Db::Sqlite { writer, .. } = &db else { unreachable!() };
    let update = "UPDATE audit SET reason = 'nobody asked' WHERE seq = 2";
    assert!(sqlx::query(update).execute(writer).await.is_err(), "the trail is append-only");
    sqlx::query("DROP TRIGGER audit_is_append_only_update").execute(writer).await.unwrap();
    sqlx::query(update).execute(writer).await.unwrap();
    assert_eq!(audit::verify(&mut db.read().await.unwrap()).await.unwrap(), Err(2));
}

#[tokio::test]
async fn what_is_heard_is_bounded_and_unknown_macs_do_not_push_out_known_ones() {
    let (_folder, db) = fresh().await;
    let mut tx = db.write().await.unwrap();
    let mac = |n: u32| Mac([0x52, 0x54, 0, 0, (n >> 8) as u8, n as u8]);
    let old = Time(KEPT.0 - heard::KEPT_FOR.as_millis() as i64 - 1);
    heard::put(&mut tx, mac(1), true, old, "too old").await.unwrap();
    heard::put(&mut tx, mac(1), true, KEPT, "known").await.unwrap();
    for n in 0..heard::OF_ONE_MAX + 50 {
        heard::put(&mut tx, mac(2), false, KEPT, &n.to_string()).await.unwrap();
    }
    for n in 0..heard::OF_UNKNOWN_MAX {
        heard::put(&mut tx, mac(1000 + (n as u32) % 5000), false, KEPT, "x").await.unwrap();
    }
    heard::trim(&mut tx, [mac(2)]).await.unwrap();
    let kept = heard::of(&mut tx, mac(2)).await.unwrap();
    assert_eq!((kept.len() as i64, kept[0].sign.as_str()), (heard::OF_ONE_MAX, "50"));
    assert!(kept.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    heard::trim_all(&mut tx, KEPT).await.unwrap();
    let known = heard::of(&mut tx, mac(1)).await.unwrap();
    assert_eq!(known.iter().map(|r| r.sign.as_str()).collect::<Vec<_>>(), ["known"]);
    assert_eq!(heard::count(&mut tx).await.unwrap().0, heard::OF_UNKNOWN_MAX + 1);
    assert_eq!(heard::of(&mut tx, mac(2)).await.unwrap(), []);
}

const KEPT: Time = Time(1_700_000_000_000);

#[tokio::test]
async fn a_foreign_server_is_one_row_and_blocks_until_its_time() {
    let (_folder, db) = fresh().await;
    let mut tx = db.write().await.unwrap();
    let row = |at: i64, until: i64| foreign_servers::Row {
        ip: "10.88.0.66".into(),
        mac: None,
        kind: "unknown".into(),
        boot_file: None,
        heard_by: "request".into(),
        first_at: at,
        last_at: at,
        times: 1,
        blocks_until: until,
    };
    let seen = foreign_servers::Row {
        mac: Some("52:54:00:66:66:66".into()),
        kind: "dhcp".into(),
        boot_file: Some("evil.efi".into()),
        ..row(10, 110)
    };
    foreign_servers::put(&mut tx, &seen).await.unwrap();
    foreign_servers::put(&mut tx, &row(20, 120)).await.unwrap();
    let all = foreign_servers::all(&mut tx).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].first_at, all[0].last_at, all[0].times), (10, 20, 2));
    assert_eq!((all[0].kind.as_str(), all[0].boot_file.as_deref()), ("dhcp", Some("evil.efi")));
    let blocking = foreign_servers::blocking(&mut tx, Time(119)).await.unwrap();
    assert_eq!(blocking, Some(("10.88.0.66".into(), Time(120))));
    assert_eq!(foreign_servers::blocking(&mut tx, Time(120)).await.unwrap(), None);
    for n in 0..2 * foreign_servers::KEPT_MAX {
        let other = foreign_servers::Row { ip: format!("10.1.{}.{}", n / 250, n % 250), ..row(100 + n, 0) };
        foreign_servers::put(&mut tx, &other).await.unwrap();
    }
    assert_eq!(foreign_servers::all(&mut tx).await.unwrap().len() as i64, foreign_servers::KEPT_MAX);
}
