//! The real [`Bmc`]: Redfish over HTTP(S).

use super::{
    Answer, Bmc, BmcDoor, BmcError, BmcIdentity, BmcTarget, Cause, NetBoot, OverrideSet, Pin, Power,
    PowerChange, boot,
    document::{BootState, System, has_message, link_of, mac_of, members_of, text_of},
    http_error::HttpError,
    quirks::{Evidence, Quirks},
    reset,
    session::{Limits, Session},
};
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};

/// A BMC with more systems or NICs than this is not believed.
const MOST_MEMBERS: usize = 256;

/// Opens real BMCs.
#[derive(Debug, Clone, Copy)]
pub struct RedfishDoor {
    pub limits: Limits,
}

impl Default for RedfishDoor {
    fn default() -> Self {
        Self { limits: Limits::USUAL }
    }
}

impl BmcDoor for RedfishDoor {
    fn open(&self, target: BmcTarget, within: Duration) -> Answer<'_, Box<dyn Bmc>> {
        Box::pin(async move {
            let redfish = Redfish::open(target, self.limits, within).await?;
            Ok(Box::new(redfish) as Box<dyn Bmc>)
        })
    }
}

/// One BMC, logged in, and the system it stands for.
#[derive(Debug)]
pub struct Redfish {
    host: String,
    session: Session,
    /// The path of the system.
    system: String,
    quirks: Quirks,
    trouble: Arc<Mutex<Option<String>>>,
    /// One operation at a time: two changes of one machine must not interleave (I10).
    turn: tokio::sync::Mutex<()>,
}

/// Where the boot override is changed, and how it stands there.
struct Place {
    path: String,
    etag: Option<String>,
    boot: BootState,
}

impl Redfish {
    /// Connects, logs in and finds the system. On an error nothing stays open.
    pub async fn open(target: BmcTarget, limits: Limits, within: Duration) -> Result<Self, BmcError> {
        let host = target.address.host();
        let trouble = Arc::new(Mutex::new(None));
        let opening = async |until| {
            let declared = target.address.system().map(str::to_owned);
            let session = Session::open(target, limits, trouble.clone(), until).await?;
            match find_system(&session, declared.as_deref(), until).await {
                Ok(system) => Ok((session, system)),
                Err(cause) => {
                    session.close(until).await;
                    Err(cause)
                }
            }
        };
        let (session, system) = bounded(&host, "opening", &trouble, within, opening).await?;
        let quirks =
            Quirks::of(Evidence { root: session.root(), manufacturer: system.manufacturer.as_deref() });
        Ok(Self { host, session, system: system.path, quirks, trouble, turn: tokio::sync::Mutex::new(()) })
    }

    async fn run<T, F: Future<Output = Result<T, Cause>>>(
        &self,
        doing: &'static str,
        within: Duration,
        act: impl FnOnce(Instant) -> F,
    ) -> Result<T, BmcError> {
        let in_turn = async |until| {
            let _turn = self.turn.lock().await;
            act(until).await
        };
        bounded(&self.host, doing, &self.trouble, within, in_turn).await
    }

    async fn read_system(&self, until: Instant) -> Result<System, Cause> {
        reset::read(&self.session, &self.system, until).await
    }

    async fn read_identity(&self, until: Instant) -> Result<BmcIdentity, Cause> {
        let system = self.read_system(until).await?;
        let mut macs = Vec::new();
        for path in members(&self.session, system.interfaces.as_deref(), until).await? {
            macs.extend(self.session.find(&path, until).await?.as_ref().and_then(mac_of));
        }
        macs.sort_unstable();
        macs.dedup();
        let firmware_version = self.read_firmware(&system, until).await?;
        let serial = if self.quirks.serial_is_sku { system.sku.or(system.serial) } else { system.serial };
        Ok(BmcIdentity {
            manufacturer: system.manufacturer,
            model: system.model,
            serial,
            uuid: system.uuid,
            macs,
            firmware_version,
            power: system.power,
        })
    }

    /// The firmware of the manager that manages the system, else of the first manager.
    async fn read_firmware(&self, system: &System, until: Instant) -> Result<Option<String>, Cause> {
        let manager = match system.managers.first() {
            Some(manager) => Some(manager.clone()),
            None => {
                let managers = link_of(self.session.root().get("Managers"));
                members(&self.session, managers.as_deref(), until).await?.into_iter().next()
            }
        };
        let Some(manager) = manager else { return Ok(None) };
        Ok(self.session.find(&manager, until).await?.and_then(|manager| text_of(&manager, "FirmwareVersion")))
    }

