//! What a collection keeps: what is declared, what is in work at this moment, and what workflows have, whatever became
//! of the declaration. While a collection runs, nothing is added to that.

use crate::{
    inventory::ImageDeclaration,
    machine::{Machine, MachineId},
};
use provisioner_wire::{ids::Generation, order::Image};
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The workflow that an image is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForWorkflow {
    pub machine: MachineId,
    pub generation: Generation,
}

impl From<&Machine> for ForWorkflow {
    fn from(machine: &Machine) -> Self {
        Self { machine: machine.id, generation: machine.generation }
    }
}

/// A workflow that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub workflow: ForWorkflow,
    /// All that its target names; none while the target is not frozen.
    pub images: Option<Vec<Image>>,
}

impl Running {
    /// `None` where no workflow has the machine.
    pub fn of(machine: &Machine) -> Option<Self> {
        let images = machine.target().map(|target| {
            let netboot = target.netboot.iter();
            let beside = netboot.flat_map(|n| n.initramfs.iter().chain([&n.kernel]).chain(&n.rootfs));
            target.image.iter().chain(beside).cloned().collect()
        });
        machine.is_busy().then(|| Self { workflow: machine.into(), images })
    }
}

/// What the store says is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub declared: Vec<ImageDeclaration>,
    pub running: Vec<Running>,
}

/// Who knows the [`Needs`]. A collection asks when it is alone, not before.
pub trait TellsNeeds: Send + Sync {
    fn needs(&self) -> Pin<Box<dyn Future<Output = Result<Needs, String>> + Send + '_>>;
}

/// What must stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// All that belongs to these as they stand.
    pub declared: Vec<ImageDeclaration>,
    /// And these very bytes.
    pub images: Vec<Image>,
}

#[derive(Debug, Default)]
pub struct Custody {
    /// Read by whoever adds to what is kept; written by a collection.
    gate: Arc<RwLock<()>>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    in_work: BTreeMap<u64, ImageDeclaration>,
    next: u64,
    /// Of workflows whose target the store does not have yet.
    held: BTreeMap<ForWorkflow, Keep>,
}

/// As long as it lives, the image is in work.
#[derive(Debug)]
pub struct InWork(Arc<Custody>, u64);

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.kept().in_work.remove(&self.1);
    }
}

/// No collection runs.
pub type Changing = OwnedRwLockReadGuard<()>;
/// A collection runs, and only this one.
pub type Alone = OwnedRwLockWriteGuard<()>;

impl Custody {
    /// Waits until no collection runs. What one that was asked before has kept no longer binds.
    pub async fn changing(&self) -> Changing {
        Arc::clone(&self.gate).read_owned().await
    }

    /// Waits until nobody changes what is kept.
    pub async fn alone(&self) -> Alone {
        Arc::clone(&self.gate).write_owned().await
    }

    pub async fn in_work(self: &Arc<Self>, declared: &ImageDeclaration) -> InWork {
        let _changing = self.changing().await;
        let mut kept = self.kept();
        kept.next += 1;
        let id = kept.next;
        kept.in_work.insert(id, declared.clone());
        InWork(Arc::clone(self), id)
    }

    /// Until the store has the workflow's target, or the workflow has ended.
    pub async fn hold(&self, workflow: ForWorkflow, declared: &ImageDeclaration) {
        let _changing = self.changing().await;
        let mut kept = self.kept();
        // A machine's earlier workflows are over.
        kept.held
            .retain(|other, _| other.machine != workflow.machine || other.generation >= workflow.generation);
        let held = kept.held.entry(workflow).or_default();
        if !held.declared.contains(declared) {
            held.declared.push(declared.clone());
        }
    }

    /// What a held declaration has come to. To be said while the image is in work.
    pub fn held_is(&self, workflow: ForWorkflow, image: Image) {
        let mut kept = self.kept();
        let held = kept.held.entry(workflow).or_default();
        if !held.images.contains(&image) {
            held.images.push(image);
        }
    }

