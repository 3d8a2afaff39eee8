//! The steps that touch a disk: the licence first, then wipe or image.

use super::{Agent, StepError};
use crate::{
    disk::{
        block::BlockDevice,
        device::Device,
        find::{FindError, find},
        pace::{self, Pace},
        prove::proof,
        wipe::wipe,
        write::{WriteError, write_image},
        write_chunks::{How, write_chunks},
    },
    hardware,
    image::{self, chunks::Served, source::Source},
    server::ServerError,
};
use provisioner_wire::{
    chunks::{Chunks, Manifest},
    ids::hex_into,
    order::{AskChallenge, LicenceId, ReadBack, ShowReadBack, SpendLicence, Wipe, WriteImage},
    report::{Disk, DiskIdentity},
    wipe::Wiped,
};
use std::{sync::Arc, time::Instant};

impl Agent<'_> {
    /// The disk as it is now, fit for writing.
    pub(super) fn disk(&self, wanted: &DiskIdentity) -> Result<Disk, FindError> {
        let disks = hardware::inspect(&self.settings.root, None).disks;
        find(&disks, wanted).cloned()
    }

    pub(super) fn open(&self, disk: &Disk) -> Result<BlockDevice, StepError> {
        let path = self.settings.root.join("dev").join(&disk.name);
        BlockDevice::open(&path, disk.logical_sector_bytes)
            .map_err(|error| StepError::Open { disk: disk.name.clone(), error })
    }

    /// Spends the licence for `disks`, opened and unchanged: nothing is written before, and nothing without (I1, I3).
    /// True where it was spent before in this generation.
    pub(super) fn spend(&self, licence: LicenceId, disks: &[&Disk]) -> Result<bool, StepError> {
        let disks = disks.iter().map(|disk| disk.identity()).collect();
        let grant =
            self.server.spend_licence(&SpendLicence { generation: self.generation, licence, disks })?;
        if grant.resume {
            self.log.say("the licence was spent before in this generation: resuming the step");
        }
        Ok(grant.resume)
    }

    pub(super) fn write_image(&self, order: &WriteImage) -> Result<Option<String>, StepError> {
        let image = &order.image;
        let disk = self.disk(&order.disk)?;
        if let Some(need) = image.raw_size_bytes.filter(|need| *need > disk.size_bytes) {
            let (image, size) = (image.name.clone(), disk.size_bytes);
            return Err(StepError::TooSmall { image, disk: disk.name, need, size });
        }
        let mut device = self.open(&disk)?;
        let began = Instant::now();
        let written = match &image.chunks {
            Some(chunks) => self.write_chunks(order, chunks, &disk, &mut device)?,
            None => self.write_stream(order, &disk, &mut device)?,
        };
        let peak = hardware::peak_memory_bytes()
            .map_or(String::new(), |peak| format!(", at most {} MiB of memory", peak >> 20));
        self.log.say(format_args!("written and proven in {} ms{peak}", began.elapsed().as_millis()));
        Ok(written)
    }

    fn write_stream(
        &self,
        order: &WriteImage,
        disk: &Disk,
        device: &mut BlockDevice,
    ) -> Result<Option<String>, StepError> {
        let image = &order.image;
        self.spend(order.licence, &[disk])?;
        let source = Source::new(
            self.server.http().clone(),
            self.server.absolute(&image.url),
            image.size_bytes,
            self.settings.patience,
            Arc::clone(self.log),
            image::never(),
        );
        // Every byte is written once and read back once.
        let total = image.raw_size_bytes.unwrap_or(0) * 2;
        let written = write_image(
            device,
            image.raw_sha256.as_deref(),
            &mut |done| self.log.progress(done, total),
            |most, take| image::stream(image, source, most, take),
        );
        let written = written.map_err(|error| failed(order, disk, error))?;
        self.log.say(format_args!(
            "image {} on /dev/{}: {} bytes verified",
            image.name, disk.name, written.raw_bytes
        ));
        Ok(written.read_back_sha256)
    }

    fn write_chunks(
        &self,
        order: &WriteImage,
        chunks: &Chunks,
        disk: &Disk,
        device: &mut BlockDevice,
    ) -> Result<Option<String>, StepError> {
        let base = self.server.absolute(&chunks.base);
        let served =
            Served::new(self.server.http().clone(), base, self.settings.patience, Arc::clone(self.log))
                .through(chunks.caches.iter().map(|cache| self.server.absolute(cache)));
        let manifest = served.manifest(chunks).map_err(|error| failed(order, disk, error.into()))?;
        if manifest.raw_bytes > disk.size_bytes {
            let (image, size) = (order.image.name.clone(), disk.size_bytes);
            let need = manifest.raw_bytes;
            return Err(StepError::TooSmall { image, disk: disk.name.clone(), need, size });
        }
        let resume = self.spend(order.licence, &[disk])?;
        // Without a challenge nobody else would find out, so that every byte is read.
        let read_back = order.read_back != Some(ReadBack::Sampled);
        let total = manifest.raw_bytes * if read_back { 2 } else { 1 };
        let how = how(&self.settings.root, &manifest, resume, read_back);
        let progress = |done| self.log.progress(done, total);
        let prove = |device: &mut dyn Device| match order.read_back {
            Some(_) => self.prove(order.licence, &manifest, device),
            None => Ok(()),
        };
        let written = write_chunks(device, &manifest, how, &progress, &served, Box::new(prove))
            .map_err(|error| failed(order, disk, error))?;
        self.log.say(format_args!(
            "image {} on /dev/{}: {} bytes verified; {} of {} chunks were there already",
            order.image.name,
            disk.name,
            written.raw_bytes,
            written.kept_chunks,
            manifest.chunks.len()
        ));
        Ok(written.read_back_sha256)
    }

    /// Has the server ask what the disk holds, and answers.
    fn prove(
        &self,
        licence: LicenceId,
        manifest: &Manifest,
        device: &mut dyn Device,
    ) -> Result<(), WriteError> {
        let generation = self.generation;
        let challenge = self.server.challenge(&AskChallenge { generation, licence })?;
        let mut nonce = [0; 32];
        hex_into(&challenge.nonce, &mut nonce).ok_or(WriteError::Challenge)?;
        let proof = proof(device, manifest, &nonce)
            .map_err(|error| WriteError::Io { what: "reading what the server asks for", error })?;
        Ok(self.server.show_read_back(&ShowReadBack { generation, proof })?)
    }

    pub(super) fn wipe(&self, order: &Wipe) -> Result<Vec<Wiped>, StepError> {
        let disks = order.disks.iter().map(|wanted| self.disk(wanted)).collect::<Result<Vec<Disk>, _>>()?;
        let mut devices = disks.iter().map(|disk| self.open(disk)).collect::<Result<Vec<_>, _>>()?;
        self.spend(order.licence, &disks.iter().collect::<Vec<_>>())?;
        let total: u64 = disks.iter().map(|disk| disk.size_bytes).sum();
        let (mut before, mut all) = (0, Vec::new());
        for (disk, device) in disks.iter().zip(&mut devices) {
            let partitions: Vec<(u64, u64)> = hardware::partitions(&self.settings.root, &disk.name)
                .into_iter()
                .map(|p| (p.start_bytes, p.size_bytes))
                .collect();
            let began = Instant::now();
            let progress = &mut |done| self.log.progress(before + done, total);
            let done = wipe(device, order.method, &partitions, seed(), progress)
                .map_err(|error| StepError::Wipe { disk: format!("/dev/{}", disk.name), error })?;
            for passed in &done.passed_over {
                self.log.say(format_args!("/dev/{}: not by {}: {}", disk.name, passed.means, passed.why));
            }
            let seconds = began.elapsed().as_secs();
            self.log.say(format_args!("/dev/{}: wiped by {} in {seconds} s", disk.name, done.means));
            all.push(Wiped {
                disk: disk.identity(),
                model: disk.model.clone(),
                asked: order.method,
                done: done.means,
                passed_over: done.passed_over,
                sampled: done.sampled,
                seconds,
            });
            before += disk.size_bytes;
        }
        Ok(all)
    }
}

fn how(root: &std::path::Path, manifest: &Manifest, resume: bool, read_back: bool) -> How {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let most = pace::most(processors, hardware::free_memory_bytes(root), manifest.chunk_bytes);
    How { pace: Pace::new(processors, most), most_workers: most, resume, read_back }
}

/// From the system's random numbers; without them, from the clock: what it draws is where a wiped disk is looked at.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| crate::log::uptime_ms())
}

/// A generation that is over is no failure of the write.
fn failed(order: &WriteImage, disk: &Disk, error: WriteError) -> StepError {
    if let WriteError::Server(over @ ServerError::Over { .. }) = error {
        return StepError::Server(over);
    }
    StepError::Write {
        image: order.image.name.clone(),
        disk: format!("/dev/{} ({})", disk.name, disk.identity()),
        error: Box::new(error),
    }
}
