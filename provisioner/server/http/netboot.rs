//! The boot of an operating system's own kernel, and the one-shot URL that leads a node to its config.

use super::{
    App,
    boot::{Argument, Script, fresh},
    config_url::NETBOOT_URL_LIVES,
    error::{ApiError, Result, accepted},
};
use crate::{
    inventory::{Hardware, Profile},
    machine::{Event, Machine},
    os::{self, netboot::Installer, pointer::Way},
    store,
};
use axum::{extract::State, http::header, response::IntoResponse};
use provisioner_wire::{BootId, order::Config, report::Disk};

/// Path of [`authority`].
pub const AUTHORITY: &str = "/boot/authority.pem";

/// The script for a machine that is handed over, with a fresh URL in it, which is recorded first. `None` where the
/// machine has moved on.
pub async fn served(app: &App, machine: &Machine) -> Result<Option<Script>> {
    let capability = fresh()?;
    // The script's values are checked before anything is recorded.
    let script = script(app, machine, &capability.reveal()).map_err(ApiError::internal)?;
    (app.scripts())(&script).map_err(ApiError::internal)?;
    let expires = app.engine().now() + NETBOOT_URL_LIVES;
    let event = Event::NetbootServed { url_hash: capability.hash(), expires };
    if let Err(refusal) = accepted(app.engine().submit(machine.id, &event).await?) {
        tracing::info!(machine = %machine.name, "no boot script: {refusal}");
        return Ok(None);
    }
    let now = store::machines::find(&mut app.db().read().await?, machine.id).await?;
    let live = now.and_then(|m| m.config_url).is_some_and(|url| url.hash == capability.hash());
    Ok(live.then_some(script))
}

/// What iPXE is told for `machine`, with this text as the secret part of the config's URL.
pub(super) fn script(app: &App, machine: &Machine, capability: &str) -> std::result::Result<Script, String> {
    let lost = |what: &str| format!("{} has no {what}", machine.name);
    let target = machine.target().ok_or_else(|| lost("target"))?;
    let netboot = target.netboot.as_ref().ok_or_else(|| lost("kernel to boot"))?;
    let profile = profile(machine)?;
    let base = base(app, machine, capability);
    let reached = |url: &str| match url.starts_with('/') {
        true => format!("{}{url}", app.settings().plain_url),
        false => url.to_owned(),
    };
    let rootfs = netboot.rootfs.as_ref().map(|image| reached(&image.url));
    let installer = Installer {
        base: &base,
        rootfs_url: rootfs.as_deref(),
        disk: disk(machine).ok_or_else(|| lost("disk"))?,
    };
    let words = os::netboot::words(profile.os, installer)?.into_iter().map(|(name, value)| match value {
        Some(value) => Argument::Pair(name, value),
        None => Argument::Word(name.to_owned()),
    });
    let tls = target.by_url.as_ref().is_some_and(|by_url| by_url.tls);
    Ok(Script::Netboot {
        authority: tls.then(|| reached(AUTHORITY)),
        kernel: reached(&netboot.kernel.url),
        initramfs: netboot.initramfs.iter().map(|image| reached(&image.url)).collect(),
        arguments: words.chain(netboot.arguments.iter().cloned().map(Argument::Word)).collect(),
    })
}

/// `GET /boot/authority.pem`: whom a node must trust to fetch its config by TLS. Public; as trustworthy as the kernel that
/// comes the same way.
pub async fn authority(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], app.settings().ca_pem.clone())
}

/// The disk of the licence, as the agent has reported it.
fn disk(machine: &Machine) -> Option<&Disk> {
    let wanted = machine.licence.as_ref()?.disks.first()?;
    machine.report.as_ref()?.disks.iter().find(|disk| disk.identity() == *wanted)
}

/// What the agent places for a node that fetches its config: the files, or why there are none.
pub(super) async fn pointer(
    app: &App,
    machine: &Machine,
    capability: &BootId,
) -> std::result::Result<Config, String> {
    let mut tx = app.db().read().await.map_err(|e| e.to_string())?;
    let hardware: Option<Hardware> =
        store::declared::get(&mut tx, store::declared::Kind::Machine, machine.name.as_str())
            .await
            .map_err(|e| e.to_string())?;
    let hardware = hardware.ok_or_else(|| format!("{} is not declared", machine.name))?;
    let tls = machine.target().and_then(|t| t.by_url.as_ref()).is_some_and(|by_url| by_url.tls);
    let base = base(app, machine, &capability.reveal());
    let way = Way { base: &base, ca_pem: tls.then_some(app.settings().ca_pem.as_str()) };
    os::pointer::pointer(profile(machine)?.os, way, &hardware, machine.generation)
}

/// The profile as it was frozen when the workflow began.
fn profile(machine: &Machine) -> std::result::Result<Profile, String> {
    let frozen = machine.target().map(|t| t.profile.clone()).unwrap_or_default();
    serde_json::from_value(frozen).map_err(|e| format!("the profile of {} cannot be read: {e}", machine.name))
}

/// `https://…/config/MACHINE/CAPABILITY`.
fn base(app: &App, machine: &Machine, capability: &str) -> String {
    let tls = machine.target().and_then(|t| t.by_url.as_ref()).is_none_or(|by_url| by_url.tls);
    let settings = app.settings();
    let listener = if tls { &settings.tls_url } else { &settings.plain_url };
    format!("{listener}/config/{}/{capability}", machine.name)
}
