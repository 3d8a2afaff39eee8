//! Changes the power of a system and sees that it happened. The state is read before every reset that is sent, so a
//! repeat never resets a machine that is already where it should be.

use super::{
    Cause, PowerChange,
    document::{ResetAction, System, reset_types_of},
    http_error::HttpError,
    power::{Move, name_of, next_move, reached, repeats_harm},
    session::Session,
};
use redfish_codegen::models::{computer_system::v1_20_1::ResetRequestBody, resource::ResetType};
use tokio::time::{Instant, sleep};

/// What to do after a reset was sent.
enum Then {
    /// It was taken: wait for the state.
    Await,
    /// It surely was not, or it may be sent again: look and decide anew.
    Again,
}

/// Brings the system at `path` to where `change` ends; success means that it was seen there.
pub async fn set_power(bmc: &Session, path: &str, change: PowerChange, until: Instant) -> Result<(), Cause> {
    let (mut attempt, mut renewed) = (1, false);
    loop {
        let system = read(bmc, path, until).await?;
        let Some(reset) = &system.reset else {
            if reached(system.power, change) && change != PowerChange::Cycle {
                return Ok(());
            }
            return Err(Cause::Refused {
                status: 0,
                message: "the system offers no reset action".to_owned(),
            });
        };
        let allowed = allowed_types(bmc, reset, until).await?;
        let kind = match next_move(system.power, change, allowed.as_deref()) {
            Ok(Move::Nothing) => return Ok(()),
            Ok(Move::Wait) => {
                sleep(bmc.limits.poll).await;
                continue;
            }
            Ok(Move::Reset(kind)) => kind,
            Err(message) => return Err(Cause::Refused { status: 0, message }),
        };
        tracing::debug!(system = path, reset = name_of(&kind), "resetting");
        let body = ResetRequestBody { reset_type: Some(kind.clone()) };
        let then = match bmc.post(&reset.target, &body, until).await {
            Ok(()) => Then::Await,
            Err(error) if bmc.renew(&error, &mut renewed, until).await => Then::Again,
            Err(error) if error.fault().surely_not_done() => {
                refused(bmc, &system, change, error, &mut attempt, until).await?
            }
            Err(error) => doubtful(bmc, &system, change, &kind, error, &mut attempt, until).await?,
        };
        if matches!(then, Then::Await) {
            return see(bmc, path, change, until).await;
        }
    }
}

/// It was not done. "Already in that state" (400, 409) is success; what passes is waited out.
async fn refused(
    bmc: &Session,
    before: &System,
    change: PowerChange,
    error: HttpError,
    attempt: &mut u32,
    until: Instant,
) -> Result<Then, Cause> {
    let already = matches!(error.status(), Some(400 | 409)) && change != PowerChange::Cycle;
    if already && reached(read(bmc, &before.path, until).await?.power, change) {
        return Ok(Then::Await);
    }
    bmc.wait_out(error, attempt, until).await.map_err(HttpError::into_cause)?;
    Ok(Then::Again)
}

/// It may have been done: the state tells, or the time of the last reset. Where neither does, a reset that would harm
/// a machine that has already been reset is not sent again.
async fn doubtful(
    bmc: &Session,
    before: &System,
    change: PowerChange,
    kind: &ResetType,
    error: HttpError,
    attempt: &mut u32,
    until: Instant,
) -> Result<Then, Cause> {
    let give_up = until.min(Instant::now() + bmc.limits.settle);
    loop {
        let now = read(bmc, &before.path, until).await?;
        let moved =
            now.power != before.power || (now.last_reset.is_some() && now.last_reset != before.last_reset);
        if moved {
            return Ok(Then::Await);
        }
        if Instant::now() + bmc.limits.poll >= give_up {
            break;
        }
        sleep(bmc.limits.poll).await;
    }
    if repeats_harm(kind) {
        let what =
            format!("{} was sent, but its answer was lost ({error}) and no change is seen", name_of(kind));
        return Err(Cause::Uncertain(what));
    }
    tracing::debug!(system = before.path, ?change, "no change seen, sending the reset again");
    bmc.wait_out(error, attempt, until).await.map_err(HttpError::into_cause)?;
    Ok(Then::Again)
}

/// Waits until the state is the one wanted.
async fn see(bmc: &Session, path: &str, change: PowerChange, until: Instant) -> Result<(), Cause> {
    loop {
        let power = read(bmc, path, until).await?.power;
        if reached(power, change) {
            return Ok(());
        }
        if Instant::now() + bmc.limits.poll >= until {
            let message = format!("the reset was taken, but the machine is still {power:?}");
            return Err(Cause::Timeout { after: bmc.limits.settle, last: Some(message) });
        }
        sleep(bmc.limits.poll).await;
    }
}

/// Reads the system.
pub async fn read(bmc: &Session, path: &str, until: Instant) -> Result<System, Cause> {
    let document = bmc.get(path, until).await.map_err(HttpError::into_cause)?;
    Ok(System::read(path, &document))
}

/// What the system says it allows, there or in its ActionInfo.
async fn allowed_types(
    bmc: &Session,
    reset: &ResetAction,
    until: Instant,
) -> Result<Option<Vec<String>>, Cause> {
    match (&reset.allowed, &reset.action_info) {
        (Some(allowed), _) => Ok(Some(allowed.clone())),
        (None, Some(info)) => Ok(bmc.find(info, until).await?.as_ref().and_then(reset_types_of)),
        (None, None) => Ok(None),
    }
}
