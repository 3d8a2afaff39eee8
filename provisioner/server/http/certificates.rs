//! Wipe certificates: what an agent reports of a wipe, held to what was asked for, signed and kept; and
//! `/api/v1/wipe-certificates`.

use super::{
    App,
    agent::{Result as AgentResult, Spoken},
    error::{ApiError, Path, Result},
};
use crate::{
    machine::Machine,
    store::{self, wipe_certificates::Row},
};
use axum::{
    Json,
    extract::{Query, State},
};
use provisioner_wire::{
    Generation,
    ids::hex,
    machine::Phase,
    order::{Outcome, Step, StepResult},
    report::clean_to,
    wipe::{CERTIFICATE, Certificate, WipeMethod, Wiped},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// Longest reason why something was passed over, in characters.
const WHY_MAX: usize = 500;

/// Why this report of a wipe cannot count as the wipe that was asked for; none for any other report.
pub(super) fn objection(machine: &Machine, said: &StepResult) -> Option<String> {
    let is_wipe = said.step == Step::Wipe && matches!(said.outcome, Outcome::Done { .. });
    let (Some(licence), Some(target)) = (&machine.licence, machine.target()) else { return None };
    if !is_wipe || machine.phase != Phase::Wiping {
        return None;
    }
    for disk in &licence.disks {
        let Some(wiped) = said.wiped.iter().find(|w| w.disk == *disk) else {
            return Some(format!("the agent does not say what it has done to the disk {disk}"));
        };
        if target.wipe == WipeMethod::Purge && !wiped.done.is_purge() {
            return Some(format!("a purge was asked for, and the disk {disk} had only {}", wiped.done));
        }
        if target.wipe != WipeMethod::Metadata && wiped.done == provisioner_wire::wipe::Means::Metadata {
            return Some(format!("the whole of the disk {disk} was to be wiped, and only its metadata was"));
        }
    }
    None
}

/// True for a disk that the licence named, or, when the report is told again after the licence has ended, one that the
/// machine has.
fn is_of(machine: &Machine, wiped: &Wiped) -> bool {
    let reported = || machine.report.iter().flat_map(|r| &r.disks).any(|disk| disk.identity() == wiped.disk);
    machine.licence.as_ref().map_or_else(reported, |licence| licence.disks.contains(&wiped.disk))
}

/// Signs and keeps one certificate a disk. Again for the same wipe: those that are there stay.
pub(super) async fn keep(
    app: &App,
    spoken: &Spoken,
    generation: Generation,
    wiped: Vec<Wiped>,
) -> AgentResult<()> {
    let machine = spoken.machine();
    let wiped: Vec<Wiped> = wiped.into_iter().filter(|wiped| is_of(machine, wiped)).collect();
    let Some(workflow) = machine.workflow.as_ref().filter(|_| !wiped.is_empty()) else { return Ok(()) };
    let spent = machine.licence.as_ref().and_then(|l| l.spent.as_ref());
    let mut tx = app.db().write().await?;
    for wiped in wiped {
        let (disk, at) = (wiped.disk.to_string(), app.engine().now());
        let certificate = Certificate {
            kind: CERTIFICATE.to_owned(),
            machine: machine.name.clone(),
            generation,
            workflow: workflow.id,
            machine_serial: machine.report.as_ref().and_then(|r| r.dmi.serial.clone()),
            wiped: cleaned(wiped),
            begun_ms: spent.map(|s| s.at.0),
            ended_ms: at.0,
        };
        let text = serde_json::to_string(&certificate).map_err(ApiError::internal)?;
        let signed = app.content().certify(text).map_err(ApiError::internal)?;
        let row = Row {
            id: name_of(machine, generation, &disk),
            machine: machine.name.to_string(),
            generation: i64::try_from(generation.0).unwrap_or(i64::MAX),
            disk,
            at: at.0,
            certificate: signed.certificate,
            signature: signed.signature,
            public_key: signed.public_key,
        };
        store::wipe_certificates::insert(&mut tx, &row).await?;
    }
    Ok(tx.commit().await?)
}

/// The same for the same wipe of the same disk, however often it is told.
fn name_of(machine: &Machine, generation: Generation, disk: &str) -> String {
    let hash = Sha256::digest(format!("{}|{}|{disk}", machine.id, generation.0));
    hex(hash.get(..8).unwrap_or_default())
}

/// What a drive wrote of itself is text from outside.
fn cleaned(mut wiped: Wiped) -> Wiped {
    wiped.model = wiped.model.map(|model| clean_to(&model, WHY_MAX));
    wiped.passed_over.truncate(16);
    for passed in &mut wiped.passed_over {
        passed.why = clean_to(&passed.why, WHY_MAX);
    }
    wiped
}

/// One certificate; its signature is over the text of `certificate`, byte by byte.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CertificateView {
    pub id: String,
    pub machine: String,
    pub generation: i64,
    /// WWN or serial, and size.
    pub disk: String,
    pub at_ms: i64,
    /// JSON, as text.
    pub certificate: String,
    /// Ed25519, hexadecimal.
    pub signature: String,
    /// Ed25519, hexadecimal.
    pub public_key: String,
}

impl From<Row> for CertificateView {
    fn from(row: Row) -> Self {
        let Row { id, machine, generation, disk, at, certificate, signature, public_key } = row;
        Self { id, machine, generation, disk, at_ms: at, certificate, signature, public_key }
    }
}

#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    machine: Option<String>,
}

/// Wipe certificates, the newest first
#[utoipa::path(get, path = "/api/v1/wipe-certificates", tag = "server",
    params(("machine" = Option<String>, Query, description = "Only this machine's")),
    responses((status = 200, description = "The certificates", body = Vec<CertificateView>)))]
pub async fn list(
    State(app): State<App>,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<CertificateView>>> {
    let rows = store::wipe_certificates::all(&mut app.db().read().await?).await?;
    let wanted = |row: &Row| filter.machine.as_ref().is_none_or(|name| *name == row.machine);
    Ok(Json(rows.into_iter().filter(wanted).map(CertificateView::from).collect()))
}

/// One wipe certificate
#[utoipa::path(get, path = "/api/v1/wipe-certificates/{id}", tag = "server", params(("id" = String, Path)),
    responses((status = 200, description = "The certificate", body = CertificateView)))]
pub async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<CertificateView>> {
    let row = store::wipe_certificates::get(&mut app.db().read().await?, &id).await?;
    let row = row.ok_or_else(|| ApiError::NotFound(format!("there is no wipe certificate {id}")))?;
    Ok(Json(row.into()))
}
