//! `GET /api/v1/boot-plane`: what DHCP, TFTP and HTTP have heard, counted; and other DHCP servers.

use crate::{
    http::{App, boot_plane::Counts, error::Result},
    machine::Time,
    store::{self, Tx, foreign_servers::Row},
};
use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

/// The boot plane since the server's start.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BootPlaneView {
    pub counts: Counts,
    /// DHCP servers that are not this one, the one heard last first.
    pub foreign: Vec<ForeignView>,
    /// Signs kept in the store, and of how many MACs.
    pub signs: i64,
    pub macs: i64,
}

/// A DHCP or proxyDHCP server that is not this one.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ForeignView {
    pub ip: String,
    /// Who sent its answers; absent where only a machine's choice of it was heard.
    pub mac: Option<String>,
    /// `dhcp`, `proxy` or `unknown`.
    pub kind: String,
    pub boot_file: Option<String>,
    /// How it was heard last: `answer` to a machine, `probe` of ours, `request` of a machine that chose it.
    pub heard_by: String,
    pub first_ms: i64,
    pub last_ms: i64,
    pub times: i64,
    /// Unattended wipes wait until it was not heard for a while.
    pub blocks: bool,
}

/// What the boot plane has heard
#[utoipa::path(get, path = "/api/v1/boot-plane", tag = "server",
    responses((status = 200, description = "Counts, and other DHCP servers", body = BootPlaneView)))]
pub async fn show(State(app): State<App>) -> Result<Json<BootPlaneView>> {
    let mut tx = app.db().read().await?;
    let (signs, macs) = store::heard::count(&mut tx).await?;
    let foreign = foreign_views(&mut tx, app.engine().now()).await?;
    let counts = Counts { images: app.fleet().counts(), ..app.boot_plane().counts() };
    Ok(Json(BootPlaneView { counts, foreign, signs, macs }))
}

/// Every server that is remembered.
pub async fn foreign_views(tx: &mut Tx, now: Time) -> Result<Vec<ForeignView>> {
    let rows = store::foreign_servers::all(tx).await?;
    let view = |row: Row| ForeignView {
        blocks: row.blocks_until > now.0,
        ip: row.ip,
        mac: row.mac,
        kind: row.kind,
        boot_file: row.boot_file,
        heard_by: row.heard_by,
        first_ms: row.first_at,
        last_ms: row.last_at,
        times: row.times,
    };
    Ok(rows.into_iter().map(view).collect())
}
