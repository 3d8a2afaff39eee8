//! The `provisioner` binary.

use provisioner::{
    cli::{self, Doors},
    serve,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(Doors { serve: serve::run, check: serve::check })
}
