//! `GET /boot/{mac}.ipxe`: what iPXE does next, as [`crate::machine::boot::boots`] decides.

use super::{
    App,
    error::{ApiError, Path, Query, Result, accepted},
    netboot,
};
use crate::{
    inventory::{DiskBoot, Hardware},
    machine::{
        Event, Machine,
        boot::{Boot, boots},
    },
    store,
    workflow::discover::{DiscoverError, discover},
};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use provisioner_wire::{BootId, Mac, order::cmdline, report::clean};
use serde::Deserialize;
use std::time::Duration;

/// From the boot script to the claim, at most; kernel and initramfs are fetched in between.
pub const BOOT_ID_LIVES: Duration = Duration::from_secs(15 * 60);

/// Stands in a preview where a secret would.
pub const REDACTED: &str = "REDACTED";

/// What a script makes iPXE do. The text is made by the typed builder, which refuses values that would be more than
/// one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Boot the agent. Arguments are `name=value` or bare words of its kernel command line.
    Agent { arguments: Vec<Argument>, door: Door },
    /// Boot the machine's operating system's own kernel, which installs itself. Arguments as for the agent; one of them
    /// holds the one-shot URL of the config.
    /// With the URL of `authority` that one's certificate is put into the initramfs.
    Netboot { kernel: String, initramfs: Vec<String>, authority: Option<String>, arguments: Vec<Argument> },
    /// The agent would boot, and there is none for this processor.
    NoAgent { architecture: &'static str },
    /// Boot the machine's own disk; `by`: as its record says its firmware needs it.
    Disk { by: Option<DiskBoot> },
    /// Nothing for this machine; go on with the boot order.
    Nothing,
}

/// The listener that a script was asked from: its files come by the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Plain,
    Tls,
}

/// One word of the kernel command line.
#[derive(Clone, PartialEq, Eq)]
pub enum Argument {
    Word(String),
    Pair(&'static str, String),
}

impl std::fmt::Debug for Argument {
    /// Without values: one of them is the boot id.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Pair(name, _) => write!(f, "{name}=…"),
        }
    }
}

/// Makes the text of a script; an error names the value that cannot stand in one.
pub type Scripts = dyn Fn(&Script) -> std::result::Result<String, String> + Send + Sync;

/// What iPXE tells of its machine. Unproven: it stands in the timeline and decides nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Told {
    uuid: String,
    serial: String,
    /// `arm64`, as DHCP has put it into the script's URL; empty: x86.
    arch: String,
}

/// On the plain listener. `file` is `52-54-00-12-34-56.ipxe`, or with colons.
pub async fn script(
    State(app): State<App>,
    Path(file): Path<String>,
    Query(told): Query<Told>,
) -> Result<Response> {
    answer(&app, &script_of(&app, mac_of(&file)?, &told, Door::Plain).await?)
}

/// As [`script`], on the TLS listener.
pub async fn script_by_tls(
    State(app): State<App>,
    Path(file): Path<String>,
    Query(told): Query<Told>,
) -> Result<Response> {
    answer(&app, &script_of(&app, mac_of(&file)?, &told, Door::Tls).await?)
}

fn mac_of(file: &str) -> Result<Mac> {
    file.strip_suffix(".ipxe")
        .unwrap_or(file)
        .parse()
        .map_err(|e: provisioner_wire::ids::IdError| ApiError::NotFound(e.to_string()))
}

/// What the machine with this MAC is told to boot. For the agent a boot id is minted and recorded.
pub async fn script_of(app: &App, mac: Mac, told: &Told, door: Door) -> Result<Script> {
    let known = store::machines::by_mac(&mut app.db().read().await?, mac).await?;
    let machine = match known {
        Some(machine) => machine,
        None if !app.settings().discovery => return Ok(Script::Nothing),
        None => match discover(app.engine(), mac).await {
            Ok(machine) => machine,
            Err(DiscoverError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%mac, "not discovered: {error}");
                return Ok(Script::Nothing);
            }
        },
    };
    decide(app, &machine, told, door).await
}

/// `HEAD`: what kind of answer there would be. A look is no boot: no boot id is minted for it.
pub async fn head() -> Response {
    no_store(String::new())
}

