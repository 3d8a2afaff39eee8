//! `/api/v1/profiles`, `/api/v1/images` and `/api/v1/clusters`: the same records as in `hardware/`, as JSON. What a machine or a profile
//! still refers to cannot be deleted.

use super::machines::declared;
use crate::{
    http::{
        App,
        content::Change,
        error::{ApiError, Body, Path, ProblemDetails, Result},
    },
    inventory::cluster::secret_owner,
    store::{self, Tx, declared::Kind},
};
use axum::{Json, extract::State, http::StatusCode};
use serde_json::Value;

/// All profiles
#[utoipa::path(get, path = "/api/v1/profiles", tag = "profiles",
    responses((status = 200, description = "By name", body = Vec<Object>)))]
pub async fn list_profiles(State(app): State<App>) -> Result<Json<Vec<Value>>> {
    list(&app, Kind::Profile).await
}

/// One profile
#[utoipa::path(get, path = "/api/v1/profiles/{name}", tag = "profiles", params(("name" = String, Path)),
    responses((status = 200, description = "As declared", body = Object)))]
pub async fn show_profile(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Value>> {
    show(&app, Kind::Profile, &name).await
}

/// Declare a profile
#[utoipa::path(put, path = "/api/v1/profiles/{name}", tag = "profiles", params(("name" = String, Path)),
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, description = "As stored", body = Object),
              (status = 422, description = "Refused, and nothing was changed", body = ProblemDetails)))]
pub async fn put_profile(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(spec): Body<Value>,
) -> Result<Json<Value>> {
    put(&app, Kind::Profile, &name, spec).await
}

/// Delete a profile
#[utoipa::path(delete, path = "/api/v1/profiles/{name}", tag = "profiles", params(("name" = String, Path)),
    responses((status = 204, description = "Deleted"),
              (status = 409, description = "Something refers to it", body = ProblemDetails)))]
pub async fn delete_profile(State(app): State<App>, Path(name): Path<String>) -> Result<StatusCode> {
    delete(&app, Kind::Profile, &name).await
}

/// All images
#[utoipa::path(get, path = "/api/v1/images", tag = "images",
    responses((status = 200, description = "By name", body = Vec<Object>)))]
pub async fn list_images(State(app): State<App>) -> Result<Json<Vec<Value>>> {
    list(&app, Kind::Image).await
}

/// One image
#[utoipa::path(get, path = "/api/v1/images/{name}", tag = "images", params(("name" = String, Path)),
    responses((status = 200, description = "As declared", body = Object)))]
pub async fn show_image(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Value>> {
    show(&app, Kind::Image, &name).await
}

/// Declare an image
#[utoipa::path(put, path = "/api/v1/images/{name}", tag = "images", params(("name" = String, Path)),
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, description = "As stored", body = Object),
              (status = 422, description = "Refused, and nothing was changed", body = ProblemDetails)))]
pub async fn put_image(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(spec): Body<Value>,
) -> Result<Json<Value>> {
    put(&app, Kind::Image, &name, spec).await
}

/// Delete an image
#[utoipa::path(delete, path = "/api/v1/images/{name}", tag = "images", params(("name" = String, Path)),
    responses((status = 204, description = "Deleted"),
              (status = 409, description = "Something refers to it", body = ProblemDetails)))]
pub async fn delete_image(State(app): State<App>, Path(name): Path<String>) -> Result<StatusCode> {
    delete(&app, Kind::Image, &name).await
}

/// All clusters
#[utoipa::path(get, path = "/api/v1/clusters", tag = "clusters",
    responses((status = 200, description = "By name", body = Vec<Object>)))]
pub async fn list_clusters(State(app): State<App>) -> Result<Json<Vec<Value>>> {
    list(&app, Kind::Cluster).await
}

/// One cluster
#[utoipa::path(get, path = "/api/v1/clusters/{name}", tag = "clusters", params(("name" = String, Path)),
    responses((status = 200, description = "As declared; its secrets are `stored`", body = Object)))]
pub async fn show_cluster(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Value>> {
    show(&app, Kind::Cluster, &name).await
}

/// Declare a cluster
///
/// Its secrets are sealed and never come back out.
#[utoipa::path(put, path = "/api/v1/clusters/{name}", tag = "clusters", params(("name" = String, Path)),
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, description = "As stored", body = Object),
              (status = 422, description = "Refused, and nothing was changed", body = ProblemDetails)))]
pub async fn put_cluster(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(spec): Body<Value>,
) -> Result<Json<Value>> {
    put(&app, Kind::Cluster, &name, spec).await
}

/// Delete a cluster
#[utoipa::path(delete, path = "/api/v1/clusters/{name}", tag = "clusters", params(("name" = String, Path)),
    responses((status = 204, description = "Deleted"),
              (status = 409, description = "Something refers to it", body = ProblemDetails)))]
pub async fn delete_cluster(State(app): State<App>, Path(name): Path<String>) -> Result<StatusCode> {
    delete(&app, Kind::Cluster, &name).await
}

async fn list(app: &App, kind: Kind) -> Result<Json<Vec<Value>>> {
    Ok(Json(store::declared::all(&mut app.db().read().await?, kind).await?))
}

async fn show(app: &App, kind: Kind, name: &str) -> Result<Json<Value>> {
    let spec = store::declared::get(&mut app.db().read().await?, kind, name).await?;
    Ok(Json(spec.ok_or_else(|| unknown(kind, name))?))
}

async fn put(app: &App, kind: Kind, name: &str, spec: Value) -> Result<Json<Value>> {
    let mut tx = app.db().write().await?;
    let change = Change::Put { kind, name, spec };
    let checked = app.content().check(&declared(&mut tx).await?, change).map_err(ApiError::Invalid)?;
    store::declared::put(&mut tx, kind, name, &checked.spec, app.engine().now()).await?;
    for (field, secret) in &checked.secrets {
        let owner = secret_owner(name);
        let sealed = app.content().seal(&owner, field, secret).map_err(ApiError::internal)?;
        store::secrets::put(&mut tx, &owner, field, &sealed).await?;
    }
    tx.commit().await?;
    Ok(Json(checked.spec))
}

async fn delete(app: &App, kind: Kind, name: &str) -> Result<StatusCode> {
    let mut tx = app.db().write().await?;
    let before = declared(&mut tx).await?;
    if !store::declared::delete(&mut tx, kind, name).await? {
        return Err(unknown(kind, name));
    }
    if kind == Kind::Cluster {
        still_needed(&mut tx, name).await?;
        store::secrets::delete(&mut tx, &secret_owner(name)).await?;
    }
    app.content().check(&before, Change::Delete { kind, name }).map_err(|problems| {
        let what: Vec<String> = problems.into_iter().map(|p| p.what).collect();
        ApiError::Conflict(format!("{name} is still needed: {}", what.join("; ")))
    })?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A node of the cluster could not leave it, and a live token not be revoked, without its credentials.
async fn still_needed(tx: &mut Tx, name: &str) -> Result<()> {
    for machine in store::machines::all(tx).await? {
        if machine.needs_cluster(name) {
            let machine = machine.name;
            return Err(ApiError::Conflict(format!(
                "{name} is still needed: {machine} has a node or a token there"
            )));
        }
    }
    Ok(())
}

fn unknown(kind: Kind, name: &str) -> ApiError {
    let kind = match kind {
        Kind::Machine => "machine",
        Kind::Profile => "profile",
        Kind::Image => "image",
        Kind::Cluster => "cluster",
    };
    ApiError::NotFound(format!("there is no {kind} named {name:?}"))
}
