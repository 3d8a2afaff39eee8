//! What a turn needs of a store: one machine's row, its inbox, the trail, all in one transaction.

use crate::{
    machine::{Event, Machine, MachineId, Time, Verdict, hold::Foreign},
    store::{self, Db, StoreError, Tx, audit::Entry, events::Stored},
};
use std::future::Future;

/// A store that transactions can be begun on.
pub trait Journal: Send + Sync {
    type Unit: Unit<Error = Self::Error>;
    type Error: std::error::Error + Send + Sync + 'static;

    fn begin(&self) -> impl Future<Output = Result<Self::Unit, Self::Error>> + Send;
}

/// One transaction: everything or nothing; nothing when dropped.
pub trait Unit: Send {
    type Error;

    fn machine(&mut self, id: MachineId)
    -> impl Future<Output = Result<Option<Machine>, Self::Error>> + Send;
    fn unfolded(&mut self, id: MachineId) -> impl Future<Output = Result<Vec<Stored>, Self::Error>> + Send;
    /// Saves over the version that was loaded.
    fn save(
        &mut self,
        machine: &mut Machine,
        now: Time,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
    fn append(
        &mut self,
        id: MachineId,
        event: &Event,
        now: Time,
    ) -> impl Future<Output = Result<i64, Self::Error>> + Send;
    fn settle(&mut self, seq: i64, verdict: &Verdict)
    -> impl Future<Output = Result<(), Self::Error>> + Send;
    fn audit(&mut self, entry: &Entry) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// A DHCP server that is not ours and holds workflows back now.
    fn foreign(&mut self, now: Time) -> impl Future<Output = Result<Option<Foreign>, Self::Error>> + Send;
    fn commit(self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl Journal for Db {
    type Unit = Tx;
    type Error = StoreError;

    async fn begin(&self) -> Result<Tx, StoreError> {
        self.write().await
    }
}

impl Unit for Tx {
    type Error = StoreError;

    async fn machine(&mut self, id: MachineId) -> Result<Option<Machine>, StoreError> {
        store::machines::find(self, id).await
    }

    async fn unfolded(&mut self, id: MachineId) -> Result<Vec<Stored>, StoreError> {
        store::events::unfolded(self, id).await
    }

    async fn save(&mut self, machine: &mut Machine, now: Time) -> Result<(), StoreError> {
        store::machines::save(self, machine, now).await
    }

    async fn append(&mut self, id: MachineId, event: &Event, now: Time) -> Result<i64, StoreError> {
        store::events::append(self, id, event, now).await
    }

    async fn settle(&mut self, seq: i64, verdict: &Verdict) -> Result<(), StoreError> {
        store::events::settle(self, seq, verdict).await
    }

    async fn audit(&mut self, entry: &Entry) -> Result<(), StoreError> {
        store::audit::append(self, entry).await
    }

    async fn foreign(&mut self, now: Time) -> Result<Option<Foreign>, StoreError> {
        let blocking = store::foreign_servers::blocking(self, now).await?;
        Ok(blocking.map(|(server, until)| Foreign { server, until }))
    }

    async fn commit(self) -> Result<(), StoreError> {
        Tx::commit(self).await
    }
}
