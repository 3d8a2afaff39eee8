//! `GET /api/v1/events`: server-sent events. `timeline` carries one event and its number; `machine` the machine as it
//! is after; `foreign-server` the other DHCP servers that are heard; `progress` where a step stands (no number, may be left out); `resync` says that the listener was away too
//! long and must read the machines anew.

use super::{
    boot_plane::foreign_views,
    view::{self, EventView},
};
use crate::{
    http::{
        App,
        error::{Query, Result},
    },
    machine::MachineId,
    store,
};
use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::Stream;
use serde::Deserialize;
use std::{collections::BTreeSet, convert::Infallible, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

/// A listener that was away for more events than this is told to read anew.
const BACKLOG_MAX: i64 = 1000;
/// Without any notice the store is looked at this often.
const TIMER: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only this machine.
    machine: Option<String>,
}

/// Changes as they happen
#[utoipa::path(get, path = "/api/v1/events", tag = "server",
    params(Wanted, ("Last-Event-ID" = Option<i64>, Header, description = "Go on after this event")),
    responses((status = 200, description = "Events: timeline, machine, progress, foreign-server, resync",
               content_type = "text/event-stream", body = String)))]
pub async fn stream(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    let last = store::events::last(&mut app.db().read().await?).await?;
    let asked = headers.get("last-event-id").and_then(|v| v.to_str().ok()?.parse::<i64>().ok());
    let after = asked.unwrap_or(last);
    let (send, receive) = mpsc::channel(64);
    let mut feed = Feed { app, only: wanted.machine, after, send };
    // Ends when the listener has gone, or with the process.
    tokio::spawn(async move {
        if asked.is_some() && !(0..=BACKLOG_MAX).contains(&(last - after)) {
            feed.after = last;
            feed.resync().await;
        }
        feed.run().await;
    });
    Ok(Sse::new(ReceiverStream::new(receive)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Feed {
    app: App,
    only: Option<String>,
    after: i64,
    send: mpsc::Sender<std::result::Result<Event, Infallible>>,
}

/// The listener has gone.
struct Gone;

impl Feed {
    async fn run(&mut self) {
        let mut newest = self.app.engine().newest();
        let mut progress = self.app.live().subscribe();
        let mut foreign = self.app.boot_plane().changed();
        loop {
            let done = tokio::select! {
                () = self.send.closed() => Err(Gone),
                _ = tokio::time::timeout(TIMER, newest.changed()) => self.news().await,
                Ok(()) = foreign.changed() => self.foreign().await,
                heard = progress.recv() => match heard {
                    Ok(machine) => self.machine(machine, "progress").await,
                    // Progress that was missed costs nothing: the next one carries it.
                    Err(_) => Ok(()),
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Sends what was folded since; stops at the first event without a verdict, which comes with the next notice.
    async fn news(&mut self) -> std::result::Result<(), Gone> {
        let fresh = match self.app.db().read().await {
            Ok(mut tx) => store::events::latest(&mut tx, self.after, BACKLOG_MAX).await,
            Err(error) => Err(error),
        };
        let fresh = fresh.unwrap_or_else(|error| {
            tracing::warn!("event stream: {error}");
            Vec::new()
        });
        let mut changed = BTreeSet::new();
        for (id, stored) in fresh.iter().take_while(|(_, stored)| stored.verdict.is_some()) {
            self.after = stored.seq;
            if let Some(name) = self.name(*id).await {
                let view = EventView::new(&name, stored);
                self.put(Event::default().event("timeline").id(stored.seq.to_string()), &view).await?;
                changed.insert(id.0);
            }
        }
        for id in changed {
            self.machine(MachineId(id), "machine").await?;
        }
        Ok(())
    }

    /// The machine's name where the listener wants it.
    async fn name(&self, id: MachineId) -> Option<provisioner_wire::MachineName> {
        let mut tx = self.app.db().read().await.ok()?;
        let machine = store::machines::find(&mut tx, id).await.ok()??;
        let wanted = self.only.as_ref().is_none_or(|only| only == machine.name.as_str());
        wanted.then_some(machine.name)
    }

    async fn machine(&self, id: MachineId, kind: &str) -> std::result::Result<(), Gone> {
        if self.name(id).await.is_none() {
            return Ok(());
        }
        let Ok(mut tx) = self.app.db().read().await else { return Ok(()) };
        let Ok(Some(machine)) = store::machines::find(&mut tx, id).await else { return Ok(()) };
        match view::machine(&self.app, &mut tx, &machine).await {
            Ok(view) => self.put(Event::default().event(kind), &view).await,
            Err(_) => Ok(()),
        }
    }

    /// Another DHCP server was heard that is not allowed.
    async fn foreign(&self) -> std::result::Result<(), Gone> {
        let Ok(mut tx) = self.app.db().read().await else { return Ok(()) };
        let Ok(all) = foreign_views(&mut tx, self.app.engine().now()).await else { return Ok(()) };
        let blocking: Vec<_> = all.into_iter().filter(|server| server.blocks).collect();
        self.put(Event::default().event("foreign-server"), &blocking).await
    }

    async fn resync(&self) {
        let event = Event::default().event("resync").id(self.after.to_string());
        // A listener that has gone is found out by `run`.
        let _ = self.put(event, &serde_json::json!({})).await;
    }

    async fn put<T: serde::Serialize>(&self, event: Event, data: &T) -> std::result::Result<(), Gone> {
        let Ok(text) = serde_json::to_string(data) else { return Ok(()) };
        self.send.send(Ok(event.data(text))).await.map_err(|_| Gone)
    }
}
