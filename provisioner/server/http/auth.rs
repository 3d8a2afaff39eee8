//! Who may use the API: deny by default, one role a route, tokens kept as hashes.

use super::{App, error::ApiError};
use crate::{
    machine::Time,
    store::{self, Db, StoreError},
};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use provisioner_wire::ids::hex;
use sha2::{Digest, Sha256};
use std::{fmt, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks, changes nothing.
    Viewer,
    /// Runs workflows.
    Operator,
    /// Declares and deletes.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            "admin" => Ok(Self::Admin),
            _ => Err(()),
        }
    }
}

/// Every route of the API that exists for somebody. What is not here is for nobody.
pub const RULES: &[(Method, &str, Role)] = &[
    (Method::GET, "/api/v1/version", Role::Viewer),
    (Method::GET, "/api/v1/events", Role::Viewer),
    (Method::GET, "/api/v1/leases", Role::Viewer),
    (Method::GET, "/api/v1/boot-plane", Role::Viewer),
    (Method::GET, "/api/v1/wipe-certificates", Role::Viewer),
    (Method::GET, "/api/v1/wipe-certificates/{id}", Role::Viewer),
    (Method::GET, "/api/v1/explain/{subject}", Role::Viewer),
    (Method::POST, "/api/v1/what-if", Role::Viewer),
    (Method::GET, "/api/v1/workflows", Role::Viewer),
    (Method::GET, "/api/v1/workflows/{machine}", Role::Viewer),
    (Method::GET, "/api/v1/machines", Role::Viewer),
    (Method::GET, "/api/v1/machines/{name}", Role::Viewer),
    (Method::PUT, "/api/v1/machines/{name}", Role::Admin),
    (Method::DELETE, "/api/v1/machines/{name}", Role::Admin),
    (Method::GET, "/api/v1/machines/{name}/events", Role::Viewer),
    (Method::GET, "/api/v1/machines/{name}/audit", Role::Viewer),
    (Method::GET, "/api/v1/machines/{name}/log", Role::Viewer),
    (Method::POST, "/api/v1/machines/{name}/provision", Role::Operator),
    (Method::POST, "/api/v1/machines/{name}/release", Role::Operator),
    (Method::POST, "/api/v1/machines/{name}/inspect", Role::Operator),
    (Method::POST, "/api/v1/machines/{name}/cancel", Role::Operator),
    (Method::POST, "/api/v1/machines/{name}/despite-rogue", Role::Operator),
    (Method::GET, "/api/v1/machines/{name}/config", Role::Viewer),
    (Method::GET, "/api/v1/machines/{name}/config/applied", Role::Viewer),
    (Method::POST, "/api/v1/machines/{name}/retry", Role::Operator),
    (Method::POST, "/api/v1/machines/{name}/approve", Role::Operator),
    (Method::POST, "/api/v1/machines/{name}/reject", Role::Operator),
    (Method::GET, "/api/v1/profiles", Role::Viewer),
    (Method::GET, "/api/v1/profiles/{name}", Role::Viewer),
    (Method::PUT, "/api/v1/profiles/{name}", Role::Admin),
    (Method::DELETE, "/api/v1/profiles/{name}", Role::Admin),
    (Method::GET, "/api/v1/clusters", Role::Viewer),
    (Method::GET, "/api/v1/clusters/{name}", Role::Viewer),
    (Method::PUT, "/api/v1/clusters/{name}", Role::Admin),
    (Method::DELETE, "/api/v1/clusters/{name}", Role::Admin),
    (Method::GET, "/api/v1/images", Role::Viewer),
    (Method::GET, "/api/v1/images/{name}", Role::Viewer),
    (Method::PUT, "/api/v1/images/{name}", Role::Admin),
    (Method::DELETE, "/api/v1/images/{name}", Role::Admin),
    (Method::GET, "/api/v1/images/{name}/state", Role::Viewer),
    (Method::POST, "/api/v1/images/{name}/verify", Role::Operator),
    (Method::POST, "/api/v1/images-gc", Role::Admin),
];

