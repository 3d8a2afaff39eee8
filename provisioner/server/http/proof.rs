//! The proof of what was written: `/agent/v1/challenge` and `/agent/v1/read-back` (see [`provisioner_wire::read_back`]).

use super::{
    App,
    agent::{Result, Spoken},
    error::ApiError,
};
use crate::{
    machine::{Event, Machine, RefusalKind},
    store,
};
use axum::{Json, extract::State, http::StatusCode};
use provisioner_wire::{
    chunks::Sha,
    ids::hex,
    order::{AskChallenge, Challenge, ShowReadBack},
};

/// `POST challenge`: draws the question now that the agent has said that the image is on the medium. 409 where it is not
/// the time, 503 where this server cannot answer it itself at present.
pub async fn challenge(State(app): State<App>, spoken: Spoken) -> Result<Json<Challenge>> {
    let asked: AskChallenge = spoken.read()?;
    if let Some(known) = &spoken.machine().challenge {
        return Ok(Json(Challenge { nonce: known.nonce.clone() }));
    }
    let (root, disk_bytes) = what_is_written(spoken.machine()).ok_or_else(|| {
        ApiError::Conflict(format!("{} writes nothing that could be asked for", spoken.machine().name))
    })?;
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|e| ApiError::internal(format!("random numbers: {e}")))?;
    let expected = app.content().read_back(root, nonce, disk_bytes).await.map_err(ApiError::Busy)?;
    let event = Event::Challenged {
        boot_hash: spoken.boot_hash().to_owned(),
        generation: asked.generation,
        licence: asked.licence,
        nonce: hex(&nonce),
        expected,
    };
    spoken.submit(&app, &event).await?;
    let now = store::machines::find(&mut app.db().read().await?, spoken.machine().id).await?;
    let stands = now.and_then(|machine| machine.challenge);
    let stands = stands.ok_or_else(|| ApiError::Conflict("another boot has taken over".to_owned()))?;
    Ok(Json(Challenge { nonce: stands.nonce }))
}

fn what_is_written(machine: &Machine) -> Option<(Sha, u64)> {
    let root = Sha::from_hex(&machine.target()?.image.as_ref()?.chunks.as_ref()?.root)?;
    Some((root, machine.licence.as_ref()?.disks.first()?.size_bytes))
}

/// `POST read-back`: 200, or 403 where the disk does not hold what was written.
pub async fn read_back(State(app): State<App>, spoken: Spoken) -> Result<StatusCode> {
    let shown: ShowReadBack = spoken.read()?;
    let event = Event::ReadBack {
        boot_hash: spoken.boot_hash().to_owned(),
        generation: shown.generation,
        proof: shown.proof.chars().take(64).collect(),
    };
    spoken.submitted(&app, &event).await?.map_err(|refusal| match refusal.kind {
        RefusalKind::Alarm => ApiError::Refused(refusal.reason),
        _ => ApiError::Conflict(refusal.reason),
    })?;
    Ok(StatusCode::OK)
}
