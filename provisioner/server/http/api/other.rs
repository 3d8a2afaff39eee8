//! `/api/v1/version` and `/api/v1/leases`.

use crate::{
    http::{App, error::Result},
    store,
};
use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Version {
    pub version: &'static str,
}

/// Version of the server
#[utoipa::path(get, path = "/api/v1/version", tag = "server",
    responses((status = 200, description = "The version", body = Version)))]
pub async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION") })
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LeaseView {
    pub ip: String,
    pub mac: String,
    pub machine: Option<String>,
    /// `bound` or `declined`.
    pub state: String,
    pub expires_at_ms: i64,
}

/// DHCP leases
#[utoipa::path(get, path = "/api/v1/leases", tag = "server",
    responses((status = 200, description = "All leases", body = Vec<LeaseView>)))]
pub async fn leases(State(app): State<App>) -> Result<Json<Vec<LeaseView>>> {
    let rows = store::leases::all(&mut app.db().read().await?).await?;
    let view = |row: store::leases::Row| LeaseView {
        ip: row.ip,
        mac: row.mac,
        machine: row.machine,
        state: row.state,
        expires_at_ms: row.expires_at,
    };
    Ok(Json(rows.into_iter().map(view).collect()))
}
