//! What a collection takes away and what it never does, whoever changes what meanwhile.

use super::{
    Site, contents, declaration,
    liar::{Liar, Way},
    sha256,
};
use provisioner::{
    image::{
        Images, Removed, VerifiedImage,
        custody::{ForWorkflow, Needs, Running, TellsNeeds},
    },
    inventory::ImageDeclaration,
    machine::MachineId,
};
use provisioner_wire::{ids::Generation, order::Image};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// A store of its own, which takes its time.
#[derive(Debug, Clone, Default)]
pub struct Store(Arc<Mutex<Needs>>);

impl Store {
    pub fn declare(&self, image: &ImageDeclaration) {
        let mut needs = self.0.lock().unwrap();
        needs.declared.retain(|known| known.name != image.name);
        needs.declared.push(image.clone());
    }

    pub fn forget(&self, name: &str) {
        self.0.lock().unwrap().declared.retain(|known| known.name.as_str() != name);
    }

    pub fn declared(&self, name: &str) -> Option<ImageDeclaration> {
        self.0.lock().unwrap().declared.iter().find(|known| known.name.as_str() == name).cloned()
    }

    fn runs(&self, workflow: ForWorkflow, images: Option<Vec<Image>>) {
        let mut needs = self.0.lock().unwrap();
        needs.running.retain(|running| running.workflow.machine != workflow.machine);
        needs.running.push(Running { workflow, images });
    }

    fn ends(&self, workflow: ForWorkflow) {
        self.0.lock().unwrap().running.retain(|running| running.workflow.machine != workflow.machine);
    }
}

impl TellsNeeds for Store {
    fn needs(&self) -> Pin<Box<dyn Future<Output = Result<Needs, String>> + Send + '_>> {
        Box::pin(async {
            let needs = self.0.lock().unwrap().clone();
            // What was read grows old before it is used.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            Ok(needs)
        })
    }
}

fn workflow(machine: u128, generation: u64) -> ForWorkflow {
    ForWorkflow { machine: MachineId(Uuid::from_u128(machine)), generation: Generation(generation) }
}

fn from(mirror: &Liar, name: &str, bytes: &[u8]) -> ImageDeclaration {
    declaration(json!({"name": name, "source": {"url": mirror.url()}, "sha256": sha256(bytes)}))
}

/// That all of it is there, as it was.
fn is_whole(images: &Images, image: &Image) -> Result<(), String> {
    let file =
        images.with_sha256(&image.sha256).ok_or_else(|| format!("{}: its file is gone", image.name))?;
    let bytes = fs::read(&file).map_err(|e| format!("{}: {}: {e}", image.name, file.display()))?;
    if sha256(&bytes) != image.sha256 {
        return Err(format!("{}: {} is another file", image.name, file.display()));
    }
    let Some(chunks) = &image.chunks else { return Ok(()) };
    let store = images.chunks().unwrap();
    let manifest =
        store.manifest(&chunks.root.parse_sha()).map_err(|e| format!("{}: manifest: {e}", image.name))?;
    for chunk in manifest.chunks.into_iter().flatten() {
        let path = store.chunk_file(&chunk.packed);
        fs::metadata(&path).map_err(|e| format!("{}: {}: {e}", image.name, path.display()))?;
    }
    Ok(())
}

trait ParseSha {
    fn parse_sha(&self) -> provisioner_wire::chunks::Sha;
}