async fn decide(app: &App, machine: &Machine, told: &Told, door: Door) -> Result<Script> {
    if boots(machine) == Boot::Agent {
        if told.arch == "arm64" {
            let what = "asks for the agent, and there is none for arm64: nothing was booted".to_owned();
            app.engine().record(machine.id, &Event::Heard { what }).await?;
            return Ok(Script::NoAgent { architecture: "arm64" });
        }
        let boot_id = fresh()?;
        let expires = app.engine().now() + BOOT_ID_LIVES;
        // The script's values are checked before anything is recorded.
        let script = Script::Agent { arguments: arguments(app, Some(machine), &boot_id.reveal()), door };
        (app.scripts())(&script).map_err(ApiError::internal)?;
        let event = Event::ScriptServed { boot_hash: boot_id.hash(), expires };
        match accepted(app.engine().submit(machine.id, &event).await?) {
            Ok(()) if still_boots_agent(app, machine, &boot_id).await? => return Ok(script),
            // It was served its last script: the boot count is over.
            Ok(()) => {}
            Err(refusal) => tracing::info!(machine = %machine.name, "no boot script: {refusal}"),
        }
    }
    if boots(machine) == Boot::Netboot
        && let Some(script) = netboot::served(app, machine).await?
    {
        return Ok(script);
    }
    let who = clean(&format!("{} {}", told.uuid, told.serial));
    let what = if who.is_empty() { "boots its disk".to_owned() } else { format!("boots its disk ({who})") };
    app.engine().record(machine.id, &Event::Heard { what }).await?;
    Ok(Script::Disk { by: disk_boot(app, machine).await? })
}

async fn disk_boot(app: &App, machine: &Machine) -> Result<Option<DiskBoot>> {
    let (mut tx, name) = (app.db().read().await?, machine.name.to_string());
    let hardware: Option<Hardware> =
        store::declared::get(&mut tx, store::declared::Kind::Machine, &name).await?;
    Ok(hardware.and_then(|hardware| hardware.quirks.disk))
}

/// The script that the machine would get now, without a boot id: none is minted, nothing is recorded.
pub async fn preview(app: &App, machine: Option<&Machine>) -> Result<String> {
    let door = Door::Plain;
    let script = match machine {
        None if app.settings().discovery => Script::Agent { arguments: arguments(app, None, REDACTED), door },
        None => Script::Nothing,
        Some(machine) if boots(machine) == Boot::Agent => {
            Script::Agent { arguments: arguments(app, Some(machine), REDACTED), door }
        }
        Some(machine) if boots(machine) == Boot::Netboot => {
            netboot::script(app, machine, REDACTED).map_err(ApiError::internal)?
        }
        Some(machine) => Script::Disk { by: disk_boot(app, machine).await? },
    };
    (app.scripts())(&script).map_err(ApiError::internal)
}

async fn still_boots_agent(app: &App, machine: &Machine, boot_id: &BootId) -> Result<bool> {
    let now = store::machines::find(&mut app.db().read().await?, machine.id).await?;
    Ok(now.and_then(|m| m.boot).is_some_and(|b| b.hash == boot_id.hash()))
}

fn arguments(app: &App, machine: Option<&Machine>, boot_id: &str) -> Vec<Argument> {
    let ours = [
        Argument::Pair(cmdline::SERVER, app.settings().plain_url.clone()),
        Argument::Pair(cmdline::BOOT_ID, boot_id.to_owned()),
        Argument::Pair(cmdline::SERVER_KEY, app.key().public()),
    ];
    let declared = machine.and_then(Machine::target).map(|t| t.kernel_arguments.clone()).unwrap_or_default();
    let words = app.settings().kernel_arguments.iter().cloned().chain(declared).map(Argument::Word);
    ours.into_iter().chain(words).collect()
}

fn answer(app: &App, script: &Script) -> Result<Response> {
    if *script == (Script::Disk { by: Some(DiskBoot::NotFound) }) {
        return Err(ApiError::NotFound("this machine boots its own disk".to_owned()));
    }
    let text = (app.scripts())(script).map_err(ApiError::internal)?;
    Ok(no_store(text))
}

/// A boot id is for one machine and one boot: nobody may keep the answer.
fn no_store(text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, text).into_response()
}

pub(super) fn fresh() -> Result<BootId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal("no random numbers from the system"))?;
    Ok(BootId::from_bytes(bytes))
}
