//! `/api/v1/workflows`, and what an operator may ask of a machine. Each answer shows the machine as it is after the
//! engine has taken the intent up.

use super::{machines::find, view, waits::waits_for};
use crate::{
    http::{
        App,
        error::{ApiError, Body, Path, ProblemDetails, Query, Result, accepted},
    },
    machine::{Event, Machine, state::Leaving},
    store::{self, Tx},
};
use axum::{Json, extract::State};
use provisioner_wire::{
    Generation, MachineName,
    machine::{MachineView, Phase, WorkflowKind},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The present or last workflow of one machine.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WorkflowView {
    pub id: Uuid,
    #[schema(value_type = String)]
    pub machine: MachineName,
    pub kind: WorkflowKind,
    pub profile: Option<String>,
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// The machine's phase and reason; the workflow runs while `running`.
    pub phase: Phase,
    pub reason: String,
    /// How far the image is that the machine waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    pub running: bool,
    /// How often the agent was booted.
    pub boots: u32,
    /// Steps done in this boot.
    pub done: Vec<String>,
}

async fn workflow(app: &App, tx: &mut Tx, machine: &Machine) -> Result<Option<WorkflowView>> {
    let Some(workflow) = machine.workflow.as_ref() else { return Ok(None) };
    Ok(Some(WorkflowView {
        id: workflow.id,
        machine: machine.name.clone(),
        kind: workflow.kind,
        profile: workflow.profile.clone(),
        generation: machine.generation,
        phase: machine.phase,
        reason: machine.reason.clone(),
        waits_for: waits_for(app, tx, machine).await?,
        running: machine.is_busy(),
        boots: workflow.boots,
        done: workflow.done.iter().map(ToString::to_string).collect(),
    }))
}

/// Each machine's present or last workflow
#[utoipa::path(get, path = "/api/v1/workflows", tag = "workflows",
    responses((status = 200, description = "By machine", body = Vec<WorkflowView>)))]
pub async fn list(State(app): State<App>) -> Result<Json<Vec<WorkflowView>>> {
    let mut tx = app.db().read().await?;
    let mut views = Vec::new();
    for machine in store::machines::all(&mut tx).await? {
        views.extend(workflow(&app, &mut tx, &machine).await?);
    }
    Ok(Json(views))
}

/// A machine's present or last workflow
#[utoipa::path(get, path = "/api/v1/workflows/{machine}", tag = "workflows", params(("machine" = String, Path)),
    responses((status = 200, description = "The workflow", body = WorkflowView)))]
pub async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Json<WorkflowView>> {
    let mut tx = app.db().read().await?;
    let machine = find(&mut tx, &name).await?;
    let none = || ApiError::NotFound(format!("{name} has had no workflow"));
    Ok(Json(workflow(&app, &mut tx, &machine).await?.ok_or_else(none)?))
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionRequest {
    /// Instead of the profile that the machine's record names.
    #[serde(default)]
    profile: Option<String>,
}

/// Provision a machine
///
/// Everything is rendered and checked first; what is wrong is told here, before any power change.
#[utoipa::path(post, path = "/api/v1/machines/{name}/provision", tag = "workflows",
    params(("name" = String, Path)), request_body = ProvisionRequest,
    responses((status = 200, description = "Begun", body = MachineView),
              (status = 409, description = "Not in this phase", body = ProblemDetails),
              (status = 422, description = "It cannot become that profile", body = ProblemDetails)))]
pub async fn provision(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(asked): Body<ProvisionRequest>,
) -> Result<Json<MachineView>> {
    let machine = find(&mut app.db().read().await?, &name).await?;
    let profile =
        app.content().preflight(&machine, asked.profile.as_deref()).await.map_err(ApiError::Invalid)?;
    ask(&app, &machine, Event::Provision { workflow: fresh(), profile }).await
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ReleaseBy {
    /// The node's pods are not waited for: it is cordoned and deleted.
    skip_drain: bool,
    /// The cluster is not asked at all: the node's object stays there.
    force: bool,
}

/// Wipe a machine's disks and give it back
///
/// Where it has a node in a cluster that this server reaches, that one is drained and deleted first.
#[utoipa::path(post, path = "/api/v1/machines/{name}/release", tag = "workflows",
    params(("name" = String, Path), ReleaseBy),
    responses((status = 200, description = "Begun", body = MachineView),
              (status = 409, description = "Not in this phase", body = ProblemDetails)))]
