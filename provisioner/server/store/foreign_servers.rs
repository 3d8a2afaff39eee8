//! Table `foreign_servers`: DHCP and proxyDHCP servers on the network that are not ours.

use super::{Result, Tx, on};
use crate::machine::Time;
use sqlx::FromRow;

/// Servers kept: anyone can make one up. The one that was not heard for longest goes.
pub const KEPT_MAX: i64 = 256;

const PUT: &str = "INSERT INTO foreign_servers \
     (ip, mac, kind, boot_file, heard_by, first_at, last_at, times, blocks_until) \
     VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8) ON CONFLICT (ip) DO UPDATE SET \
     mac = COALESCE(excluded.mac, foreign_servers.mac), \
     kind = CASE WHEN excluded.kind = 'unknown' THEN foreign_servers.kind ELSE excluded.kind END, \
     boot_file = COALESCE(excluded.boot_file, foreign_servers.boot_file), heard_by = excluded.heard_by, \
     last_at = excluded.last_at, times = foreign_servers.times + excluded.times, \
     blocks_until = excluded.blocks_until";
const ALL: &str = "SELECT ip, mac, kind, boot_file, heard_by, first_at, last_at, times, blocks_until \
     FROM foreign_servers ORDER BY last_at DESC, ip";
const BLOCKING: &str = "SELECT ip, blocks_until FROM foreign_servers WHERE blocks_until > $1 \
     ORDER BY blocks_until DESC LIMIT 1";
const TRIM: &str = "DELETE FROM foreign_servers WHERE last_at <= \
     (SELECT last_at FROM foreign_servers ORDER BY last_at DESC LIMIT 1 OFFSET $1)";
pub(super) const STATEMENTS: &[&str] = &[PUT, ALL, BLOCKING, TRIM];

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Row {
    /// Dotted IPv4 address: its server identifier, or where it answered from.
    pub ip: String,
    /// Who sent its answers: the server itself, or the router before it.
    pub mac: Option<String>,
    /// `dhcp`, `proxy`, or `unknown` where only a choice of it was heard.
    pub kind: String,
    pub boot_file: Option<String>,
    /// `answer`, `probe` or `request`.
    pub heard_by: String,
    pub first_at: i64,
    pub last_at: i64,
    pub times: i64,
    /// 0 where it is allowed.
    pub blocks_until: i64,
}

/// Adds what was heard of it since; `times` counts, `first_at` is kept where it is known already.
pub async fn put(tx: &mut Tx, row: &Row) -> Result<()> {
    on!(tx, c => sqlx::query(PUT).bind(&row.ip).bind(&row.mac).bind(&row.kind).bind(&row.boot_file)
        .bind(&row.heard_by).bind(row.last_at).bind(row.times).bind(row.blocks_until)
        .execute(c).await.map(|_| ())?);
    on!(tx, c => sqlx::query(TRIM).bind(KEPT_MAX).execute(c).await.map(|_| ())?);
    Ok(())
}

/// The one that was heard last comes first.
pub async fn all(tx: &mut Tx) -> Result<Vec<Row>> {
    Ok(on!(tx, c => sqlx::query_as(ALL).fetch_all(c).await?))
}

/// A server that blocks unattended wipes now, and until when.
pub async fn blocking(tx: &mut Tx, now: Time) -> Result<Option<(String, Time)>> {
    let row: Option<(String, i64)> =
        on!(tx, c => sqlx::query_as(BLOCKING).bind(now.0).fetch_optional(c).await?);
    Ok(row.map(|(ip, until)| (ip, Time(until))))
}
