//! What an assigned machine waits for: its image, where that is still being fetched or taken in.

use crate::{
    http::{App, error::Result},
    inventory::{ImageDeclaration, Profile, RecordName},
    machine::Machine,
    store::{self, Tx, declared::Kind},
};
use provisioner_wire::machine::{Phase, WorkflowKind};

/// `image debian: fetching, 34 %, 12 MB/s, about 3 min`: the first of its images that is not ready.
pub async fn waits_for(app: &App, tx: &mut Tx, machine: &Machine) -> Result<Option<String>> {
    let profile = machine.workflow.as_ref().and_then(|workflow| workflow.profile.as_deref());
    let provisions = machine.phase == Phase::Assigned && machine.kind() == Some(WorkflowKind::Provision);
    let Some(name) = profile.filter(|_| provisions) else { return Ok(None) };
    let profile: Option<Profile> = store::declared::get(tx, Kind::Profile, name).await?;
    for name in profile.iter().flat_map(images) {
        let declared: Option<ImageDeclaration> = store::declared::get(tx, Kind::Image, name.as_str()).await?;
        if let Some(how) = declared.and_then(|declared| app.content().image_waits(&declared)) {
            return Ok(Some(format!("image {name}: {how}")));
        }
    }
    Ok(None)
}

/// In the order in which they are asked for.
fn images(profile: &Profile) -> impl Iterator<Item = &RecordName> {
    let netboot = profile.netboot.iter().filter(|_| profile.netboots(&profile.image));
    let beside = netboot.flat_map(|files| files.initramfs.iter().chain(&files.rootfs));
    [&profile.image].into_iter().chain(beside)
}
