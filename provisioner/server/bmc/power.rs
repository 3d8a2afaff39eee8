//! PURE. Which reset, if any, brings a machine from the state it is in to the one asked for.

use super::{Power, PowerChange};
use redfish_codegen::models::resource::ResetType;

/// The next thing to do.
#[derive(Debug, Clone)]
pub enum Move {
    /// The state is reached already; a reset would only do harm.
    Nothing,
    /// A change is under way that ends where we want to be.
    Wait,
    Reset(ResetType),
}

/// What is to be done for `change` in state `now`, with what the BMC says it allows (`None`: it does not say).
/// The error lists what would have been needed.
pub fn next_move(now: Power, change: PowerChange, allowed: Option<&[String]>) -> Result<Move, String> {
    use {Power as P, PowerChange as C, ResetType as R};
    let candidates: &[R] = match (change, now) {
        (C::On, P::On) | (C::ForceOff | C::GracefulOff, P::Off) => return Ok(Move::Nothing),
        (C::On | C::Cycle, P::PoweringOn) | (C::GracefulOff, P::PoweringOff) => return Ok(Move::Wait),
        (C::On, _) | (C::Cycle, P::Off) => &[R::On, R::ForceOn, R::PushPowerButton],
        (C::ForceOff, _) => &[R::ForceOff],
        (C::GracefulOff, _) => &[R::GracefulShutdown],
        (C::Cycle, _) => &[R::ForceRestart, R::PowerCycle],
    };
    let offered = |kind: &R| allowed.is_none_or(|allowed| allowed.iter().any(|name| *name == name_of(kind)));
    candidates.iter().find(|kind| offered(kind)).map(|kind| Move::Reset(kind.clone())).ok_or_else(|| {
        let needed: Vec<String> = candidates.iter().map(name_of).collect();
        format!(
            "it offers no reset of type {}, only {}",
            needed.join(" or "),
            allowed.unwrap_or_default().join(", ")
        )
    })
}

/// Whether `now` is where `change` ends.
pub fn reached(now: Power, change: PowerChange) -> bool {
    match change {
        PowerChange::On | PowerChange::Cycle => now == Power::On,
        PowerChange::ForceOff | PowerChange::GracefulOff => now == Power::Off,
    }
}

/// Whether doing `kind` a second time by mistake would disturb a machine that had already done it the first time.
pub fn repeats_harm(kind: &ResetType) -> bool {
    !matches!(kind, ResetType::On | ResetType::ForceOn | ResetType::ForceOff)
}

/// The word Redfish uses.
pub fn name_of(kind: &ResetType) -> String {
    format!("{kind:?}")
}

/// Reads the state word.
pub fn power_of(word: Option<&str>) -> Power {
    match word {
        Some("On") => Power::On,
        Some("Off") => Power::Off,
        Some("PoweringOn") => Power::PoweringOn,
        Some("PoweringOff") => Power::PoweringOff,
        _ => Power::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(now: Power, change: PowerChange, allowed: Option<&[&str]>) -> String {
        let allowed: Option<Vec<String>> =
            allowed.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
        match next_move(now, change, allowed.as_deref()) {
            Ok(Move::Nothing) => "nothing".into(),
            Ok(Move::Wait) => "wait".into(),
            Ok(Move::Reset(kind)) => name_of(&kind),
            Err(_) => "refused".into(),
        }
    }

    #[test]
    fn table() {
        use {Power as P, PowerChange as C};
        for (now, change, allowed, expected) in [
            (P::On, C::On, None, "nothing"),
            (P::Off, C::On, None, "On"),
            (P::Unknown, C::On, None, "On"),
            (P::PoweringOn, C::On, None, "wait"),
            (P::Off, C::On, Some(&["ForceOn"][..]), "ForceOn"),
            (P::Off, C::On, Some(&["PushPowerButton", "Nmi"]), "PushPowerButton"),
            (P::Off, C::ForceOff, None, "nothing"),
            (P::On, C::ForceOff, Some(&["On"]), "refused"),
            (P::PoweringOff, C::ForceOff, None, "ForceOff"),
            (P::On, C::GracefulOff, None, "GracefulShutdown"),
            (P::On, C::GracefulOff, Some(&["ForceOff"]), "refused"),
            (P::PoweringOff, C::GracefulOff, None, "wait"),
            (P::On, C::Cycle, None, "ForceRestart"),
            (P::On, C::Cycle, Some(&["On", "PowerCycle"]), "PowerCycle"),
            (P::Off, C::Cycle, Some(&["On", "ForceRestart"]), "On"),
        ] {
            assert_eq!(told(now, change, allowed), expected, "{now:?} {change:?} {allowed:?}");
        }
    }

    #[test]
    fn a_pushed_button_is_never_blindly_repeated() {
        assert!(repeats_harm(&ResetType::PushPowerButton) && repeats_harm(&ResetType::ForceRestart));
        assert!(!repeats_harm(&ResetType::On));
    }
}
