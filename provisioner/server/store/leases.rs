//! Table `leases`: what DHCP has promised. An address is handed out only after its row is committed.

use super::{Result, Tx, on};
use sqlx::FromRow;
use std::sync::LazyLock;

const PUT: &str = "INSERT INTO leases (ip, mac, client_id, machine, state, expires_at) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (ip) DO UPDATE SET mac = excluded.mac, \
     client_id = excluded.client_id, machine = excluded.machine, state = excluded.state, \
     expires_at = excluded.expires_at";
const ALL: &str = "SELECT ip, mac, client_id, machine, state, expires_at FROM leases ORDER BY ip";
const DELETE: &str = "DELETE FROM leases WHERE ip = $1 AND mac = $2";
pub(super) const STATEMENTS: &[&str] = &[PUT, ALL, DELETE];
/// Rows of one [`PUT_MANY`].
const MANY: usize = 32;
/// [`PUT`] with many rows: in a boot storm the way of each statement to the database costs more than its work.
static PUT_MANY: LazyLock<String> = LazyLock::new(|| {
    let row = |n: usize| {
        let columns: Vec<_> = (1..=6).map(|column| format!("${}", n * 6 + column)).collect();
        format!("({})", columns.join(", "))
    };
    let rows: Vec<_> = (0..MANY).map(row).collect();
    PUT.replace("($1, $2, $3, $4, $5, $6)", &rows.join(", "))
});

/// Statements that are made at run time.
pub(super) fn made_statements() -> Vec<&'static str> {
    vec![PUT_MANY.as_str()]
}

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Row {
    /// Dotted IPv4 address.
    pub ip: String,
    pub mac: String,
    /// Option 61, hexadecimal.
    pub client_id: Option<String>,
    pub machine: Option<String>,
    /// `bound` or `declined`.
    pub state: String,
    /// Epoch milliseconds.
    pub expires_at: i64,
}

pub async fn put(tx: &mut Tx, row: &Row) -> Result<()> {
    on!(tx, c => sqlx::query(PUT).bind(&row.ip).bind(&row.mac).bind(&row.client_id).bind(&row.machine)
        .bind(&row.state).bind(row.expires_at).execute(c).await.map(|_| ())?);
    Ok(())
}

/// As [`put`] of each in turn, where no address comes twice.
pub async fn put_all(tx: &mut Tx, rows: &[Row]) -> Result<()> {
    let (many, few) = rows.as_chunks::<MANY>();
    for chunk in many {
        on!(tx, c => {
            let mut query = sqlx::query(PUT_MANY.as_str());
            for row in chunk {
                query = query.bind(&row.ip).bind(&row.mac).bind(&row.client_id).bind(&row.machine)
                    .bind(&row.state).bind(row.expires_at);
            }
            query.execute(c).await.map(|_| ())?
        });
    }
    for row in few {
        put(tx, row).await?;
    }
    Ok(())
}

pub async fn all(tx: &mut Tx) -> Result<Vec<Row>> {
    Ok(on!(tx, c => sqlx::query_as(ALL).fetch_all(c).await?))
}

/// Scoped to address and MAC: a late release never takes the next owner's lease.
pub async fn delete(tx: &mut Tx, ip: &str, mac: &str) -> Result<()> {
    on!(tx, c => sqlx::query(DELETE).bind(ip).bind(mac).execute(c).await.map(|_| ())?);
    Ok(())
}
