//! What DSP0266 asks of every answer, and the two OData documents nobody of ours reads.

use super::{auth::refuse, documents::SESSIONS};
use axum::{
    Json,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;

const ODATA_VERSION: &str = "odata-version";

/// Adds the headers that every answer carries; refuses another OData version than 4.0.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let asked = request.headers().get(ODATA_VERSION).map(|value| value == "4.0");
    let mut response = match asked {
        Some(false) => {
            refuse(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "Only OData-Version 4.0.")
        }
        _ => next.run(request).await,
    };
    let status = response.status();
    let headers = response.headers_mut();
    put(headers, ODATA_VERSION, "4.0");
    put(headers, "cache-control", "no-cache");
    put(headers, "allow", allowed(&path));
    put(headers, "link", "</redfish/v1/$metadata>; rel=describedby");
    if status == StatusCode::UNAUTHORIZED {
        put(headers, "www-authenticate", "Basic realm=\"Redfish\"");
    }
    response
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &'static str) {
    headers.insert(header::HeaderName::from_static(name), HeaderValue::from_static(value));
}

fn allowed(path: &str) -> &'static str {
    let path = path.trim_end_matches('/');
    let below = path.strip_prefix(super::documents::SYSTEMS).unwrap_or_default();
    if path == SESSIONS {
        "GET, HEAD, POST"
    } else if path.starts_with(SESSIONS) {
        "GET, HEAD, DELETE"
    } else if path.contains("/Actions/") {
        "POST"
    } else if below.matches('/').count() == 1 {
        "GET, HEAD, PATCH"
    } else {
        "GET, HEAD"
    }
}

/// The OData service document.
pub(super) async fn odata() -> Response {
    let services = ["Systems", "Managers", "SessionService"];
    let entries = services
        .iter()
        .map(|name| json!({ "name": name, "kind": "Singleton", "url": format!("/redfish/v1/{name}") }))
        .chain([json!({ "name": "Service", "kind": "Singleton", "url": "/redfish/v1/" })]);
    Json(json!({ "@odata.context": "/redfish/v1/$metadata", "value": entries.collect::<Vec<_>>() }))
        .into_response()
}

/// The OData metadata document: which schemas are used, and the container of the top-level resources.
pub(super) async fn metadata() -> Response {
    const SCHEMAS: [(&str, &str); 4] = [
        ("ServiceRoot", "ServiceRoot.v1_16_0"),
        ("ComputerSystemCollection", "ComputerSystemCollection"),
        ("ManagerCollection", "ManagerCollection"),
        ("SessionService", "SessionService.v1_1_8"),
    ];
    let references: String = SCHEMAS
        .iter()
        .map(|(schema, namespace)| {
            format!(
                "<edmx:Reference Uri=\"http://redfish.dmtf.org/schemas/v1/{schema}_v1.xml\">\
                 <edmx:Include Namespace=\"{namespace}\"/></edmx:Reference>"
            )
        })
        .collect();
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <edmx:Edmx xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\" Version=\"4.0\">{references}\
         <edmx:DataServices><Schema xmlns=\"http://docs.oasis-open.org/odata/ns/edm\" Namespace=\"Service\">\
         <EntityContainer Name=\"Service\" Extends=\"ServiceRoot.v1_16_0.ServiceContainer\"/>\
         </Schema></edmx:DataServices></edmx:Edmx>"
    );
    ([(header::CONTENT_TYPE, "application/xml")], document).into_response()
}
