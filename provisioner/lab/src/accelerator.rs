//! KVM where it works, else TCG. A `/dev/kvm` that opens is no proof: nested ones exist that fail at the first vCPU.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    Tcg,
}

impl Accelerator {
    /// What this host can do; tried once a process.
    pub fn here() -> Self {
        static FOUND: OnceLock<Accelerator> = OnceLock::new();
        *FOUND.get_or_init(|| if kvm_works() { Self::Kvm } else { Self::Tcg })
    }

    /// QEMU's arguments. `-cpu max` has RDRAND, which newer OVMF needs for any network boot.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"],
        }
    }

    /// Time limits for emulated machines are for a busy host too: four times what was measured on an idle one.
    pub fn patience(self, seconds_with_tcg: u64) -> Duration {
        let seconds = match self {
            Self::Kvm => seconds_with_tcg,
            Self::Tcg => seconds_with_tcg.saturating_mul(4),
        };
        Duration::from_secs(seconds)
    }
}

/// A CPU with virtualisation, and a QEMU that gets as far as its monitor with a vCPU on KVM.
fn kvm_works() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm") {
        return false;
    }
    let mut probe = Command::new("qemu-system-x86_64");
    probe.args(["-M", "q35", "-accel", "kvm", "-cpu", "host", "-nodefaults", "-display", "none", "-S"]);
    probe.args(["-monitor", "stdio"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = probe.spawn() else { return false };
    if let Some(mut monitor) = child.stdin.take() {
        let _ = monitor.write_all(b"quit\n");
    }
    child.wait().is_ok_and(|status| status.success())
}