    async fn set_boot_once(&self, method: NetBoot, until: Instant) -> Result<OverrideSet, Cause> {
        let system = self.read_system(until).await?;
        let place = self.boot_place(&system, until).await?;
        let body = boot::set(&place.boot, &method, &self.quirks).map_err(impossible)?;
        let staged = self.patch_boot(&system, place, &body, until).await?;
        let shown = self.see_boot(&staged, until, |state| boot::holds(state, &method)).await?;
        shown.map_err(|state| {
            impossible(format!(
                "it took the boot override, but shows {} {}",
                state.enabled.as_deref().unwrap_or("nothing"),
                state.target.as_deref().unwrap_or("")
            ))
        })
    }

    async fn unset_boot(&self, until: Instant) -> Result<(), Cause> {
        for target_too in [false, true] {
            let system = self.read_system(until).await?;
            let place = self.boot_place(&system, until).await?;
            if boot::is_clear(&place.boot) && system.boot.as_ref().is_none_or(boot::is_clear) {
                return Ok(());
            }
            let staged = match self.patch_boot(&system, place, &boot::clear(target_too), until).await {
                Ok(staged) => staged,
                // sushy-emulator answers 400 to "Disabled" alone.
                Err(Cause::Refused { status: 400, .. }) if !target_too => continue,
                Err(cause) => return Err(cause),
            };
            let clear = |state: &BootState| boot::is_clear(state).then_some(());
            if self.see_boot(&staged, until, clear).await?.is_ok() {
                return Ok(());
            }
        }
        Err(impossible("it keeps booting from the network after the override was cleared".to_owned()))
    }

    /// The staged settings where the system has some that hold an override, else the system itself.
    async fn boot_place(&self, system: &System, until: Instant) -> Result<Place, Cause> {
        let staged = self.quirks.staged_at.map(|below| format!("{}{below}", system.path));
        if let Some(path) = system.settings.clone().or(staged)
            && let Some(document) = self.session.find(&path, until).await?
            && let Some(mut boot) = document.get("Boot").and_then(BootState::read)
        {
            // BlueField stages with a shorter list of targets than it honours.
            let live = system.boot.as_ref().and_then(|boot| boot.targets.clone());
            boot.targets = live.or(boot.targets);
            return Ok(Place { etag: System::read(&path, &document).etag, path, boot });
        }
        let boot =
            system.boot.clone().ok_or_else(|| impossible("the system shows no boot override".to_owned()))?;
        Ok(Place { path: system.path.clone(), etag: system.etag.clone(), boot })
    }

    /// Patches and tells where; where an AMI answers that this is a thing of its future state, it is patched there.
    async fn patch_boot(
        &self,
        system: &System,
        place: Place,
        body: &boot::BootPatch,
        until: Instant,
    ) -> Result<String, Cause> {
        let sent = self.session.patch(&place.path, place.etag.as_deref(), body, until).await;
        let future = matches!(&sent, Err(HttpError::Status { body, .. })
            if has_message(body, "OperationSupportedInFutureStateURI"));
        if !future {
            return sent.map(|()| place.path).map_err(HttpError::into_cause);
        }
        let path = format!("{}/SD", system.path);
        let etag =
            self.session.find(&path, until).await?.and_then(|document| System::read(&path, &document).etag);
        let sent = self.session.patch(&path, etag.as_deref(), body, until).await;
        sent.map(|()| path).map_err(HttpError::into_cause)
    }

    /// Reads the override back, at the system and where it was staged, until it is as wanted: some BMCs show it late. `Ok(Err)`: how it stands instead.
    async fn see_boot<T>(
        &self,
        staged: &str,
        until: Instant,
        wanted: impl Fn(&BootState) -> Option<T>,
    ) -> Result<Result<T, BootState>, Cause> {
        let give_up = until.min(Instant::now() + self.session.limits.settle);
        loop {
            let mut shown = self.read_system(until).await?.boot.unwrap_or_default();
            if let Some(found) = wanted(&shown) {
                return Ok(Ok(found));
            }
            if staged != self.system
                && let Some(document) = self.session.find(staged, until).await?
                && let Some(state) = document.get("Boot").and_then(BootState::read)
            {
                if let Some(found) = wanted(&state) {
                    return Ok(Ok(found));
                }
                shown = state;
            }
            if Instant::now() + self.session.limits.poll >= give_up {
                return Ok(Err(shown));
            }
            sleep(self.session.limits.poll).await;
        }
    }
}

