//! The `provisioner` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    provisioner::cli::main(|config| {
        provisioner::config::Config::read(config)?;
        anyhow::bail!("the server is not wired yet")
    })
}
