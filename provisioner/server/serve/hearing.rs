//! What the boot plane hears, written into the timelines of the machines it is about.

use super::House;
use crate::{
    dhcp::{self, Heard, intake::Malformed},
    http::boot_files::{self, Served},
    machine::{Event, MachineId},
    store::{self, Db, StoreError},
    tftp::{self, End, Transferred},
    workflow::Engine,
};
use anyhow::Result;
use provisioner_wire::MachineName;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::{sync::mpsc, task::JoinSet};

/// Things heard and not yet written down; more are dropped, and that is logged.
pub const HEARD_MAX: usize = 4096;

/// One line for a machine's timeline.
pub struct Line {
    whose: Whose,
    what: String,
}

enum Whose {
    Machine(MachineName),
    /// Whoever has a lease on this address.
    Address(IpAddr),
}

/// Hears without waiting: the line goes to the [`Recorder`], or is dropped where that is behind.
pub struct Ear {
    pub told: mpsc::Sender<Line>,
}

impl Ear {
    fn tell(&self, whose: Whose, what: String) {
        if self.told.try_send(Line { whose, what }).is_err() {
            tracing::warn!("the timeline is {HEARD_MAX} lines behind; a line was dropped");
        }
    }
}

impl dhcp::Hearing for Ear {
    fn heard(&self, heard: Heard) {
        let what = format!("dhcp {}", heard.line());
        match heard.machine {
            Some(machine) => self.tell(Whose::Machine(machine), what),
            None => tracing::info!(mac = %heard.mac, "unknown machine: {what}"),
        }
    }

    fn malformed(&self, why: Malformed) {
        tracing::debug!("DHCP: ignored a packet: {why}");
    }
}

impl dhcp::v6::Hearing for Ear {
    fn heard6(&self, heard: dhcp::v6::Heard) {
        if let (Some(other), Some(machine)) = (&heard.conflict, &heard.machine) {
            tracing::warn!(%machine, "its DHCPv6 identifier is that of machine {other}; was its disk cloned?");
        }
        let what = heard.line();
        match heard.machine {
            Some(machine) => self.tell(Whose::Machine(machine), what),
            None => {
                let duid = provisioner_wire::ids::hex(&heard.duid);
                tracing::info!(mac = heard.mac.map(tracing::field::display), duid, "unknown machine: {what}");
            }
        }
    }

    fn malformed6(&self, why: &(dyn std::error::Error + Send + Sync)) {
        tracing::debug!("DHCPv6: ignored a packet: {why}");
    }
}

impl tftp::Hearing for Ear {
    fn transferred(&self, t: Transferred) {
        let end = match &t.end {
            End::Complete => {
                format!("{} bytes in {} ms, {} sent again", t.bytes, t.milliseconds, t.retransmits)
            }
            End::Aborted(why) => format!("ended by the client ({why})"),
            End::Silent => format!("the client went silent ({} sent again)", t.retransmits),
            End::Refused(why) => format!("refused ({why})"),
        };
        self.tell(Whose::Address(t.peer.ip()), format!("tftp {}: {end}", t.file));
    }
}

impl boot_files::Hearing for Ear {
    fn served(&self, served: Served) {
        let Served { peer, file, bytes, of, milliseconds } = served;
        let what = if bytes == of {
            format!("http {file}: {bytes} bytes in {milliseconds} ms")
        } else {
            format!("http {file}: the client went away after {bytes} of {of} bytes")
        };
        self.tell(Whose::Address(peer), what);
    }
}

/// An ear, and the recorder behind it as one of `parts`: it ends when the last ear is gone.
pub fn listen(parts: &mut JoinSet<Result<()>>, house: &House, engine: &Engine) -> Arc<Ear> {
    let (told, telling) = mpsc::channel(HEARD_MAX);
    let recorder = Recorder { engine: engine.clone(), db: house.db.clone() };
    parts.spawn(async move { recorder.run(telling).await });
    Arc::new(Ear { told })
}

/// Writes what was heard into the timelines of the machines it is about.
pub struct Recorder {
    pub engine: Engine,
    pub db: Db,
}

impl Recorder {
    pub async fn run(self, mut telling: mpsc::Receiver<Line>) -> Result<()> {
        while let Some(line) = telling.recv().await {
            let recorded = async {
                if let Some(id) = self.machine(&line.whose).await? {
                    self.engine.record(id, &Event::Heard { what: line.what }).await?;
                }
                Ok::<_, StoreError>(())
            };
            if let Err(error) = recorded.await {
                tracing::warn!("a line of the timeline was lost: {error}");
            }
        }
        Ok(())
    }

    async fn machine(&self, whose: &Whose) -> Result<Option<MachineId>, StoreError> {
        let mut tx = self.db.read().await?;
        let name = match whose {
            Whose::Machine(name) => Some(name.clone()),
            Whose::Address(ip) => match ip.to_canonical() {
                IpAddr::V6(ip) => {
                    // EDK2 fetches by TFTP from its link-local address.
                    if let Some(mac) = dhcp::v6::client::eui64(ip) {
                        return Ok(store::machines::by_mac(&mut tx, mac).await?.map(|m| m.id));
                    }
                    store::leases6::find(&mut tx, &ip.to_string()).await?.and_then(|lease| lease.machine)
                }
                IpAddr::V4(ip) => {
                    let leases = store::leases::all(&mut tx).await?;
                    leases.into_iter().find(|l| l.ip == ip.to_string()).and_then(|l| l.machine)
                }
            }
            .and_then(|name| name.parse().ok()),
        };
        let Some(name) = name else { return Ok(None) };
        Ok(store::machines::by_name(&mut tx, &name).await?.map(|m| m.id))
    }
}