    /// Forgets what is held for workflows that `needs`, asked under the guard, knows better.
    pub fn keep(&self, _alone: &Alone, needs: Needs) -> Keep {
        let mut kept = self.kept();
        kept.held.retain(|workflow, _| needs.running.iter().any(|running| is_before(running, *workflow)));
        kept.keep(needs)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store's row is from before the target of `workflow` was frozen.
fn is_before(running: &Running, workflow: ForWorkflow) -> bool {
    let (has, is) = (running.workflow.generation, workflow.generation);
    running.workflow.machine == workflow.machine && (has < is || has == is && running.images.is_none())
}

impl Kept {
    fn keep(&self, needs: Needs) -> Keep {
        let mut keep = Keep { declared: needs.declared, images: Vec::new() };
        keep.images.extend(needs.running.into_iter().filter_map(|running| running.images).flatten());
        keep.declared.extend(self.in_work.values().cloned());
        for held in self.held.values() {
            keep.declared.extend_from_slice(&held.declared);
            keep.images.extend_from_slice(&held.images);
        }
        keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provisioner_wire::order::ImageFormat;
    use serde_json::json;
    use uuid::Uuid;

    fn declared(name: &str) -> ImageDeclaration {
        let spec =
            json!({"name": name, "source": {"url": "http://x/y"}, "format": "raw", "sha256": "0".repeat(64)});
        serde_json::from_value(spec).unwrap()
    }

    fn image(name: &str) -> Image {
        Image {
            name: name.to_owned(),
            url: String::new(),
            format: ImageFormat::Raw,
            sha256: String::new(),
            size_bytes: 0,
            raw_sha256: None,
            raw_size_bytes: None,
            chunks: None,
        }
    }

    fn workflow(generation: u64) -> ForWorkflow {
        ForWorkflow { machine: MachineId(Uuid::nil()), generation: Generation(generation) }
    }

    async fn names(custody: &Custody, running: &[(u64, Option<&str>)]) -> (Vec<String>, Vec<String>) {
        let running = running.iter().map(|(generation, target)| Running {
            workflow: workflow(*generation),
            images: target.map(|name| vec![image(name)]),
        });
        let needs = Needs { declared: Vec::new(), running: running.collect() };
        let keep = custody.keep(&custody.alone().await, needs);
        let declared = keep.declared.iter().map(|d| d.name.to_string()).collect();
        (declared, keep.images.into_iter().map(|i| i.name).collect())
    }

    #[tokio::test]
    async fn what_is_held_stays_until_the_store_has_the_target_or_the_workflow_is_over() {
        let none = (Vec::new(), Vec::new());
        let held = (vec!["a".to_owned()], vec!["a".to_owned()]);
        for (rows, expected) in [
            (vec![(2, None)], &held),
            // A row that was read before this generation began.
            (vec![(1, Some("old"))], &(vec!["a".to_owned()], vec!["old".to_owned(), "a".to_owned()])),
            (vec![(2, Some("b"))], &(Vec::new(), vec!["b".to_owned()])),
            (vec![(3, None)], &none),
            (vec![], &none),
        ] {
            let custody = Custody::default();
            custody.hold(workflow(2), &declared("a")).await;
            custody.held_is(workflow(2), image("a"));
            assert_eq!(names(&custody, &rows).await, *expected, "{rows:?}");
        }
    }

    #[tokio::test]
    async fn a_machines_next_workflow_lets_go_what_the_last_one_held() {
        let custody = Custody::default();
        for generation in 1..100 {
            custody.hold(workflow(generation), &declared("a")).await;
        }
        assert_eq!(custody.kept().held.keys().collect::<Vec<_>>(), [&workflow(99)]);
    }

    #[tokio::test]
    async fn what_is_in_work_stays_as_long_as_it_is() {
        let custody = Arc::new(Custody::default());
        let (a, _again) = (custody.in_work(&declared("a")).await, custody.in_work(&declared("b")).await);
        assert_eq!(names(&custody, &[]).await.0, ["a", "b"]);
        drop(a);
        assert_eq!(names(&custody, &[]).await.0, ["b"]);
        let alone = custody.alone().await;
        let work = declared("c");
        let added = custody.in_work(&work);
        tokio::pin!(added);
        assert!(futures_util::poll!(&mut added).is_pending(), "added while a collection runs");
        drop(alone);
        added.await;
    }
}
