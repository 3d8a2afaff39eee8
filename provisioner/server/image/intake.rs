//! The declared images, taken in beside each other: a mirror that is slow holds up nobody but those who want it. Fetching
//! is done for a few at once, what needs processors for one after the other ([`Images::ready`] sees to that).

use super::{Images, progress::Phase};
use crate::{inventory::ImageDeclaration, machine::Time};
use futures_util::FutureExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, task::AbortHandle};

/// Images that are fetched at once, besides those that a workflow waits for.
pub const AT_ONCE: usize = 4;
/// After a failure that may pass by itself.
const AGAIN_AFTER: Duration = Duration::from_secs(300);

/// In which form it will be wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For agents.
    Chunks,
    /// As it is: a kernel.
    Whole,
}

type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// What was begun of what was declared.
pub struct Intake {
    images: Arc<Images>,
    clock: Clock,
    slots: Arc<Semaphore>,
    known: BTreeMap<String, Known>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("known", &self.known.keys()).finish_non_exhaustive()
    }
}

struct Known {
    declared: ImageDeclaration,
    form: Form,
    work: AbortHandle,
    /// Of one that has failed.
    again: Arc<Mutex<Option<Time>>>,
}

impl Known {
    fn is(&self, declared: &ImageDeclaration, form: Form, now: Time) -> bool {
        let again = *self.again.lock().unwrap_or_else(PoisonError::into_inner);
        self.declared == *declared && self.form == form && again.is_none_or(|at| now < at)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // Of one that is done this does nothing.
        self.work.abort();
    }
}

impl Intake {
    pub fn new(images: Arc<Images>, clock: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Self { images, clock: Arc::new(clock), slots, known: BTreeMap::new() }
    }

    /// Begins what is new, in the order given, and what has failed long enough ago; gives up what is declared no more.
    /// Does not wait for any of it.
    pub fn take_in(&mut self, declared: Vec<(ImageDeclaration, Form)>) {
        let now = (self.clock)();
        let names: BTreeSet<&str> = declared.iter().map(|(image, _)| image.name.as_str()).collect();
        self.known.retain(|name, _| names.contains(name.as_str()));
        for (image, form) in declared {
            let known = self.known.get(image.name.as_str());
            if known.is_none_or(|known| !known.is(&image, form, now)) {
                let known = self.begin(image, form);
                self.known.insert(known.declared.name.to_string(), known);
            }
        }
    }

    fn begin(&self, declared: ImageDeclaration, form: Form) -> Known {
        let again = Arc::<Mutex<Option<Time>>>::default();
        let (images, clock) = (self.images.clone(), self.clock.clone());
        let (image, told) = (declared.clone(), again.clone());
        images.queued(&image);
        let mut slot = Box::pin(self.slots.clone().acquire_owned());
        // Asked for here and now: tasks begin in any order, and the slots are given in the order of asking.
        let free = slot.as_mut().now_or_never();
        let work = tokio::spawn(async move {
            let slot = match free {
                Some(slot) => slot,
                None => slot.await,
            };
            let Ok(_slot) = slot else { return };
            // Who asks for this image hears of it again, with the machine's name.
            let taken = match form {
                Form::Whole => images.here(&image).await,
                Form::Chunks => images.ready(&image).await,
            };
            let Err(error) = taken else { return };
            tracing::warn!("{error}");
            // Room may come to be without a change of this declaration.
            if !error.is_lasting() || error.lacks_room() {
                let next = clock() + AGAIN_AFTER;
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
                images.progress(&image).tried_again_at(Some(next));
            }
        });
        Known { declared, form, work: work.abort_handle(), again }
    }
}

impl Images {
    /// It will be taken in when its turn comes.
    fn queued(&self, declared: &ImageDeclaration) {
        let progress = self.progress(declared);
        let turn = progress.turn();
        // Whoever works for it tells by himself how far it is.
        if turn.try_lock().is_ok() && progress.now().phase != Phase::Ready {
            progress.enter(Phase::Waiting, None);
        }
    }
}
