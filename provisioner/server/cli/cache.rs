//! `cache`: what a rack's cache is told.

use crate::inventory::Size;
use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// Arguments of `provisioner cache`.
#[derive(Debug, Clone, Args)]
pub struct CacheArguments {
    /// The server's plain address: http://10.88.0.1:8080.
    #[arg(long, value_name = "URL")]
    pub upstream: String,
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8081")]
    pub listen: SocketAddr,
    /// A folder of its own, where pieces of images are kept.
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// Of the disk.
    #[arg(long, value_name = "SIZE", default_value = "100GiB")]
    pub size: Size,
    /// For pieces that many machines fetch at about one time.
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub memory: Size,
}