fn needed(method: &Method, route: Option<&MatchedPath>) -> Option<Role> {
    let route = route?.as_str();
    // HEAD is answered by GET's handler.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    RULES.iter().find(|(m, path, _)| m == method && *path == route).map(|(_, _, role)| *role)
}

/// Layer over the whole API, its fallback included: first who, then whether, then the route.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let token = bearer(request.headers()).map(hash);
    match allowed(&app, token).await.and_then(|role| may(role, &request)) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The role of the token with this hash.
async fn allowed(app: &App, token: Option<String>) -> Result<Role, ApiError> {
    let token = token.ok_or(ApiError::Unauthenticated)?;
    let found = store::api_tokens::get(&mut app.db().read().await?, &token).await?;
    let (name, role) = found.ok_or(ApiError::Unauthenticated)?;
    role.parse().map_err(|()| ApiError::internal(format!("the token {name:?} has the unknown role {role:?}")))
}

fn may(role: Role, request: &Request) -> Result<(), ApiError> {
    let route = request.extensions().get::<MatchedPath>();
    match needed(request.method(), route) {
        Some(needed) if role >= needed => Ok(()),
        Some(needed) => Err(ApiError::Forbidden(needed)),
        None if route.is_none() => Err(ApiError::NotFound(format!("there is no {}", request.uri().path()))),
        None => Err(ApiError::Method(request.method().clone())),
    }
}

/// What is kept of a token.
pub fn hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no random numbers from the system")]
    Random,
    #[error("the admin token could not be written to {0}: {1}")]
    File(std::path::PathBuf, std::io::Error),
}

/// Makes a token of `role` named `name`: `prov_` and 256 random bits. Only its hash is stored.
pub async fn issue(db: &Db, name: &str, role: Role, now: Time) -> Result<String, TokenError> {
    let token = fresh()?;
    let mut tx = db.write().await?;
    store::api_tokens::put(&mut tx, &hash(&token), name, &role.to_string(), now).await?;
    tx.commit().await?;
    Ok(token)
}

fn fresh() -> Result<String, TokenError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| TokenError::Random)?;
    Ok(format!("prov_{}", hex(&bytes)))
}

/// At the first start: makes the admin token, writes it to `data_dir/admin-token` (mode 0600) and gives it back, to be
/// printed once. `None` where there are tokens already.
pub async fn first_admin_token(db: &Db, data_dir: &Path, now: Time) -> Result<Option<String>, TokenError> {
    let mut tx = db.write().await?;
    if store::api_tokens::count(&mut tx).await? > 0 {
        return Ok(None);
    }
    let token = fresh()?;
    store::api_tokens::put(&mut tx, &hash(&token), "first admin", "admin", now).await?;
    // The file first: a token that is stored and that nobody has would lock everybody out.
    let file = data_dir.join("admin-token");
    write_private(&file, &format!("{token}\n")).map_err(|e| TokenError::File(file, e))?;
    tx.commit().await?;
    Ok(Some(token))
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    let temporary = file.with_extension("new");
    // A left-over from a crash may have other permission bits.
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    std::fs::rename(&temporary, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn the_first_admin_token_is_made_once_and_only_its_hash_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("db")).await.unwrap();
        let token = first_admin_token(&db, folder.path(), Time(1)).await.unwrap().unwrap();
        assert!(token.starts_with("prov_") && token.len() == 69);
        assert_eq!(first_admin_token(&db, folder.path(), Time(2)).await.unwrap(), None);
        let file = folder.path().join("admin-token");
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), token);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let found = store::api_tokens::get(&mut db.read().await.unwrap(), &hash(&token)).await.unwrap();
        assert_eq!(found, Some(("first admin".into(), "admin".into())));
        db.close().await;
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("admin-token") {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!String::from_utf8_lossy(&bytes).contains(&token), "{}", path.display());
            }
        }
    }
}
