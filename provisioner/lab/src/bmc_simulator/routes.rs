//! The routes.

use super::{
    ResetTypes,
    auth::{guard, login, logout, refuse},
    documents,
    protocol::{headers, metadata, odata},
    state::Shared,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use redfish_codegen::models::computer_system::{
    BootSource,
    v1_20_1::{Boot, BootSourceOverrideEnabled, ResetRequestBody},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/redfish", get(async || Json(json!({ "v1": "/redfish/v1/" }))))
        .route("/redfish/v1", get(root))
        .route("/redfish/v1/", get(root))
        .route("/redfish/v1/odata", get(odata))
        .route("/redfish/v1/$metadata", get(metadata))
        .route("/redfish/v1/SessionService", get(session_service))
        .route("/redfish/v1/SessionService/Sessions", get(sessions).post(login))
        .route("/redfish/v1/SessionService/Sessions/Members", post(login))
        .route("/redfish/v1/SessionService/Sessions/{number}", get(session).delete(logout))
        .route("/redfish/v1/Systems", get(systems))
        .route("/redfish/v1/Systems/{id}", get(system).patch(patch_system))
        .route("/redfish/v1/Systems/{id}/ResetActionInfo", get(reset_action_info))
        .route("/redfish/v1/Systems/{id}/Actions/ComputerSystem.Reset", post(reset))
        .route("/redfish/v1/Systems/{id}/EthernetInterfaces", get(interfaces))
        .route("/redfish/v1/Systems/{id}/EthernetInterfaces/{number}", get(interface))
        .route("/redfish/v1/TaskService/TaskMonitors/{number}", get(task_monitor))
        .route("/redfish/v1/Managers", get(managers))
        .route("/redfish/v1/Managers/BMC", get(async || Json(documents::manager())))
        .fallback(async || missing())
        .layer(from_fn_with_state(shared.clone(), guard))
        .layer(from_fn(headers))
        .with_state(shared)
}

fn missing() -> Response {
    refuse(StatusCode::NOT_FOUND, "ResourceMissingAtURI", "There is no such resource.")
}

/// A change was made: said at once, or by a task later.
fn changed(shared: &Shared) -> Response {
    let Some(span) = shared.config().tasks else { return StatusCode::NO_CONTENT.into_response() };
    let mut state = shared.state();
    state.tasks.push(Instant::now() + span);
    let monitor = format!("/redfish/v1/TaskService/TaskMonitors/{}", state.tasks.len() - 1);
    (StatusCode::ACCEPTED, [(header::LOCATION, monitor)]).into_response()
}

async fn task_monitor(State(shared): State<Shared>, Path(number): Path<usize>) -> Response {
    match shared.state().tasks.get(number) {
        Some(end) if Instant::now() < *end => StatusCode::ACCEPTED.into_response(),
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => missing(),
    }
}

fn internal(error: &anyhow::Error) -> Response {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &format!("{error:#}"))
}

async fn root(State(shared): State<Shared>) -> Response {
    Json(documents::root(shared.config())).into_response()
}

async fn session_service(State(shared): State<Shared>) -> Response {
    if !shared.config().session_service {
        return missing();
    }
    Json(documents::session_service(shared.config())).into_response()
}

async fn sessions(State(shared): State<Shared>) -> Response {
    let open: Vec<String> =
        shared.state().sessions.keys().map(|number| format!("{}/{number}", documents::SESSIONS)).collect();
    Json(documents::collection(documents::SESSIONS, "Session", &open)).into_response()
}

async fn session(State(shared): State<Shared>, Path(number): Path<u64>) -> Response {
    if !shared.state().sessions.contains_key(&number) {
        return missing();
    }
    Json(documents::session(number, &shared.config().user)).into_response()
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "$skip", default)]
    skip: usize,
}

async fn systems(State(shared): State<Shared>, Query(page): Query<Page>) -> Response {
    Json(documents::systems(shared.config(), page.skip)).into_response()
}

