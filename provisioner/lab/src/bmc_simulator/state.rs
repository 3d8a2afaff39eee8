//! What the BMC remembers.

use super::{BootFrom, Etags, Fault, FaultKind, SimulatedSystem, SimulatorConfig};
use redfish_codegen::models::{
    computer_system::{
        BootSource,
        v1_20_1::{Boot, BootSourceOverrideEnabled, BootSourceOverrideMode},
    },
    resource::{PowerState, ResetType},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// Shared by all handlers.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: SimulatorConfig,
    state: Mutex<State>,
    /// Actions of one BMC run one after the other.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub calls: Vec<String>,
    pub fault: Option<Fault>,
    pub sessions: BTreeMap<u64, Session>,
    pub next_session: u64,
    pub logins: usize,
    pub refused_logins: usize,
    pub logouts: usize,
    pub systems: Vec<SystemState>,
    /// When each task ends.
    pub tasks: Vec<Instant>,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub token: String,
    pub used: Instant,
}

#[derive(Debug, Clone, Default)]
pub(super) struct SystemState {
    pub boot: Boot,
    pub version: u64,
    pub resets: Vec<String>,
    /// What the power state shows until then.
    pub lagging: Option<(PowerState, Instant)>,
}

impl Shared {
    pub fn new(config: SimulatorConfig) -> Self {
        let fresh = SystemState {
            boot: Boot {
                boot_source_override_enabled: Some(BootSourceOverrideEnabled::Disabled),
                boot_source_override_target: Some(BootSource::None),
                boot_source_override_mode: Some(BootSourceOverrideMode::UEFI),
                ..Boot::default()
            },
            ..SystemState::default()
        };
        let systems = config.systems.iter().map(|_| fresh.clone()).collect();
        let state = Mutex::new(State { systems, ..State::default() });
        Self(Arc::new(Inner { config, state, turn: tokio::sync::Mutex::new(()) }))
    }

    pub fn config(&self) -> &SimulatorConfig {
        &self.0.config
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn system(&self, id: &str) -> Option<(usize, &SimulatedSystem)> {
        self.config().systems.iter().enumerate().find(|(_, system)| system.id == id)
    }

    pub fn system_state(&self, at: usize) -> SystemState {
        self.state().systems.get(at).cloned().unwrap_or_default()
    }

    pub fn change(&self, at: usize, change: impl FnOnce(&mut SystemState)) {
        if let Some(system) = self.state().systems.get_mut(at) {
            change(system);
        }
    }

    /// The power state as it shows.
    pub async fn power(&self, at: usize) -> anyhow::Result<PowerState> {
        let lagging = self.system_state(at).lagging;
        if let Some((shown, until)) = lagging
            && Instant::now() < until
        {
            return Ok(shown);
        }
        let Some(system) = self.config().systems.get(at) else { return Ok(PowerState::Off) };
        Ok(if system.machine.is_on().await? { PowerState::On } else { PowerState::Off })
    }

    /// Does a reset; a "Once" is used up by the boot it starts.
    pub async fn reset(&self, at: usize, kind: ResetType) -> anyhow::Result<()> {
        let _turn = self.0.turn.lock().await;
        let Some(system) = self.config().systems.get(at) else { return Ok(()) };
        self.change(at, |state| {
            state.resets.push(format!("{kind:?}"));
            state.version += 1;
        });
        let machine = &system.machine;
        let was_on = machine.is_on().await?;
        let shown = match kind {
            ResetType::ForceOff if was_on => {
                machine.off().await?;
                PowerState::PoweringOff
            }
            ResetType::GracefulShutdown if was_on => {
                machine.shutdown().await?;
                PowerState::PoweringOff
            }
            ResetType::On | ResetType::ForceOn | ResetType::PushPowerButton if !was_on => {
                machine.on(self.take_boot(at)).await?;
                PowerState::PoweringOn
            }
            ResetType::ForceRestart | ResetType::GracefulRestart | ResetType::PowerCycle => {
                machine.reset(self.take_boot(at)).await?;
                PowerState::On
            }
            _ => return Ok(()),
        };
        let until = Instant::now() + self.config().power_lag;
        self.change(at, |state| state.lagging = Some((shown, until)));
        Ok(())
    }

    fn take_boot(&self, at: usize) -> BootFrom {
        let mut from = BootFrom::Order;
        self.change(at, |state| {
            from = boot_from(&state.boot);
            if matches!(state.boot.boot_source_override_enabled, Some(BootSourceOverrideEnabled::Once)) {
                state.boot.boot_source_override_enabled = Some(BootSourceOverrideEnabled::Disabled);
                state.boot.boot_source_override_target = Some(BootSource::None);
                state.boot.http_boot_uri = None;
            }
        });
        from
    }

    /// Counts the call; the fault that is due at it.
    pub fn called(&self, call: String) -> Option<FaultKind> {
        let mut state = self.state();
        state.calls.push(call);
        let nth = state.calls.len();
        state.fault.take_if(|fault| fault.nth == nth).map(|fault| fault.kind)
    }

    /// The ETag shown for a system.
    pub fn etag(&self, at: usize) -> Option<String> {
        let version = self.system_state(at).version;
        match self.config().etags {
            Etags::None => None,
            Etags::Checked | Etags::Required => Some(format!("\"{version}\"")),
            Etags::StrongOnly => Some(format!("W/\"{version}\"")),
        }
    }

    /// The status that an `If-Match` (or its lack) deserves, when it is not taken.
    pub fn precondition(&self, at: usize, given: Option<&str>) -> Option<u16> {
        let current = format!("\"{}\"", self.system_state(at).version);
        match (self.config().etags, given) {
            (Etags::None, _) | (Etags::Checked | Etags::StrongOnly, None) => None,
            (Etags::Required, None) => Some(428),
            (Etags::Checked | Etags::Required, Some("*")) => None,
            (_, Some(given)) => (given != current).then_some(412),
        }
    }
}

fn boot_from(boot: &Boot) -> BootFrom {
    use BootSource as S;
    if !matches!(
        boot.boot_source_override_enabled,
        Some(BootSourceOverrideEnabled::Once | BootSourceOverrideEnabled::Continuous)
    ) {
        return BootFrom::Order;
    }
    match boot.boot_source_override_target {
        Some(S::Pxe) => BootFrom::Pxe,
        Some(S::UefiHttp) => BootFrom::UefiHttp(boot.http_boot_uri.clone()),
        Some(S::Hdd) => BootFrom::Disk,
        _ => BootFrom::Order,
    }
}
