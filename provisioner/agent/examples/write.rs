//! The agent's writer by itself, for `cargo xtask bench image`: an image in chunks from a URL to a disk or a file, read
//! back as an install does it, but for the server's comparison.
//!
//! `write BASE ROOT TARGET sampled|full`

use provisioner_agent::{
    disk::{
        block::BlockDevice,
        pace::{self, Pace},
        prove::proof,
        write::WriteError,
        write_chunks::{How, write_chunks},
    },
    hardware,
    image::chunks::Served,
    log::Log,
    patience::Patience,
    server::http_client,
};
use provisioner_wire::chunks::Chunks;
use std::{error::Error, path::Path, sync::Arc};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, root, target, read_back] = arguments.as_slice() else {
        return Err("write BASE ROOT TARGET sampled|full".into());
    };
    let patience = Patience::default();
    let served = Served::new(http_client(&patience), base.clone(), patience, Arc::new(Log::default()));
    let manifest = served.manifest(&Chunks { root: root.clone(), base: base.clone(), caches: Vec::new() })?;
    let mut device = BlockDevice::open(Path::new(target), 512)?;
    let processors = std::thread::available_parallelism()?.get();
    let most = pace::most(processors, hardware::free_memory_bytes(Path::new("/")), manifest.chunk_bytes);
    let pace = Pace::new(processors, most);
    let how = How { pace, most_workers: most, resume: false, read_back: read_back == "full" };
    let prove = |device: &mut dyn provisioner_agent::disk::device::Device| {
        let read = proof(device, &manifest, &[7; 32]);
        read.map(|_| ()).map_err(|error| WriteError::Io { what: "reading back", error })
    };
    write_chunks(&mut device, &manifest, how, &|_| (), &served, Box::new(prove))?;
    Ok(())
}