impl ParseSha for String {
    fn parse_sha(&self) -> provisioner_wire::chunks::Sha {
        provisioner_wire::chunks::Sha::from_hex(self).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workflow_has_stays_when_its_declaration_goes() {
    let (disk, kernel) = (contents(3 << 20), contents(70_000));
    let (site, store) = (Site::new(), Store::default());
    let images = Arc::new(site.images);
    let (disk_mirror, kernel_mirror) = (Liar::new(&disk, &[Way::Honest]), Liar::new(&kernel, &[Way::Honest]));
    let (one, two) = (workflow(1, 1), workflow(2, 7));
    let (disk, kernel) = (from(&disk_mirror, "disk", &disk), from(&kernel_mirror, "kernel", &kernel));
    // Assigned, and asked for; the targets are not in the store yet, the declarations are gone.
    store.runs(one, None);
    store.runs(two, None);
    let disk: VerifiedImage = images.ready_for(one, &disk).await.unwrap();
    let kernel = images.here_for(two, &kernel).await.unwrap();
    let all_is_there = |when: &str| {
        for image in [&disk, &kernel] {
            is_whole(&images, &image.wire()).unwrap_or_else(|e| panic!("{when}: {e}"));
        }
    };
    assert_eq!(images.collect(&store, false).await, Ok(Removed::default()));
    all_is_there("before the target is frozen");
    store.runs(one, Some(vec![disk.wire()]));
    store.runs(two, Some(vec![kernel.wire()]));
    assert_eq!(images.collect(&store, false).await, Ok(Removed::default()));
    all_is_there("in the workflow");
    // Over: asked only, then removed.
    store.ends(one);
    store.ends(two);
    let removed = Removed { manifests: 1, chunks: 3, files: 2, ..Removed::default() };
    for only_asked in [true, true, false] {
        let done = images.collect(&store, only_asked).await.unwrap();
        assert_eq!(Removed { bytes: 0, ..done }, removed, "{only_asked}");
        assert!(done.bytes > (3 << 20) + 70_000);
    }
    assert_eq!(images.collect(&store, false).await, Ok(Removed::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_declaration_takes_nothing_from_a_workflow() {
    let (old, new) = (contents(2 << 20), contents((2 << 20) + 512));
    let (site, store) = (Site::new(), Store::default());
    let images = Arc::new(site.images);
    let mirrors = [Liar::new(&old, &[Way::Honest]), Liar::new(&new, &[Way::Honest])];
    let (old, new) = (from(&mirrors[0], "disk", &old), from(&mirrors[1], "disk", &new));
    store.declare(&old);
    let one = workflow(1, 1);
    store.runs(one, None);
    let had = images.ready_for(one, &old).await.unwrap();
    store.runs(one, Some(vec![had.wire()]));
    store.declare(&new);
    let now = images.ready(&new).await.unwrap();
    assert_eq!(images.collect(&store, false).await, Ok(Removed::default()));
    for image in [&had, &now] {
        is_whole(&images, &image.wire()).unwrap();
    }
    // The next workflow of the machine wants the new one; the old one's are nobody's.
    store.runs(workflow(1, 2), None);
    assert_eq!(images.collect(&store, false).await.unwrap().files, 1);
    is_whole(&images, &now.wire()).unwrap();
    assert!(is_whole(&images, &had.wire()).is_err());
}

/// Tells what was needed before a workflow began, which begins as soon as it is asked.
struct Late {
    images: Arc<Images>,
    declared: ImageDeclaration,
    began: Mutex<Option<tokio::task::JoinHandle<VerifiedImage>>>,
}

impl TellsNeeds for Late {
    fn needs(&self) -> Pin<Box<dyn Future<Output = Result<Needs, String>> + Send + '_>> {
        let (images, declared) = (Arc::clone(&self.images), self.declared.clone());
        let began = tokio::spawn(async move { images.ready_for(workflow(1, 1), &declared).await.unwrap() });
        Box::pin(async {
            // As far as it comes: nowhere, as long as the collection that asks is alone.
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            *self.began.lock().unwrap() = Some(began);
            Ok(Needs::default())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_is_asked_when_nobody_can_begin_to_need_more() {
    let (bytes, site) = (contents(2 << 20), Site::new());
    let images = Arc::new(site.images);
    let mirror = Liar::new(&bytes, &[Way::Honest]);
    let declared = from(&mirror, "disk", &bytes);
    images.ready(&declared).await.unwrap();
    let late = Late { images: Arc::clone(&images), declared, began: Mutex::default() };
    images.collect(&late, false).await.unwrap();
    let began = late.began.lock().unwrap().take().unwrap();
    is_whole(&images, &began.await.unwrap().wire()).unwrap();
}

/// Small numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn of(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Race {
    images: Arc<Images>,
    store: Store,
    /// What may be declared: several of each name.
    variants: Vec<ImageDeclaration>,
    over: AtomicBool,
    checked: AtomicU64,
    collected: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Race {
    fn variant(&self, dice: &mut Dice) -> &ImageDeclaration {
        &self.variants[dice.of(self.variants.len() as u64) as usize]
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || !self.wrong.lock().unwrap().is_empty()
    }

    /// Declares and forgets, and takes in what it declares.
    async fn declares(&self, mut dice: Dice) {
        while !self.is_over() {
            let variant = self.variant(&mut dice);
            self.store.declare(variant);
            if dice.of(2) == 0 {
                self.told(self.images.ready(variant).await);
            }
            if dice.of(2) == 0 {
                self.store.forget(variant.name.as_str());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn collects(&self) {
        while !self.is_over() {
            if self.images.collect(&self.store, false).await.is_ok_and(|gone| gone.files + gone.chunks > 0) {
                self.collected.fetch_add(1, Ordering::Relaxed);
            }
            tokio::task::yield_now().await;
        }
    }

    /// One workflow after the other, each with its image to the end.
    async fn works(&self, machine: u128, mut dice: Dice) {
        for generation in 1..=25 {
            let workflow = workflow(machine, generation);
            self.store.runs(workflow, None);
            let declared = loop {
                let name = self.variant(&mut dice).name.to_string();
                match self.store.declared(&name) {
                    Some(declared) => break declared,
                    None => tokio::task::yield_now().await,
                }
            };
            let got = match dice.of(2) {
                0 => self.images.ready_for(workflow, &declared).await,
                _ => self.images.here_for(workflow, &declared).await,
            };
            for _ in 0..dice.of(30) {
                tokio::task::yield_now().await;
            }
            if let Some(image) = self.told(got).map(|image| image.wire()) {
                self.holds(&image, "before its target is in the store");
                self.store.runs(workflow, Some(vec![image.clone()]));
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                    self.holds(&image, "in its workflow");
                }
            }
            self.store.ends(workflow);
            if self.is_over() {
                return;
            }
        }
    }

    fn holds(&self, image: &Image, when: &str) {
        self.checked.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = is_whole(&self.images, image) {
            self.wrong.lock().unwrap().push(format!("{when}: {error}"));
        }
    }

    /// Nothing but a lack of room keeps an image away.
    fn told<T>(&self, got: Result<T, provisioner::image::ImageError>) -> Option<T> {
        got.map_err(|error| {
            if !error.to_string().contains("fetch.cache_limit") {
                self.wrong.lock().unwrap().push(error.to_string());
            }
        })
        .ok()
    }

    /// The folder of fetched files, again and again.
    async fn stays_below(&self, folder: &Path, limit: u64) {
        while !self.is_over() {
            let mut sizes = BTreeMap::new();
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if let Ok(about) = entry.metadata() {
                    // A file that is renamed while this looks is one file.
                    sizes.insert(entry.path().with_extension(""), about.len());
                }
            }
            let used: u64 = sizes.values().sum();
            if used > limit + (1 << 20) {
                self.wrong.lock().unwrap().push(format!("{used} bytes, limit {limit}: {sizes:?}"));
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn adds_collections_and_workflows_race_and_no_workflow_loses_anything() {
    const LIMIT: u64 = 8 << 20;
    let site = Site::with("allow = [\"127.0.0.0/8\"]\ncache_limit = \"8MiB\"", &[]);
    let store = Store::default();
    let images = Arc::new(site.images);
    images.needs_told_by(store.clone());
    let mut mirrors = Vec::new();
    let mut variants = Vec::new();
    for number in 0..6_usize {
        // Pairs share a name, and all of them their first chunk.
        let mut bytes = contents((1 << 20) + 4096 * (number + 1));
        bytes[1 << 20..].fill(number as u8 + 1);
        let mirror = Liar::new(&bytes, &[Way::Honest]);
        variants.push(from(&mirror, &format!("image-{}", number / 2), &bytes));
        mirrors.push(mirror);
    }
    let (over, checked, collected) = Default::default();
    let race = Race { images, store, variants, over, checked, collected, wrong: Mutex::default() };
    let race = Arc::new(race);
    let folder = site.folder.path().join("fetched");
    let mut beside = tokio::task::JoinSet::new();
    for seed in 0..3 {
        let race = Arc::clone(&race);
        beside.spawn(async move { race.declares(Dice(seed)).await });
    }
    let (collecting, looking) = (Arc::clone(&race), Arc::clone(&race));
    beside.spawn(async move { collecting.collects().await });
    beside.spawn(async move { looking.stays_below(&folder, LIMIT).await });
    let mut workflows = tokio::task::JoinSet::new();
    for machine in 0..4 {
        let race = Arc::clone(&race);
        workflows.spawn(async move { race.works(machine, Dice(99 + machine as u64)).await });
    }
    while let Some(done) = workflows.join_next().await {
        done.unwrap();
    }
    race.over.store(true, Ordering::Relaxed);
    while let Some(done) = beside.join_next().await {
        done.unwrap();
    }
    assert_eq!(race.wrong.lock().unwrap().as_slice(), [] as [String; 0]);
    let (checked, collected) = (race.checked.load(Ordering::Relaxed), race.collected.load(Ordering::Relaxed));
    assert!(checked > 50 && collected > 5, "{checked} checks, {collected} collections that took something");
}