impl Bmc for Redfish {
    fn identity(&self, within: Duration) -> Answer<'_, BmcIdentity> {
        Box::pin(self.run("reading who it is", within, |until| self.read_identity(until)))
    }

    fn power(&self, within: Duration) -> Answer<'_, Power> {
        Box::pin(
            self.run("reading the power state", within, async |until| {
                Ok(self.read_system(until).await?.power)
            }),
        )
    }

    fn network_boot_once(&self, method: NetBoot, within: Duration) -> Answer<'_, OverrideSet> {
        Box::pin(self.run("setting the boot override", within, |until| self.set_boot_once(method, until)))
    }

    fn clear_boot_override(&self, within: Duration) -> Answer<'_, ()> {
        Box::pin(self.run("clearing the boot override", within, |until| self.unset_boot(until)))
    }

    fn set_power(&self, change: PowerChange, within: Duration) -> Answer<'_, ()> {
        let doing = match change {
            PowerChange::On => "powering on",
            PowerChange::ForceOff => "powering off",
            PowerChange::GracefulOff => "shutting down",
            PowerChange::Cycle => "power-cycling",
        };
        let act = move |until| reset::set_power(&self.session, &self.system, change, until);
        Box::pin(self.run(doing, within, act))
    }

    fn pin(&self) -> Option<Pin> {
        self.session.http().pin()
    }

    fn close(self: Box<Self>, within: Duration) -> Answer<'static, ()> {
        Box::pin(async move {
            let close = async |until| {
                self.session.close(until).await;
                Ok(())
            };
            bounded(&self.host, "closing the session", &self.trouble, within, close).await
        })
    }
}

/// Runs `act` within the span and names host and deed in its error.
async fn bounded<T, F: Future<Output = Result<T, Cause>>>(
    host: &str,
    doing: &'static str,
    trouble: &Mutex<Option<String>>,
    within: Duration,
    act: impl FnOnce(Instant) -> F,
) -> Result<T, BmcError> {
    let until = Instant::now() + within;
    trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
    let done = timeout_at(until, act(until)).await;
    let last = || trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let done = done.unwrap_or_else(|_| Err(Cause::Timeout { after: within, last: last() }));
    done.map_err(|cause| BmcError { host: host.to_owned(), doing, cause })
}

/// The declared system, or the only one that can be reset.
async fn find_system(session: &Session, declared: Option<&str>, until: Instant) -> Result<System, Cause> {
    if let Some(path) = declared {
        let document = session.find(path, until).await?;
        let document = document.ok_or_else(|| Cause::Misdeclared(format!("it has no system {path}")))?;
        return Ok(System::read(path, &document));
    }
    let collection =
        link_of(session.root().get("Systems")).unwrap_or_else(|| "/redfish/v1/Systems".to_owned());
    let mut systems = Vec::new();
    for path in members(session, Some(&collection), until).await? {
        if session.is_system(&path)
            && let Some(document) = session.find(&path, until).await?
        {
            systems.push(System::read(&path, &document));
        }
    }
    let paths: Vec<String> = systems.iter().map(|system| system.path.clone()).collect();
    // An accelerator's baseboard is listed as a system too, but cannot be reset.
    let mut able: Vec<System> = systems.iter().filter(|system| system.reset.is_some()).cloned().collect();
    match (able.len(), systems.len()) {
        (1, _) => able.pop(),
        (0, 1) => systems.pop(),
        _ => None,
    }
    .ok_or_else(|| {
        let many =
            format!("it serves {} systems ({}); name one in its address", paths.len(), paths.join(", "));
        Cause::Misdeclared(if paths.is_empty() { "it serves no system".to_owned() } else { many })
    })
}

/// All members of a collection, page by page; none where it does not exist.
async fn members(session: &Session, collection: Option<&str>, until: Instant) -> Result<Vec<String>, Cause> {
    let mut paths = Vec::new();
    let mut next = collection.map(str::to_owned);
    let mut pages = 0;
    while let Some(page) = next {
        let Some(document) = session.find(&page, until).await? else { break };
        let (members, following) = members_of(&document);
        paths.extend(members);
        pages += 1;
        if paths.len() > MOST_MEMBERS || pages > MOST_MEMBERS {
            return Err(Cause::Protocol(format!("the collection {page} does not end")));
        }
        next = following;
    }
    Ok(paths)
}

fn impossible(message: String) -> Cause {
    Cause::Refused { status: 0, message }
}
