//! `/api/v1/images/…` beside the records: how far the taking in of an image is, whether its chunks are what they were,
//! and the removal of what nobody needs.

use crate::{
    http::{
        App,
        content::{ImageCheck, ImageState, ImagesRemoved},
        error::{ApiError, Path, ProblemDetails, Result},
    },
    store::{self, declared::Kind},
};
use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;
use utoipa::IntoParams;

/// Whether this is only asked.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
pub struct Only {
    /// Say what would be removed, and remove nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// How far an image is
#[utoipa::path(get, path = "/api/v1/images/{name}/state", tag = "images", params(("name" = String, Path)),
    responses((status = 200, description = "Fetching, checking, taking in, ready or failed", body = ImageState)))]
pub async fn state(State(app): State<App>, Path(name): Path<String>) -> Result<Json<ImageState>> {
    known(&app, &name).await?;
    Ok(Json(app.content().image_state(&name).await.map_err(ApiError::NotFound)?))
}

/// Read an image's chunks again
#[utoipa::path(post, path = "/api/v1/images/{name}/verify", tag = "images", params(("name" = String, Path)),
    responses((status = 200, description = "What was damaged was made again", body = ImageCheck),
              (status = 409, description = "It is not taken in", body = ProblemDetails)))]
pub async fn verify(State(app): State<App>, Path(name): Path<String>) -> Result<Json<ImageCheck>> {
    known(&app, &name).await?;
    Ok(Json(app.content().verify_image(&name).await.map_err(ApiError::Conflict)?))
}

/// Remove what no declaration and no running workflow needs
#[utoipa::path(post, path = "/api/v1/images-gc", tag = "images", params(Only),
    responses((status = 200, description = "What was removed", body = ImagesRemoved),
              (status = 409, description = "Not while an image is taken apart", body = ProblemDetails)))]
pub async fn gc(State(app): State<App>, Query(only): Query<Only>) -> Result<Json<ImagesRemoved>> {
    Ok(Json(app.content().collect_images(only.dry_run).await.map_err(ApiError::Conflict)?))
}

async fn known(app: &App, name: &str) -> Result<()> {
    let spec: Option<serde_json::Value> =
        store::declared::get(&mut app.db().read().await?, Kind::Image, name).await?;
    spec.map(|_| ()).ok_or_else(|| ApiError::NotFound(format!("there is no image named {name:?}")))
}
