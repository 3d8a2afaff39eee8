//! One config with its token, for whoever delivers it: what is owed to an issuer is recorded before it is asked.

use super::{
    App,
    content::{Rendered, Unrendered},
    error::{ApiError, Result, accepted},
};
use crate::{
    machine::{Event, Machine, join::ISSUER_WITHIN, state::Owed},
    store,
};
use std::time::Duration;

/// The config of `machine` for its live claim. `Later`: the issuer does not answer; its caller comes back. `Never`: the
/// workflow must fail. An error: the machine has moved on.
pub async fn rendered(app: &App, machine: &Machine) -> Result<std::result::Result<Rendered, Unrendered>> {
    let (now, generation) = (app.engine().now(), machine.generation);
    let minter = machine.target().and_then(|t| t.join.as_ref()).and_then(|join| join.minter.clone());
    let Some(minter) = minter else { return Ok(app.content().render(machine, now).await) };
    let minted_for = machine.minted_for().unwrap_or_default().to_owned();
    let ttl = machine.target().map_or(0, |t| t.token_ttl_ms);
    let expires = now + Duration::from_millis(u64::try_from(ttl).unwrap_or_default());
    let owed = Owed {
        minter,
        minted_for: minted_for.clone(),
        generation,
        first: now,
        asked: now,
        expires,
        revoked: None,
    };
    accepted(app.engine().submit(machine.id, &Event::Minting { generation, owed }).await?)
        .map_err(|refusal| ApiError::Conflict(refusal.reason))?;
    let reason = match app.content().render(machine, now).await {
        Err(Unrendered::Later(reason)) => reason,
        done => return Ok(done),
    };
    let after = store::machines::find(&mut app.db().read().await?, machine.id).await?;
    let first = after.and_then(|m| m.owed.into_iter().find(|o| o.minted_for == minted_for)).map(|o| o.first);
    let waited = first.map_or(Duration::ZERO, |first| app.engine().now().since(first));
    if waited >= ISSUER_WITHIN {
        let minutes = ISSUER_WITHIN.as_secs() / 60;
        return Ok(Err(Unrendered::Never(format!("no token within {minutes} minutes: {reason}"))));
    }
    app.engine().record(machine.id, &Event::IssuerDown { generation, reason: reason.clone() }).await?;
    Ok(Err(Unrendered::Later(reason)))
}
