//! A machine in this process: switched by the BMC, it asks for its boot script, runs the real agent on a file as disk,
//! and phones home from the disk that was written.

use crate::install::machine::{Machine as Metal, disk_image, impatient};
use provisioner_agent::{
    cmdline::Cmdline,
    patience::Patience,
    place::{FileSystem, Mounts},
    run::{Ended, Settings, run},
};
use provisioner_lab::bmc_simulator::{BootFrom, Done, PowerBackend};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

pub const MAC: &str = "52:54:00:12:34:56";

pub struct PlayedMachine(Arc<Inner>);

struct Inner {
    server: String,
    metal: Metal,
    on: AtomicBool,
    /// Counts boots: a boot that is not the newest has lost its power.
    boot: AtomicUsize,
    network_boots: AtomicUsize,
    installs: AtomicUsize,
    ready: AtomicBool,
}

impl fmt::Debug for PlayedMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlayedMachine")
    }
}

impl PlayedMachine {
    pub fn new(server: String) -> Self {
        let metal = Metal::new();
        // What the kernel would show of the image's partition once it is written.
        metal.put("dev/vda1", &disk_image(4 << 20, 9)[1 << 20..2 << 20]);
        Self(Arc::new(Inner {
            server,
            metal,
            on: AtomicBool::new(false),
            boot: AtomicUsize::new(0),
            network_boots: AtomicUsize::new(0),
            installs: AtomicUsize::new(0),
            ready: AtomicBool::new(false),
        }))
    }

    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::SeqCst)
    }

    pub fn was_switched(&self) -> bool {
        self.0.boot.load(Ordering::SeqCst) > 0
    }

    pub fn network_boots(&self) -> usize {
        self.0.network_boots.load(Ordering::SeqCst)
    }

    /// How often the agent reached its end, having written and placed.
    pub fn installs(&self) -> usize {
        self.0.installs.load(Ordering::SeqCst)
    }

    /// The token on the disk that was written.
    pub fn token(&self) -> Option<String> {
        self.0.token()
    }

    /// Nothing goes on in it any more.
    pub fn unplug(&self) {
        self.0.boot.fetch_add(1, Ordering::SeqCst);
    }

    pub fn disk_is(&self, image: &[u8]) -> bool {
        let disk = self.0.metal.disk();
        // The GPT's backup may have been moved to the disk's end: the contents between the tables count.
        disk[1 << 20..3 << 20] == image[1 << 20..3 << 20]
    }

    pub fn story(&self) -> String {
        let failures = self.0.metal.failures.lock().unwrap().clone();
        format!(
            "{} network boots, {} installs, agent failures {failures:?}",
            self.network_boots(),
            self.installs()
        )
    }

    fn start(&self, from: BootFrom) -> Done<'_, ()> {
        self.0.on.store(true, Ordering::SeqCst);
        let number = self.0.boot.fetch_add(1, Ordering::SeqCst) + 1;
        let inner = self.0.clone();
        std::thread::spawn(move || inner.boot(number, &from));
        Box::pin(std::future::ready(Ok(())))
    }
}

impl PowerBackend for PlayedMachine {
    fn on(&self, boot: BootFrom) -> Done<'_, ()> {
        self.start(boot)
    }

    fn off(&self) -> Done<'_, ()> {
        self.0.on.store(false, Ordering::SeqCst);
        self.unplug();
        Box::pin(std::future::ready(Ok(())))
    }

    fn shutdown(&self) -> Done<'_, ()> {
        self.off()
    }

    fn reset(&self, boot: BootFrom) -> Done<'_, ()> {
        self.start(boot)
    }

    fn is_on(&self) -> Done<'_, bool> {
        let on = self.0.on.load(Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(on)))
    }
}

impl Inner {
    fn has_power(&self, boot: usize) -> bool {
        self.boot.load(Ordering::SeqCst) == boot
    }

    /// The network is first in the boot order, as in the field.
    fn boot(&self, boot: usize, from: &BootFrom) {
        if *from != BootFrom::Disk {
            self.network_boots.fetch_add(1, Ordering::SeqCst);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while self.has_power(boot) {
            let Some(script) = runtime.block_on(self.script()) else {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            let Some(line) = script.lines().find_map(|l| l.strip_prefix("kernel ")) else {
                return self.node(boot, &runtime);
            };
            let ended = run(&self.settings(line), &self.metal.log);
            if !matches!(ended, Ok(Ended::Reboot(_))) {
                std::thread::sleep(Duration::from_millis(200));
            } else if self.token().is_some() {
                self.installs.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    async fn script(&self) -> Option<String> {
        let answer = http().get(format!("{}/boot/{MAC}.ipxe", self.server)).send().await.ok()?;
        if answer.status() == 200 { answer.text().await.ok() } else { None }
    }

    fn settings(&self, line: &str) -> Settings {
        Settings {
            cmdline: Cmdline::parse(&format!("{line} BOOTIF=01-{}", MAC.replace(':', "-"))).unwrap(),
            root: self.metal.root.path().to_owned(),
            patience: Patience { give_up_after: Duration::from_secs(30), ..impatient() },
            report_every: Duration::from_millis(50),
            mounts: Arc::new(Folder(self.metal.mounted())),
            on_failure: {
                let failures = self.metal.failures.clone();
                Box::new(move |reason| failures.lock().unwrap().push(reason.to_owned()))
            },
        }
    }

    fn token(&self) -> Option<String> {
        let script = fs::read_to_string(self.metal.mounted().join("seed/phone-home")).ok()?;
        let mut words = script.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '.');
        words.find(|word| provisioner::token::builtin::is_well_formed(word)).map(str::to_owned)
    }

    /// The system on the disk: phones home until it is heard, or until the server no longer knows the token, which is
    /// what a node sees whose first answer was swallowed.
    fn node(&self, boot: usize, runtime: &tokio::runtime::Runtime) {
        let Some(token) = self.token() else { return };
        let url = format!("{}/node/v1/{}/ready", self.server, super::site::NAME);
        let mut swallowed = false;
        while self.has_power(boot) {
            let body = serde_json::json!({ "token": token });
            let answer = runtime.block_on(async { http().post(&url).json(&body).send().await });
            match answer.map(|a| a.status().as_u16()) {
                Ok(200) => return self.ready.store(true, Ordering::SeqCst),
                Ok(403) if swallowed => return self.ready.store(true, Ordering::SeqCst),
                Ok(403) => {}
                _ => swallowed = true,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap()
}

/// A folder in place of a mounted file system.
struct Folder(PathBuf);

impl Mounts for Folder {
    fn mount(&self, _device: &Path, _file_system: FileSystem) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.0)?;
        Ok(self.0.clone())
    }

    fn unmount(&self, _at: &Path) -> io::Result<()> {
        Ok(())
    }
}
