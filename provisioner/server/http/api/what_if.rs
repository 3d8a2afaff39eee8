//! `POST /api/v1/what-if`: the answers that a machine would get now, its boot script, its config. Nothing is sent, no
//! lease made, no event written.

use crate::{
    http::{
        App, boot,
        boot_plane::{Exchange, Question},
        error::{ApiError, Body, Problem, Result},
    },
    store,
};
use axum::{Json, extract::State};
use provisioner_wire::Mac;
use serde::Serialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// What would happen.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WhatIf {
    pub exchanges: Vec<Exchange>,
    /// One for each MAC in the question.
    pub machines: Vec<Boots>,
}

/// What one machine would boot, and become.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Boots {
    #[schema(value_type = String)]
    pub mac: Mac,
    /// Absent where no machine has the MAC.
    pub machine: Option<String>,
    /// The text of its iPXE script, with `REDACTED` for its boot id.
    pub script: String,
    /// Files of its config, with `REDACTED` for its token; or why there is none.
    pub config: Vec<File>,
    pub config_refused: Option<String>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct File {
    pub name: String,
    pub contents: String,
}

/// What a machine would be answered
///
/// Sends nothing and changes nothing: no lease, no boot id, no event.
#[utoipa::path(post, path = "/api/v1/what-if", tag = "server", request_body = Question,
    responses((status = 200, description = "The answers, byte for byte", body = WhatIf)))]
pub async fn what_if(State(app): State<App>, Body(question): Body<Question>) -> Result<Json<WhatIf>> {
    let wrong = |what| ApiError::Invalid(vec![Problem { place: String::new(), what }]);
    let exchanges = app.boot_plane().what_if(&question).await.map_err(wrong)?;
    let macs: BTreeSet<Mac> = exchanges.iter().filter_map(|exchange| exchange.mac).collect();
    let mut machines = Vec::new();
    for mac in macs {
        machines.push(boots(&app, mac).await?);
    }
    Ok(Json(WhatIf { exchanges, machines }))
}

async fn boots(app: &App, mac: Mac) -> Result<Boots> {
    let machine = store::machines::by_mac(&mut app.db().read().await?, mac).await?;
    let script = boot::preview(app, machine.as_ref()).await?;
    let mut boots = Boots {
        mac,
        machine: machine.as_ref().map(|m| m.name.to_string()),
        script,
        config: Vec::new(),
        config_refused: None,
    };
    let Some(machine) = machine else { return Ok(boots) };
    match app.content().preview(&machine).await {
        Ok(config) => {
            let files = config.files.iter();
            boots.config =
                files.map(|f| File { name: f.name.clone(), contents: f.contents.clone() }).collect();
        }
        Err(why) => boots.config_refused = Some(why),
    }
    Ok(boots)
}
