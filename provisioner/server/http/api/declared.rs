//! `/api/v1/profiles` and `/api/v1/images`: the same records as in `hardware/`, as JSON. What a machine or a profile
//! still refers to cannot be deleted.

use super::machines::declared;
use crate::{
    http::{
        App,
        content::Change,
        error::{ApiError, Body, Path, ProblemDetails, Result},
    },
    store::{self, declared::Kind},
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
    tx.commit().await?;
    Ok(Json(checked.spec))
}

async fn delete(app: &App, kind: Kind, name: &str) -> Result<StatusCode> {
    let mut tx = app.db().write().await?;
    let before = declared(&mut tx).await?;
    if !store::declared::delete(&mut tx, kind, name).await? {
        return Err(unknown(kind, name));
    }
    app.content().check(&before, Change::Delete { kind, name }).map_err(|problems| {
        let what: Vec<String> = problems.into_iter().map(|p| p.what).collect();
        ApiError::Conflict(format!("{name} is still needed: {}", what.join("; ")))
    })?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(kind: Kind, name: &str) -> ApiError {
    let kind = match kind {
        Kind::Machine => "machine",
        Kind::Profile => "profile",
        Kind::Image => "image",
    };
    ApiError::NotFound(format!("there is no {kind} named {name:?}"))
}
