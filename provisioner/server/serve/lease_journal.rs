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
