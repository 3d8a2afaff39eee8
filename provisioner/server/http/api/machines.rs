//! `/api/v1/machines`: the records, and what is known of each machine.

use super::view::{self, AuditView, EventView, LogView, MachineDetails};
use crate::{
    http::{
        App,
        content::{Change, Declared},
        error::{ApiError, Body, Path, ProblemDetails, Query, Result},
    },
    machine::Machine,
    store::{self, Tx, declared::Kind},
    workflow::declare::{Declaration, declare},
};
use axum::{Json, extract::State, http::StatusCode};
use provisioner_wire::{
    MachineName,
    machine::{MachineView, Phase},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

/// The machine of this name; a name that could never be one is simply not there.
pub async fn find(tx: &mut Tx, name: &str) -> Result<Machine> {
    let unknown = || ApiError::NotFound(format!("there is no machine named {name:?}"));
    let parsed: MachineName = name.parse().map_err(|_| unknown())?;
    store::machines::by_name(tx, &parsed).await?.ok_or_else(unknown)
}

/// Everything declared.
pub async fn declared(tx: &mut Tx) -> Result<Declared> {
    Ok(Declared {
        machines: store::declared::all(tx, Kind::Machine).await?,
        profiles: store::declared::all(tx, Kind::Profile).await?,
        images: store::declared::all(tx, Kind::Image).await?,
        clusters: store::declared::all(tx, Kind::Cluster).await?,
    })
}

/// All machines
#[utoipa::path(get, path = "/api/v1/machines", tag = "machines",
    responses((status = 200, description = "All machines, by name", body = Vec<MachineView>)))]
pub async fn list(State(app): State<App>) -> Result<Json<Vec<MachineView>>> {
    let mut tx = app.db().read().await?;
    let mut views = Vec::new();
    for machine in store::machines::all(&mut tx).await? {
        views.push(view::machine(&app, &mut tx, &machine).await?);
    }
    Ok(Json(views))
}

/// One machine
#[utoipa::path(get, path = "/api/v1/machines/{name}", tag = "machines", params(("name" = String, Path)),
    responses((status = 200, description = "The machine", body = MachineDetails)))]
pub async fn show(State(app): State<App>, Path(name): Path<String>) -> Result<Json<MachineDetails>> {
    let mut tx = app.db().read().await?;
    let machine = find(&mut tx, &name).await?;
    Ok(Json(view::details(&app, &mut tx, &machine).await?))
}

/// Declare a machine
///
/// The body is one record as in `hardware/machines/`, as JSON. A BMC password in it is sealed and never comes back out.
#[utoipa::path(put, path = "/api/v1/machines/{name}", tag = "machines", params(("name" = String, Path)),
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, description = "Changed", body = MachineView),
              (status = 201, description = "New", body = MachineView),
              (status = 409, description = "Another machine has one of its MACs", body = ProblemDetails),
              (status = 422, description = "Refused, and nothing was changed", body = ProblemDetails)))]
pub async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(spec): Body<Value>,
) -> Result<(StatusCode, Json<MachineView>)> {
    let parsed: MachineName =
        name.parse().map_err(|e: provisioner_wire::ids::IdError| ApiError::invalid("name", e.to_string()))?;
    let declared = declared(&mut app.db().read().await?).await?;
    let change = Change::Put { kind: Kind::Machine, name: &name, spec };
    let checked = app.content().check(&declared, change).map_err(ApiError::Invalid)?;
    let facts = app.content().facts(&checked.spec);
    let mut sealed = Vec::new();
    for (field, secret) in &checked.secrets {
        let bytes = app.content().seal(parsed.as_str(), field, secret).map_err(ApiError::internal)?;
        sealed.push((field.clone(), bytes));
    }
    let bmc = facts.bmc.is_some();
    let declaration = Declaration { name: parsed, spec: &checked.spec, macs: facts.macs, bmc, sealed };
    let new = declare(app.engine(), declaration).await?;
    let mut tx = app.db().read().await?;
    let machine = find(&mut tx, &name).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view::machine(&app, &mut tx, &machine).await?)))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Force {
    /// Delete the record of a machine that is busy or Ready all the same.
    force: bool,
}

/// Forget a machine
///
/// Touches neither the machine nor its disks. Refused while a workflow has it, and while it is Ready.
#[utoipa::path(delete, path = "/api/v1/machines/{name}", tag = "machines",
    params(("name" = String, Path), Force),
    responses((status = 204, description = "Forgotten"),
              (status = 409, description = "Busy or Ready", body = ProblemDetails)))]
pub async fn delete(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode> {
    let mut tx = app.db().write().await?;
    let machine = find(&mut tx, &name).await?;
    if !force && (machine.is_busy() || machine.phase == Phase::Ready) {
        let phase = machine.phase;
        return Err(ApiError::Conflict(format!("{name} is {phase}: release it first, or use ?force=true")));
    }
    store::machines::delete(&mut tx, machine.id).await?;
    store::declared::delete(&mut tx, Kind::Machine, &name).await?;
    store::secrets::delete(&mut tx, &name).await?;
    tx.commit().await?;
    app.live().forget(machine.id);
    tracing::info!(machine = %name, force, "forgotten");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Only what came after this number.
    after: i64,
    /// At most so many, up to 1000.
    limit: i64,
}

impl Default for Page {
    fn default() -> Self {
        Self { after: 0, limit: 200 }
    }
}

/// Timeline of a machine
#[utoipa::path(get, path = "/api/v1/machines/{name}/events", tag = "machines",
    params(("name" = String, Path), Page),
    responses((status = 200, description = "Oldest first", body = Vec<EventView>)))]
pub async fn events(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<Vec<EventView>>> {
    let mut tx = app.db().read().await?;
    let machine = find(&mut tx, &name).await?;
    let stored = store::events::since(&mut tx, machine.id, page.after, page.limit.clamp(1, 1000)).await?;
    Ok(Json(stored.iter().map(|s| EventView::new(&machine.name, s)).collect()))
}

/// Trail of a machine
#[utoipa::path(get, path = "/api/v1/machines/{name}/audit", tag = "machines", params(("name" = String, Path)),
    responses((status = 200, description = "Oldest first", body = Vec<AuditView>)))]
pub async fn audit(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Vec<AuditView>>> {
    let mut tx = app.db().read().await?;
    let machine = find(&mut tx, &name).await?;
    let rows = store::audit::of_machine(&mut tx, machine.id).await?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

/// Log of a machine's agent
#[utoipa::path(get, path = "/api/v1/machines/{name}/log", tag = "machines", params(("name" = String, Path)),
    responses((status = 200, description = "The last lines; lost when the server restarts", body = Vec<LogView>)))]
pub async fn log(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Vec<LogView>>> {
    let machine = find(&mut app.db().read().await?, &name).await?;
    Ok(Json(app.live().log(machine.id).into_iter().map(Into::into).collect()))
}
