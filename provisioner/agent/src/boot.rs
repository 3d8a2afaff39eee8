//! PID 1 of the boot environment: mounts, modules, network, and then an agent as a child of its own, so that nothing
//! that happens to the agent is a kernel panic.

use crate::{cmdline, log::Log, network};
use rustix::{
    mount::{MountFlags, mount},
    process::{WaitOptions, wait},
    system::{RebootCommand, finit_module, reboot},
};
use std::{
    fs::{File, OpenOptions},
    process::{Command, Stdio},
    time::Duration,
};

/// The agent's exit codes, for the process that watches it.
pub const EXIT_REBOOT: u8 = 0;
pub const EXIT_FAILED: u8 = 1;
pub const EXIT_POWER_OFF: u8 = 3;

/// Time for a person to read the console before a machine that failed reboots.
const BEFORE_REBOOT: Duration = Duration::from_secs(30);
/// Uncompressed modules by absolute path, one a line, in load order.
const MODULES: &str = "/etc/modules";
const BUSYBOX: &str = "/bin/busybox";

/// Never returns: ends in a reboot or power-off.
pub fn run_as_init() -> ! {
    mount_all();
    let log = Log::default();
    say(&log, "provisioner agent, PID 1");
    load_modules(&log);
    mount_efi_variables();
    let words = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let ipv6 = cmdline::over_ipv6(&words);
    network::bring_up(cmdline::boot_mac(&words), ipv6.as_ref(), &|text| say(&log, text));
    let code = run_agent(&log);
    let power_off = code == Some(EXIT_POWER_OFF);
    if !power_off && code != Some(EXIT_REBOOT) {
        if cmdline::shell_on_failure(&words) {
            rescue_shell("the agent ended without an order to");
        } else {
            say(&log, "the agent failed; rebooting in 30 s");
            std::thread::sleep(BEFORE_REBOOT);
        }
    }
    rustix::fs::sync();
    loop {
        let how = if power_off { RebootCommand::PowerOff } else { RebootCommand::Restart };
        if let Err(error) = reboot(how) {
            say(&log, &format!("reboot: {error}"));
        }
        std::thread::sleep(Duration::from_secs(5));
    }
}

/// A shell on the console; returns when it ends. For lab builds' `provisioner.on_failure=shell`.
pub fn rescue_shell(reason: &str) {
    let Some(console) = console() else { return };
    let told = format!("\n*** {reason}\n*** rescue shell; `exit` goes on\n");
    let _ = std::io::Write::write_all(&mut &console, told.as_bytes());
    if let Ok(mut child) = on_console(Command::new(BUSYBOX).arg("sh"), &console).spawn() {
        let _ = child.wait();
    }
}

/// Runs the agent, reaping whatever else ends meanwhile; its exit code, or `None` where a signal ended it.
fn run_agent(log: &Log) -> Option<u8> {
    let mut command = Command::new("/proc/self/exe");
    command.env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin");
    let spawned = match console() {
        Some(console) => on_console(&mut command, &console).spawn(),
        None => command.spawn(),
    };
    let child = match spawned {
        Ok(child) => child.id().cast_signed(),
        Err(error) => {
            say(log, &format!("starting the agent: {error}"));
            return None;
        }
    };
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child => {
                if let Some(signal) = status.terminating_signal() {
                    say(log, &format!("the agent was ended by signal {signal}"));
                }
                return status.exit_status().and_then(|code| u8::try_from(code).ok());
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                say(log, &format!("waiting for the agent: {error}"));
                return None;
            }
        }
    }
}

fn mount_all() {
    for (source, target) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")]
    {
        // What the kernel has mounted already is busy; that is as good.
        let _ = std::fs::create_dir_all(target);
        let _ = mount(source, target, source, MountFlags::NOSUID, None);
    }
}

/// After the modules, for efivarfs may be one.
fn mount_efi_variables() {
    let target = "/sys/firmware/efi/efivars";
    if std::path::Path::new(target).is_dir() {
        let _ = mount("efivarfs", target, "efivarfs", MountFlags::NOSUID | MountFlags::RDONLY, None);
    }
}

fn load_modules(log: &Log) {
    let list = std::fs::read_to_string(MODULES).unwrap_or_default();
    for path in list.lines().map(str::trim).filter(|line| line.starts_with('/')) {
        let loaded = File::open(path).and_then(|file| Ok(finit_module(&file, c"", 0)?));
        match loaded {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => say(log, &format!("module {path}: {error}")),
        }
    }
}

fn console() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/dev/console").ok()
}

/// The kernel gives PID 1 no open console where the initramfs has no `/dev/console` node.
fn on_console<'a>(command: &'a mut Command, console: &File) -> &'a mut Command {
    let copy = || console.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
    command.stdin(copy()).stdout(copy()).stderr(copy())
}

fn say(log: &Log, text: &str) {
    log.say(text);
    let uptime_ms = crate::log::uptime_ms();
    if let Some(mut console) = console() {
        let line = format!("[{:>8}.{:03}] {text}\n", uptime_ms / 1000, uptime_ms % 1000);
        let _ = std::io::Write::write_all(&mut console, line.as_bytes());
    }
}
