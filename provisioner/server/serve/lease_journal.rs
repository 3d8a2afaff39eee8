//! Leases, kept in the store.

use crate::{
    dhcp::{JournalError, LeaseJournal, LeaseRecord},
    machine::Time,
    store::{self, Db, StoreError, leases::Row},
};
use anyhow::{Context, Result};
use provisioner_wire::{
    Mac,
    ids::{hex, hex_into},
};
use std::{collections::HashMap, net::Ipv4Addr};

/// Leases in the store.
pub struct Journal(pub Db);

impl LeaseJournal for Journal {
    async fn commit(&self, records: &[LeaseRecord]) -> Result<(), JournalError> {
        self.keep(records).await.map_err(|e| JournalError(e.to_string()))
    }
}

const BOUND: &str = "bound";
const DECLINED: &str = "declined";

impl Journal {
    async fn keep(&self, records: &[LeaseRecord]) -> Result<(), StoreError> {
        let mut tx = self.0.write().await?;
        let mut waiting = Rows::default();
        for record in records {
            match record {
                LeaseRecord::Bound { ip, mac, client_id, machine, expires } => waiting.put(Row {
                    client_id: client_id.as_deref().map(hex),
                    machine: machine.as_ref().map(ToString::to_string),
                    ..row(*ip, *mac, BOUND, *expires)
                }),
                LeaseRecord::Declined { ip, mac, until } => waiting.put(row(*ip, *mac, DECLINED, *until)),
                LeaseRecord::Ended { ip, mac } => {
                    store::leases::put_all(&mut tx, &waiting.take()).await?;
                    store::leases::delete(&mut tx, &ip.to_string(), &mac.to_string()).await?;
                }
            }
        }
        store::leases::put_all(&mut tx, &waiting.take()).await?;
        tx.commit().await
    }
}

fn row(ip: Ipv4Addr, mac: Mac, state: &str, expires: Time) -> Row {
    Row {
        ip: ip.to_string(),
        mac: mac.to_string(),
        client_id: None,
        machine: None,
        state: state.to_owned(),
        expires_at: expires.0,
    }
}

/// Rows to put, one an address: of several the last, as if they had been put one after another.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    places: HashMap<String, usize>,
}

impl Rows {
    fn put(&mut self, row: Row) {
        let place = *self.places.entry(row.ip.clone()).or_insert(self.rows.len());
        match self.rows.get_mut(place) {
            Some(earlier) => *earlier = row,
            None => self.rows.push(row),
        }
    }

    fn take(&mut self) -> Vec<Row> {
        self.places.clear();
        std::mem::take(&mut self.rows)
    }
}

/// Every lease in the store. A row that cannot be read stops the start: its address might be given twice.
pub async fn kept(db: &Db) -> Result<Vec<LeaseRecord>> {
    let rows = store::leases::all(&mut db.read().await?).await?;
    rows.iter().map(|row| record(row).with_context(|| format!("the lease of {}", row.ip))).collect()
}

fn record(row: &Row) -> Result<LeaseRecord> {
    let (ip, mac, expires) = (row.ip.parse()?, row.mac.parse()?, Time(row.expires_at));
    if row.state == DECLINED {
        return Ok(LeaseRecord::Declined { ip, mac, until: expires });
    }
    let client_id = row.client_id.as_deref().map(|text| {
        let mut bytes = vec![0; text.len() / 2];
        hex_into(text, &mut bytes).map(|()| bytes).context("its client id is not hexadecimal")
    });
    let machine = row.machine.as_deref().map(str::parse).transpose()?;
    Ok(LeaseRecord::Bound { ip, mac, client_id: client_id.transpose()?, machine, expires })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Vec<LeaseRecord>> {
        let one = (0u8..3, 0u8..60, 0u8..3, 0i64..1000).prop_map(|(kind, ip, mac, at)| {
            let (ip, mac) = (Ipv4Addr::new(10, 88, 0, ip), Mac([0x52, 0x54, 0, 0, 0, mac]));
            match kind {
                0 => LeaseRecord::Bound {
                    ip,
                    mac,
                    client_id: (at % 2 == 0).then(|| vec![1, 2]),
                    machine: None,
                    expires: Time(at),
                },
                1 => LeaseRecord::Declined { ip, mac, until: Time(at) },
                _ => LeaseRecord::Ended { ip, mac },
            }
        });
        // Enough for statements of many rows, with and without an end between them.
        proptest::collection::vec(one, 0..200)
    }

    fn put(table: &mut HashMap<Ipv4Addr, LeaseRecord>, record: &LeaseRecord) {
        match record {
            LeaseRecord::Ended { ip, mac } => {
                let owner = |kept: &LeaseRecord| match kept {
                    LeaseRecord::Bound { mac, .. }
                    | LeaseRecord::Declined { mac, .. }
                    | LeaseRecord::Ended { mac, .. } => *mac,
                };
                if table.get(ip).is_some_and(|kept| owner(kept) == *mac) {
                    table.remove(ip);
                }
            }
            other => {
                table.insert(other.address(), other.clone());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn a_batch_is_kept_as_if_its_records_came_one_by_one(
            batches in proptest::collection::vec(records(), 1..4),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let journal = Journal(Db::sqlite(&folder.path().join("db")).await.unwrap());
                let mut table = HashMap::new();
                for batch in &batches {
                    journal.commit(batch).await.unwrap();
                    batch.iter().for_each(|record| put(&mut table, record));
                }
                let kept = kept(&journal.0).await.unwrap();
                assert_eq!(kept.len(), table.len());
                for record in kept {
                    assert_eq!(table.get(&record.address()), Some(&record));
                }
            });
        }
    }
}