async fn system(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let Some((at, declared)) = shared.system(&id) else { return missing() };
    let power = match shared.power(at).await {
        Ok(power) => power,
        Err(error) => return internal(&error),
    };
    let (state, etag) = (shared.system_state(at), shared.etag(at));
    let header = etag.clone().map(|etag| [(header::ETAG, etag)]);
    (header, Json(documents::system(shared.config(), declared, &state, power, etag))).into_response()
}

#[derive(Deserialize)]
struct SystemPatch {
    #[serde(rename = "Boot")]
    boot: Option<Boot>,
}

async fn patch_system(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some((at, _)) = shared.system(&id) else { return missing() };
    let given = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    if let Some(status) = shared.precondition(at, given) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::PRECONDITION_FAILED);
        return refuse(status, "PreconditionFailed", "The ETag did not match.");
    }
    let patch: SystemPatch = match serde_json::from_slice(&body) {
        Ok(patch) => patch,
        Err(error) => {
            return refuse(StatusCode::BAD_REQUEST, "PropertyValueNotInList", &error.to_string());
        }
    };
    let never_once = shared.config().never_once;
    shared.change(at, |state| {
        if let Some(boot) = patch.boot {
            merge(&mut state.boot, boot, never_once);
        }
        state.version += 1;
    });
    changed(&shared)
}

fn merge(held: &mut Boot, given: Boot, never_once: bool) {
    use BootSourceOverrideEnabled as E;
    if let Some(enabled) = given.boot_source_override_enabled {
        held.boot_source_override_enabled = Some(match enabled {
            E::Once | E::Disabled if never_once => E::Continuous,
            E::Disabled => {
                held.boot_source_override_target = Some(BootSource::None);
                E::Disabled
            }
            other => other,
        });
    }
    if given.boot_source_override_target.is_some() {
        held.boot_source_override_target = given.boot_source_override_target;
    }
    if given.boot_source_override_mode.is_some() {
        held.boot_source_override_mode = given.boot_source_override_mode;
    }
    if given.http_boot_uri.is_some() {
        held.http_boot_uri = given.http_boot_uri;
    }
}

async fn reset_action_info(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let known = shared.system(&id).is_some();
    match documents::reset_action_info(shared.config(), &id) {
        Some(info) if known => Json(info).into_response(),
        _ => missing(),
    }
}

async fn reset(State(shared): State<Shared>, Path(id): Path<String>, body: Bytes) -> Response {
    let Some((at, _)) = shared.system(&id) else { return missing() };
    let kind = match serde_json::from_slice(&body) {
        Ok(ResetRequestBody { reset_type: Some(kind) }) => kind,
        Ok(ResetRequestBody { reset_type: None }) => {
            return refuse(StatusCode::BAD_REQUEST, "ActionParameterMissing", "ResetType is missing.");
        }
        Err(error) => {
            return refuse(StatusCode::BAD_REQUEST, "ActionParameterValueNotInList", &error.to_string());
        }
    };
    if let ResetTypes::AllowableValues(types) | ResetTypes::ActionInfo(types) = &shared.config().reset_types
        && !types.iter().any(|name| *name == format!("{kind:?}"))
    {
        return refuse(
            StatusCode::BAD_REQUEST,
            "ActionParameterNotSupported",
            &format!("No reset {kind:?}."),
        );
    }
    match shared.reset(at, kind).await {
        Ok(()) => changed(&shared),
        Err(error) => internal(&error),
    }
}

async fn interfaces(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let Some((_, system)) = shared.system(&id) else { return missing() };
    let path = format!("{}/{id}/EthernetInterfaces", documents::SYSTEMS);
    let members: Vec<String> = (0..system.macs.len()).map(|number| format!("{path}/{number}")).collect();
    Json(documents::collection(&path, "EthernetInterface", &members)).into_response()
}

async fn interface(State(shared): State<Shared>, Path((id, number)): Path<(String, usize)>) -> Response {
    let found = shared.system(&id).and_then(|(_, system)| documents::interface(system, number));
    found.map_or_else(missing, |interface| Json(interface).into_response())
}

async fn managers() -> Response {
    Json(documents::collection("/redfish/v1/Managers", "Manager", &[documents::MANAGER.to_owned()]))
        .into_response()
}
