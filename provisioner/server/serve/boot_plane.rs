//! DHCP and TFTP, joined to the store and the engine.
pub async fn start(
    _parts: &mut tokio::task::JoinSet<anyhow::Result<()>>,
    _house: &super::House,
    _engine: &crate::workflow::Engine,
    _files: &crate::http::boot_files::BootFiles,
    _plain: std::net::SocketAddr,
) -> anyhow::Result<()> {
    Ok(())
}
