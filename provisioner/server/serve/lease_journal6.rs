//! DHCPv6 leases, kept in the store.

use crate::{
    dhcp::{
        JournalError,
        v6::{LeaseJournal, LeaseRecord, lease::Owner},
    },
    machine::Time,
    store::{self, Db, StoreError, leases6::Row},
};
use anyhow::{Context, Result};
use provisioner_wire::ids::{hex, hex_into};
use std::net::Ipv6Addr;

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
        for record in records {
            let row = |ip: &Ipv6Addr, owner: &Owner, state: &str, expires: &Time| Row {
                ip: ip.to_string(),
                owner: owner.to_string(),
                duid: None,
                machine: None,
                state: state.to_owned(),
                expires_at: expires.0,
            };
            match record {
                LeaseRecord::Bound { ip, owner, duid, machine, expires } => {
                    let row = Row {
                        duid: Some(hex(duid)),
                        machine: machine.as_ref().map(ToString::to_string),
                        ..row(ip, owner, BOUND, expires)
                    };
                    store::leases6::put(&mut tx, &row).await?;
                }
                LeaseRecord::Ended { ip, owner } => {
                    store::leases6::delete(&mut tx, &ip.to_string(), &owner.to_string()).await?;
                }
                LeaseRecord::Declined { ip, owner, until } => {
                    store::leases6::put(&mut tx, &row(ip, owner, DECLINED, until)).await?;
                }
            }
        }
        tx.commit().await
    }
}

/// Every lease in the store. A row that cannot be read stops the start: its address might be given twice.
pub async fn kept(db: &Db) -> Result<Vec<LeaseRecord>> {
    let rows = store::leases6::all(&mut db.read().await?).await?;
    rows.iter().map(|row| record(row).with_context(|| format!("the lease of {}", row.ip))).collect()
}

fn record(row: &Row) -> Result<LeaseRecord> {
    let (ip, owner, expires) = (row.ip.parse()?, row.owner.parse()?, Time(row.expires_at));
    if row.state == DECLINED {
        return Ok(LeaseRecord::Declined { ip, owner, until: expires });
    }
    let text = row.duid.as_deref().unwrap_or_default();
    let mut duid = vec![0; text.len() / 2];
    hex_into(text, &mut duid).context("its client identifier is not hexadecimal")?;
    let machine = row.machine.as_deref().map(str::parse).transpose()?;
    Ok(LeaseRecord::Bound { ip, owner, duid, machine, expires })
}
