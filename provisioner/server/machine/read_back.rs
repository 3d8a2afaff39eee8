//! The challenge to an agent that says it has written: drawn once a boot, answered before the disk may boot (I8).

use super::{
    Machine, RefusalKind,
    lifecycle::{Change, not_now, refuse},
    state::Challenge,
};
use provisioner_wire::{
    machine::Phase,
    order::{LicenceId, Step},
};

/// A second question in one boot changes nothing: the first stands, so that an agent whose answer got lost is not asked
/// anew, and none can ask until a question suits it.
pub(super) fn challenged(mut machine: Machine, licence: LicenceId, nonce: &str, expected: &str) -> Change {
    let spent = machine.licence.as_ref().is_some_and(|l| l.id == licence && l.spent.is_some());
    if machine.phase != Phase::Installing || machine.has_done(Step::WriteImage) || !spent {
        return not_now(&machine, "it is not writing an image under this licence");
    }
    let question = Challenge { nonce: nonce.to_owned(), expected: expected.to_owned(), answered: false };
    machine.challenge.get_or_insert(question);
    Ok(machine)
}

/// A wrong answer is an alarm and changes nothing: the image is not written, and never will be by this boot.
pub(super) fn answered(mut machine: Machine, proof: &str) -> Change {
    let name = machine.name.clone();
    let Some(challenge) = &mut machine.challenge else {
        return not_now(&machine, "it was asked nothing about its disk");
    };
    if challenge.expected != proof {
        let reason =
            format!("the disk of {name} does not hold what was written: pieces of it read back differently");
        return refuse(RefusalKind::Alarm, reason);
    }
    challenge.answered = true;
    Ok(machine)
}

/// True where the image on the disk is proven, or nothing can prove it.
pub(super) fn is_proven(machine: &Machine) -> bool {
    let asked = machine.target().is_some_and(|target| target.read_back.is_some());
    !asked || machine.challenge.as_ref().is_some_and(|challenge| challenge.answered)
}
