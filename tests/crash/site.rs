//! One site: the server program with its folder, a BMC, and a machine. On its own loopback address, so that a
//! restarted server has the ports of the one before.

use super::played::PlayedMachine;
use crate::install::machine::disk_image;
use provisioner_lab::bmc_simulator::{BmcSimulator, SimulatorConfig};
use provisioner_wire::ids::hex;
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

pub const NAME: &str = "node-1";

pub struct Site {
    folder: tempfile::TempDir,
    address: String,
    server: Child,
    runtime: Runtime,
    bmc: BmcSimulator,
    pub machine: Arc<PlayedMachine>,
    pub image: Vec<u8>,
}

impl Site {
    pub fn start(number: usize, crash: Option<&str>) -> Self {
        Self::with(number, crash, PROFILE, &[])
    }

    /// Another profile, and further files below the site's folder. The server's log says everything it can say then.
    pub fn with(number: usize, crash: Option<&str>, profile: &str, files: &[(&str, String)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        // Other runs of these tests may be under way in other processes.
        let address = format!("127.{}.{}.{}", 20 + std::process::id() % 200, number / 250, 2 + number % 250);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let machine = Arc::new(PlayedMachine::new(format!("http://{address}:8080")));
        let bmc = runtime
            .block_on(BmcSimulator::start(
                SimulatorConfig::usual(machine.clone()),
                "127.0.0.1:0".parse().unwrap(),
            ))
            .unwrap();
        let image = disk_image(4 << 20, 9);
        write(&folder.path().join("images/crash.raw"), &image);
        for name in ["boot/undionly.kpxe", "boot/vmlinuz", "boot/initramfs.img"] {
            write(&folder.path().join(name), name.as_bytes());
        }
        let hash = hex(&Sha256::digest(&image));
        let records = [
            ("images", format!("name: crash\nsource: {{file: crash.raw}}\nformat: raw\nsha256: {hash}\n")),
            ("profiles", profile.to_owned()),
            ("machines", hardware(&bmc.url())),
        ];
        for (kind, text) in records {
            write(&folder.path().join(format!("hardware/{kind}/all.yaml")), text.as_bytes());
        }
        for (name, text) in files {
            write(&folder.path().join(name), text.as_bytes());
        }
        write(&folder.path().join("hardware/bmc-password"), b"secret-canary-bmc");
        write(&folder.path().join("server.toml"), configuration(&address).as_bytes());
        let server = launch(&folder, crash, !files.is_empty());
        Self { folder, address, server, runtime, bmc, machine, image }
    }

    /// Everything that the server has written: its data and its log.
    pub fn written(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let data = fs::read_dir(self.folder.path().join("data")).unwrap().map(|e| e.unwrap().path());
        let files = data.filter(|p| p.is_file()).chain([self.folder.path().join("log")]);
        files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    }

    /// One request to the API as the admin: its answer's text.
    pub fn api(&self, method: reqwest::Method, path: &str) -> String {
        self.api_with(method, path, None)
    }

    /// The same with a body.
    pub fn api_with(&self, method: reqwest::Method, path: &str, body: Option<&serde_json::Value>) -> String {
        let file = |name: &str| fs::read_to_string(self.folder.path().join("data").join(name)).unwrap();
        let ca = reqwest::Certificate::from_pem(file("ca.pem").as_bytes()).unwrap();
        let url = format!("https://{}:8443{path}", self.address);
        self.runtime.block_on(async {
            let http = reqwest::Client::builder().add_root_certificate(ca).tls_built_in_root_certs(false);
            let asked = http.build().unwrap().request(method, url).bearer_auth(file("admin-token").trim());
            let asked = if let Some(body) = body { asked.json(body) } else { asked };
            asked.send().await.unwrap().text().await.unwrap()
        })
    }

    /// As machines ask.
    pub fn plain(&self, path: &str) -> (u16, Vec<u8>) {
        self.runtime.block_on(async {
            let answer = reqwest::get(format!("http://{}:8080{path}", self.address)).await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
        })
    }

    /// Removes a file of its folder.
    pub fn forget(&self, file: &str) {
        fs::remove_file(self.folder.path().join(file)).unwrap();
    }

    /// Waits until the server listens and has said who may ask it.
    pub fn is_up(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        let token = self.folder.path().join("data/admin-token");
        let said = || fs::read(&token).is_ok_and(|token| token.ends_with(b"\n"));
        while !said() || std::net::TcpStream::connect((self.address.as_str(), 8443)).is_err() {
            assert!(Instant::now() < end, "{}", self.story());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Of the API.
    pub fn url(&self) -> String {
        format!("https://{}:8443", self.address)
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("data/provisioner.db")
    }

    pub fn has_died(&mut self) -> bool {
        self.server.try_wait().unwrap().is_some()
    }

    /// How the server ended.
    pub fn how(&mut self) -> std::process::ExitStatus {
        self.server.wait().unwrap()
    }

    /// SIGKILL, and the end is waited for.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.server = launch(&self.folder, None, false);
    }

    pub fn end(&mut self) {
        self.machine.unplug();
        self.kill();
    }

    pub fn resets(&self) -> Vec<String> {
        self.bmc.resets()
    }

    /// True when it was asked for, by this call or by one whose answer a crash swallowed.
    pub fn ask_to_provision(&self) -> bool {
        let file = |name: &str| fs::read_to_string(self.folder.path().join("data").join(name));
        let (Ok(ca), Ok(token)) = (file("ca.pem"), file("admin-token")) else { return false };
        let Ok(ca) = reqwest::Certificate::from_pem(ca.as_bytes()) else { return false };
        let url = format!("https://{}:8443/api/v1/machines/{NAME}/provision", self.address);
        let answer = self.runtime.block_on(async {
            let http = reqwest::Client::builder().add_root_certificate(ca).tls_built_in_root_certs(false);
            let http = http.timeout(Duration::from_millis(1500)).build().unwrap();
            http.post(url).bearer_auth(token.trim()).json(&serde_json::json!({})).send().await
        });
        // 409: it is being provisioned already.
        answer.is_ok_and(|a| a.status().is_success() || a.status() == 409 && self.machine.was_switched())
    }

    /// What an engineer wants to read when a run went wrong.
    pub fn story(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        format!("{log}\nmachine: {}\nresets: {:?}", self.machine.story(), self.bmc.resets())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.machine.unplug();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn launch(folder: &tempfile::TempDir, crash: Option<&str>, trace: bool) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_provisioner"));
    command.args(["serve", "--config"]).arg(folder.path().join("server.toml"));
    command.env_remove("PROVISIONER_CRASH_AT");
    if trace {
        command.env("PROVISIONER_LOG", "trace");
    }
    if let Some(crash) = crash {
        command.env("PROVISIONER_CRASH_AT", crash);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn write(path: &std::path::Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub const PROFILE: &str = "name: crash\nimage: crash\nos: cloud-init\ntemplate: tiny\nrole: worker\n\
    disk: {min_size: 8MiB}\nplace: {partition: {number: 1}, directory: /seed}\n\
    token: {ttl: 30m}\nready: {deadline: 10m}\n";

fn hardware(bmc: &str) -> String {
    format!(
        "name: {NAME}\nnics:\n  - mac: {}\nbmc:\n  url: {bmc}/redfish/v1/Systems/1\n  username: admin\n  \
         password: {{file: bmc-password}}\nprofile: crash\n",
        super::played::MAC
    )
}

fn configuration(address: &str) -> String {
    let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
    format!(
        "data_dir = \"data\"\nhardware_dir = \"hardware\"\ntemplates_dir = {templates:?}\nimages_dir = \"images\"\n\
         [http]\nlisten = \"{address}:8080\"\ntls_listen = \"{address}:8443\"\npublic_host = \"{address}\"\n\
         [boot]\nipxe_dir = \"boot\"\nkernel = \"boot/vmlinuz\"\ninitramfs = \"boot/initramfs.img\"\n\
         [fetch]\nallow = [\"127.0.0.0/8\"]\n"
    )
}
