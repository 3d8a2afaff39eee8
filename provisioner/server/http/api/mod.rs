//! REST under `/api/v1`: the same records as `hardware/`, and the workflows. The OpenAPI document is made of these
//! handlers; `openapi.json` in the repository is a copy that a test compares.

pub mod boot_plane;
pub mod configs;
pub mod declared;
pub mod events;
pub mod explain;
pub mod images;
pub mod machines;
pub mod other;
pub mod view;
mod waits;
pub mod what_if;
pub mod workflows;

use super::{App, auth, certificates, error::ProblemDetails};
use axum::{Json, Router, middleware, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "provisioner",
        description = "Takes bare servers from power-on to a Ready node. Every refusal is application/problem+json \
                       (RFC 9457)."
    ),
    components(schemas(ProblemDetails)),
    security(("token" = [])),
    modifiers(&Common)
)]
struct Document;

/// What every operation has: the bearer token, and problem details for whatever is refused.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        if let Some(components) = document.components.as_mut() {
            components.add_security_scheme("token", SecurityScheme::Http(bearer));
        }
    }
}

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(other::version))
        .routes(routes!(other::leases))
        .routes(routes!(boot_plane::show))
        .routes(routes!(certificates::list))
        .routes(routes!(certificates::show))
        .routes(routes!(explain::explain))
        .routes(routes!(what_if::what_if))
        .routes(routes!(events::stream))
        .routes(routes!(workflows::list))
        .routes(routes!(workflows::show))
        .routes(routes!(machines::list))
        .routes(routes!(machines::show, machines::put, machines::delete))
        .routes(routes!(machines::events))
        .routes(routes!(machines::audit))
        .routes(routes!(machines::log))
        .routes(routes!(configs::rendered))
        .routes(routes!(configs::applied))
        .routes(routes!(workflows::provision))
        .routes(routes!(workflows::release))
        .routes(routes!(workflows::inspect))
        .routes(routes!(workflows::cancel))
        .routes(routes!(workflows::despite_rogue))
        .routes(routes!(workflows::retry))
        .routes(routes!(workflows::approve))
        .routes(routes!(workflows::reject))
        .routes(routes!(declared::list_profiles))
        .routes(routes!(declared::show_profile, declared::put_profile, declared::delete_profile))
        .routes(routes!(declared::list_images))
        .routes(routes!(declared::show_image, declared::put_image, declared::delete_image))
        .routes(routes!(declared::list_clusters))
        .routes(routes!(declared::show_cluster, declared::put_cluster, declared::delete_cluster))
        .routes(routes!(images::state))
        .routes(routes!(images::verify))
        .routes(routes!(images::gc))
}

/// The API behind its guard, and beside it what says nothing about any machine: the document and its viewer.
pub fn routes(app: &App) -> Router {
    let (api, _) = documented().split_for_parts();
    let guarded = api
        .fallback(|| async {})
        .layer(middleware::from_fn_with_state(app.clone(), auth::guard))
        .with_state(app.clone());
    let viewer = utoipa_swagger_ui::SwaggerUi::new("/api/docs")
        .config(utoipa_swagger_ui::Config::from("/api/v1/openapi.json"));
    guarded.route("/api/v1/openapi.json", get(|| async { Json(document()) })).merge(viewer)
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = documented().split_for_parts();
    let problem = || {
        let schema = Ref::from_schema_name("ProblemDetails");
        ResponseBuilder::new()
            .description("Refused: what is wrong, and where")
            .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
            .build()
    };
    for path in document.paths.paths.values_mut() {
        for operation in
            [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten()
        {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(problem()));
        }
    }
    document
}
