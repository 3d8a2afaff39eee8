//! Many machines that boot at once, without firmware: each asks for an address as a boot ROM, fetches iPXE by TFTP, asks
//! again as iPXE, fetches its script, and claims as the agent. All from the network namespace of the caller, each from
//! the address that it was leased.

mod dhcp;
mod fetch;
mod site;

pub use site::{Plan, Site};

use anyhow::{Context, Result, bail};
use dhcp::Link;
use provisioner_wire::{
    BootId, Mac,
    channel::{Channel, PrivateKey},
    order::{Claim, cmdline, path},
    report::HardwareReport,
};
use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

/// Threads that only wait need little.
const STACK: usize = 256 << 10;

/// Seconds after the power-on of all when one machine had done a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Its first address.
    pub address: f64,
    pub tftp: f64,
    pub script: f64,
    pub claim: f64,
    /// Questions that got no answer in time and were asked again.
    pub asked_again: u32,
}

/// A machine of the fleet.
pub fn mac(n: u16) -> Mac {
    let [a, b] = n.to_be_bytes();
    Mac([0x52, 0x54, 0, 0xf1, a, b])
}

/// Powers on `machines` machines at once on `interface`, and waits until each has claimed or failed; what each came to.
/// Every address that they may be leased must be a local one (`ip route add local NETWORK dev lo`).
pub fn boot(machines: u16, interface: &str) -> Result<Vec<Result<Times>>> {
    let link = Link::open(interface, machines)?;
    let began = Instant::now();
    Ok(thread::scope(|scope| {
        let booting: Vec<_> = (0..machines)
            .map(|n| {
                let link = &link;
                let thread = thread::Builder::new().stack_size(STACK);
                thread.spawn_scoped(scope, move || boot_one(link, n, began))
            })
            .collect();
        let ended = booting.into_iter().map(|started| match started.map(|thread| thread.join()) {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => bail!("a machine's thread ended badly"),
            Err(error) => Err(error).context("a machine's thread"),
        });
        let ended = ended.collect();
        link.close();
        ended
    }))
}

fn boot_one(link: &Link, n: u16, began: Instant) -> Result<Times> {
    let mut times = Times::default();
    let now = || began.elapsed().as_secs_f64();
    let lease = link.lease(n, dhcp::Asker::Rom, &mut times.asked_again).context("as a boot ROM")?;
    times.address = now();
    let name = &lease.file;
    fetch::tftp(lease.address, lease.server, name, &mut times.asked_again)
        .with_context(|| format!("TFTP: {name}"))?;
    times.tftp = now();
    let lease = link.lease(n, dhcp::Asker::Ipxe, &mut times.asked_again).context("as iPXE")?;
    let script = fetch::get(lease.address, &lease.file).with_context(|| lease.file.clone())?;
    times.script = now();
    claim(lease.address, &script, n).context("claim")?;
    times.claim = now();
    Ok(times)
}

/// What the agent does first, with the words of its kernel command line.
fn claim(from: Ipv4Addr, script: &str, n: u16) -> Result<()> {
    let line = script.lines().find_map(|l| l.strip_prefix("kernel "));
    let line = line.with_context(|| format!("the script boots no kernel:\n{script}"))?;
    let word = |name: &str| {
        let mut pairs = line.split(' ').filter_map(|word| word.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value).with_context(|| format!("no {name}"))
    };
    let (server, key) = (word(cmdline::SERVER)?, PrivateKey::generate()?);
    let boot_id: BootId = word(cmdline::BOOT_ID)?.parse()?;
    let channel = Channel::new(&key, word(cmdline::SERVER_KEY)?, &boot_id.hash())?;
    let proof = channel.proof(&boot_id);
    let report = HardwareReport { boot_mac: Some(mac(n)), ..HardwareReport::default() };
    let claim = Claim { boot_id, public_key: key.public(), proof, report, evidence: None };
    fetch::post(from, &format!("{server}{}", path::CLAIM), &serde_json::to_string(&claim)?).map(|_| ())
}

/// The value of `times` below which a share of the machines is; seconds.
pub fn quantile(times: &[Times], share: f64, of: impl Fn(&Times) -> f64) -> f64 {
    let mut values: Vec<f64> = times.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = (values.len() as f64 * share) as usize;
    values.get(at).or(values.last()).copied().unwrap_or_default()
}

/// How long a machine waits for an answer before it asks again: as EDK2 and iPXE do, longer each time.
const PATIENCE: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
