//! `/api/v1/machines/{name}/config`: the config as it would be rendered now, and as the machine was last given it. A word
//! stands for each secret in both.

use super::machines::find;
use crate::{
    http::{
        App,
        error::{ApiError, Path, ProblemDetails, Result},
    },
    machine::Machine,
    store,
};
use axum::{Json, extract::State};
use provisioner_wire::order::Config;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigFileView {
    pub name: String,
    pub contents: String,
    /// Unix permission bits.
    pub mode: u32,
}

/// A config without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConfigView {
    pub files: Vec<ConfigFileView>,
    /// Of the workflow that gave it to the machine; absent where it is only rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_ms: Option<i64>,
}

fn files(config: Config) -> Vec<ConfigFileView> {
    let view = |f: provisioner_wire::order::ConfigFile| ConfigFileView {
        name: f.name,
        contents: f.contents,
        mode: f.mode,
    };
    config.files.into_iter().map(view).collect()
}

/// A machine's config, as it would be rendered now
#[utoipa::path(get, path = "/api/v1/machines/{name}/config", tag = "machines", params(("name" = String, Path)),
    responses((status = 200, description = "Nothing is minted; a word stands for each secret", body = ConfigView),
              (status = 422, description = "Its template or its values are not good", body = ProblemDetails)))]
pub async fn rendered(State(app): State<App>, Path(name): Path<String>) -> Result<Json<ConfigView>> {
    let machine = find(&mut app.db().read().await?, &name).await?;
    let config = app.content().preview(&machine).await.map_err(|why| ApiError::invalid("", why))?;
    Ok(Json(ConfigView { files: files(config), generation: None, applied_ms: None }))
}

/// A machine's config, as it was last given to it
#[utoipa::path(get, path = "/api/v1/machines/{name}/config/applied", tag = "machines", params(("name" = String, Path)),
    responses((status = 200, description = "A word stands for each secret", body = ConfigView),
              (status = 404, description = "It was never given one", body = ProblemDetails)))]
pub async fn applied(State(app): State<App>, Path(name): Path<String>) -> Result<Json<ConfigView>> {
    let mut tx = app.db().read().await?;
    let machine = find(&mut tx, &name).await?;
    let found = store::applied_configs::get(&mut tx, machine.name.as_str()).await?;
    let (generation, at, files) =
        found.ok_or_else(|| ApiError::NotFound(format!("{} was never given a config", machine.name)))?;
    Ok(Json(ConfigView { files, generation: Some(generation), applied_ms: Some(at.0) }))
}

/// Keeps what `machine` is being given, to be compared with later. A machine waits for no bookkeeping: what fails here is
/// told, and its config goes out.
pub async fn keep(app: &App, machine: &Machine) {
    let kept = async {
        let files = files(app.content().preview(machine).await?);
        let generation = i64::try_from(machine.generation.0).unwrap_or(i64::MAX);
        let mut tx = app.db().write().await.map_err(|e| e.to_string())?;
        let name = machine.name.as_str();
        let put = store::applied_configs::put(&mut tx, name, generation, &files, app.engine().now()).await;
        put.map_err(|e| e.to_string())?;
        tx.commit().await.map_err(|e| e.to_string())
    };
    if let Err(why) = kept.await {
        tracing::warn!(machine = %machine.name, "its config is not kept for a later comparison: {why}");
    }
}
