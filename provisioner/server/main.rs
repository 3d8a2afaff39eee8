//! The `provisioner` binary.

use provisioner::{
    cli::{self, CacheArguments, Doors},
    pull_through, serve,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(Doors { serve: serve::run, cache, check: serve::check })
}

fn cache(told: &CacheArguments) -> anyhow::Result<()> {
    serve::start_logging();
    pull_through::run(&pull_through::Settings {
        listen: told.listen,
        upstream: told.upstream.clone(),
        folder: told.folder.clone(),
        disk_bytes: told.size.0,
        memory_bytes: usize::try_from(told.memory.0)?,
    })
}