pub async fn release(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(by): Query<ReleaseBy>,
) -> Result<Json<MachineView>> {
    let how = match by {
        ReleaseBy { force: true, .. } => Leaving::Forced,
        ReleaseBy { skip_drain: true, .. } => Leaving::Undrained,
        ReleaseBy { .. } => Leaving::Drained,
    };
    simply(&app, &name, Event::ReleaseBy { workflow: fresh(), how }).await
}

/// Boot the agent only to look
#[utoipa::path(post, path = "/api/v1/machines/{name}/inspect", tag = "workflows",
    params(("name" = String, Path)),
    responses((status = 200, description = "Begun", body = MachineView),
              (status = 409, description = "Not in this phase", body = ProblemDetails)))]
pub async fn inspect(State(app): State<App>, Path(name): Path<String>) -> Result<Json<MachineView>> {
    simply(&app, &name, Event::Inspect { workflow: fresh() }).await
}

/// Cancel the running workflow
#[utoipa::path(post, path = "/api/v1/machines/{name}/cancel", tag = "workflows",
    params(("name" = String, Path)),
    responses((status = 200, description = "Cancelled", body = MachineView),
              (status = 409, description = "Nothing to cancel", body = ProblemDetails)))]
pub async fn cancel(State(app): State<App>, Path(name): Path<String>) -> Result<Json<MachineView>> {
    simply(&app, &name, Event::Cancel).await
}

/// Go on although another DHCP server is heard
///
/// Holds for the running workflow: provisioning and wiping wait while a DHCP server that is not ours is on the network.
#[utoipa::path(post, path = "/api/v1/machines/{name}/despite-rogue", tag = "workflows",
    params(("name" = String, Path)),
    responses((status = 200, description = "It goes on", body = MachineView),
              (status = 409, description = "No workflow runs", body = ProblemDetails)))]
pub async fn despite_rogue(State(app): State<App>, Path(name): Path<String>) -> Result<Json<MachineView>> {
    simply(&app, &name, Event::DespiteRogue).await
}

/// Try the failed workflow again
#[utoipa::path(post, path = "/api/v1/machines/{name}/retry", tag = "workflows",
    params(("name" = String, Path)),
    responses((status = 200, description = "Begun", body = MachineView),
              (status = 409, description = "It has not failed", body = ProblemDetails)))]
pub async fn retry(State(app): State<App>, Path(name): Path<String>) -> Result<Json<MachineView>> {
    simply(&app, &name, Event::Retry { workflow: fresh() }).await
}

/// Approve a discovered machine
#[utoipa::path(post, path = "/api/v1/machines/{name}/approve", tag = "workflows",
    params(("name" = String, Path)),
    responses((status = 200, description = "Approved", body = MachineView),
              (status = 409, description = "Nothing to approve", body = ProblemDetails)))]
pub async fn approve(State(app): State<App>, Path(name): Path<String>) -> Result<Json<MachineView>> {
    simply(&app, &name, Event::Approve).await
}

/// Reject a machine: it boots nothing of ours
#[utoipa::path(post, path = "/api/v1/machines/{name}/reject", tag = "workflows",
    params(("name" = String, Path)),
    responses((status = 200, description = "Rejected", body = MachineView),
              (status = 409, description = "Not in this phase", body = ProblemDetails)))]
pub async fn reject(State(app): State<App>, Path(name): Path<String>) -> Result<Json<MachineView>> {
    simply(&app, &name, Event::Reject).await
}

async fn simply(app: &App, name: &str, event: Event) -> Result<Json<MachineView>> {
    let machine = find(&mut app.db().read().await?, name).await?;
    ask(app, &machine, event).await
}

async fn ask(app: &App, machine: &Machine, event: Event) -> Result<Json<MachineView>> {
    accepted(app.engine().submit(machine.id, &event).await?)
        .map_err(|refusal| ApiError::Conflict(refusal.reason))?;
    let mut tx = app.db().read().await?;
    let machine = find(&mut tx, machine.name.as_str()).await?;
    Ok(Json(view::machine(app, &mut tx, &machine).await?))
}

fn fresh() -> Uuid {
    Uuid::new_v4()
}
