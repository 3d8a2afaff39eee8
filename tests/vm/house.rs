//! A server with its folders, and machines whose power the test holds: what every test of this module lives in.

use provisioner_lab::{
    Assets, Namespace, VmSpec,
    accelerator::Accelerator,
    namespace::{ADDRESS, ADDRESS6, BRIDGE, Role},
    process::{self, Daemon, until},
};
use provisioner_wire::{Mac, report::Firmware};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub fn patience(seconds: u64) -> Duration {
    Accelerator::here().patience(seconds)
}

pub fn hash(file: &Path) -> String {
    let shown = process::run("sha256sum", [file]).unwrap();
    shown.split(' ').next().unwrap().to_owned()
}

/// What a house may be otherwise than usual.
#[derive(Clone, Default)]
pub struct Ways {
    pub discovery: bool,
    /// Which of the assets' images the tiny profile installs; none: `tiny`.
    pub image: Option<&'static str>,
    /// The images folder; none: the assets'.
    pub images: Option<PathBuf>,
    /// Added to the tiny profile.
    pub profile: &'static str,
    /// Added to the machine's declaration.
    pub declared: &'static str,
    /// HTTPS for firmware, too.
    pub firmware_tls: bool,
    /// iPXE's folder; none: the assets' unsigned ones.
    pub ipxe: Option<PathBuf>,
    /// The agent's initramfs; none: the assets'.
    pub initramfs: Option<PathBuf>,
    /// Added to the server's `[boot]`.
    pub boot: String,
    /// DHCPv6 in place of DHCPv4: the rest of its section.
    pub ipv6: Option<&'static str>,
    /// Nothing at the server has an IPv4 address.
    pub no_ipv4: bool,
    /// The server's environment beside the usual.
    pub environment: Vec<(&'static str, String)>,
    /// More machine files: name and YAML.
    pub more: Vec<(&'static str, String)>,
    /// Its `[[dhcp]]` tables, where they are not the usual.
    pub dhcp: Option<&'static str>,
}

/// The house gives addresses and boot files.
const DHCP: &str = "[[dhcp]]\ninterface = \"br0\"\n[[dhcp.subnets]]\nnetwork = \"10.88.0.0/24\"\n\
    pools = [[\"10.88.0.200\", \"10.88.0.250\"]]\nrouter = \"10.88.0.1\"\n";

pub struct House {
    folder: tempfile::TempDir,
    ways: Ways,
    server: RefCell<Option<Daemon>>,
    starts: Cell<usize>,
}

impl House {
    /// Declares `machine` where there is one, and starts the server.
    pub fn open(machine: Option<&VmSpec>, ways: Ways) -> Self {
        assert_eq!(Namespace::role(), Role::Inside, "run by `cargo xtask test`");
        let assets = Assets::from_environment().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let hardware = folder.path().join("hardware");
        for part in ["profiles", "images"] {
            let made = hardware.join(part);
            fs::create_dir_all(&made).unwrap();
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("hardware").join(part);
            for entry in fs::read_dir(file).unwrap() {
                let entry = entry.unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                let is_tiny = entry.file_name().to_string_lossy().starts_with("tiny");
                let more = if is_tiny { ways.profile } else { "" };
                fs::write(made.join(entry.file_name()), only_tiny(&text, ways.image) + more).unwrap();
            }
        }
        fs::create_dir_all(hardware.join("machines")).unwrap();
        if let Some(spec) = machine {
            fs::write(hardware.join("machines/node.yaml"), declaration(spec, ways.no_ipv4) + ways.declared)
                .unwrap();
        }
        for (name, text) in &ways.more {
            fs::write(hardware.join("machines").join(name), text).unwrap();
        }
        fs::write(folder.path().join("server.toml"), configuration(&assets, &ways)).unwrap();
        let house = Self { folder, ways, server: RefCell::new(None), starts: Cell::new(0) };
        house.start();
        house
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Starts the server and waits for its first answer.
    pub fn start(&self) {
        let number = self.starts.get() + 1;
        self.starts.set(number);
        let mut command = Command::new(env!("CARGO_BIN_EXE_provisioner"));
        command.arg("serve").arg("--config").arg(self.folder().join("server.toml"));
        command.env("PROVISIONER_LOG", "debug,sqlx=warn,hyper=warn,h2=warn");
        command.envs(self.ways.environment.iter().map(|(name, value)| (name, value)));
        let log = self.folder().join(format!("server-{number}.log"));
        let mut daemon = Daemon::start("provisioner serve", &mut command, &log).unwrap();
        daemon.wait_ready(Duration::from_secs(60), || self.try_get("/api/v1/version").is_ok()).unwrap();
        *self.server.borrow_mut() = Some(daemon);
    }

    /// SIGKILL to the server's process.
    pub fn kill_server(&self) {
        self.server.borrow_mut().take().expect("it runs").kill().unwrap();
    }

    /// Everything the server has written, over all its starts.
    pub fn server_log(&self) -> Vec<u8> {
        (1..=self.starts.get())
            .flat_map(|number| fs::read(self.folder().join(format!("server-{number}.log"))).unwrap())
            .collect()
    }

    fn curl(&self, method: &str, path: &str) -> anyhow::Result<String> {
        let token = fs::read_to_string(self.data().join("admin-token"))?;
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--max-time", "20", "--cacert"]);
        command.arg(self.data().join("ca.pem")).arg("-H");
        command.arg(format!("Authorization: Bearer {}", token.trim()));
        if method == "POST" {
            command.args(["-H", "Content-Type: application/json", "-d", "{}"]);
        }
        process::output(command.arg(format!("https://{}:8443{path}", host(&self.ways))))
    }

    pub fn try_get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.curl("GET", path)?)?)
    }

    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap()
    }

    pub fn post(&self, path: &str) {
        self.curl("POST", path).unwrap();
    }

    pub fn machine(&self) -> Value {
        self.get("/api/v1/machines/node")
    }

    pub fn phase(&self) -> String {
        self.machine()["phase"].as_str().unwrap().to_owned()
    }

    /// Waits for a phase; `failed` ends the wait at once, where it is not what is waited for.
    pub fn wait_phase(&self, wanted: &str, limit: Duration) {
        let mut last = Value::Null;
        let came = until(limit, || {
            last = self.machine();
            let phase = last["phase"].as_str().unwrap();
            assert!(phase != "failed" || wanted == "failed", "{last:#}\n{}", self.log_tail());
            Ok((phase == wanted).then_some(()))
        });
        assert!(came.unwrap().is_some(), "not {wanted}: {last:#}\n{}", self.log_tail());
    }

    pub fn log_tail(&self) -> String {
        process::tail(&String::from_utf8_lossy(&self.server_log()))
    }

    /// Events of `machine` by kind that the engine has accepted, with their content, from the database's own file.
    pub fn accepted(&self, kind: &str) -> Vec<Value> {
        let rows = self.rows(&format!(
            "SELECT event FROM events WHERE kind = '{kind}' AND verdict LIKE '%accepted%' ORDER BY seq"
        ));
        rows.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// What was heard of the machine, one line each.
    pub fn timeline(&self) -> String {
        let heard = self.accepted("heard");
        heard.iter().filter_map(|event| event["what"].as_str()).collect::<Vec<_>>().join("\n")
    }

    /// The first column of a query.
    pub fn rows(&self, query: &str) -> Vec<String> {
        use sqlx::Connection;
        let url = format!("sqlite://{}", self.data().join("provisioner.db").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
            let found = sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()));
            let rows: Vec<String> = found.fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows
        })
    }

    /// How often `step` was done in effect.
    pub fn times_done(&self, step: &str) -> usize {
        let ended = self.accepted("step-ended");
        ended.iter().filter(|event| event["step"] == step && event["outcome"].get("done").is_some()).count()
    }
}

/// The server, in a URL.
fn host(ways: &Ways) -> String {
    if ways.no_ipv4 { format!("[{ADDRESS6}]") } else { ADDRESS.to_string() }
}

/// A raw disk: what is on it can be read without QEMU.
pub fn machine(folder: &Path, firmware: Firmware) -> VmSpec {
    let mut spec = VmSpec::new("node", firmware, folder);
    // The Debian image does not fit, the tiny one does.
    spec.disk = spec.folder.join("disk.raw");
    spec.disk_bytes = 512 << 20;
    spec.mac = Mac([0x52, 0x54, 0x00, 0x88, 0x00, 0x01]);
    spec
}

/// The sample files without their Debian parts, whose image a lab may lack.
fn only_tiny(text: &str, image: Option<&str>) -> String {
    let documents = text.split("---\n").filter(|document| document.contains("tiny"));
    let tiny = documents.collect::<Vec<_>>().join("---\n");
    image.map(|image| tiny.replace("tiny.raw", &format!("{image}.raw"))).unwrap_or(tiny)
}

fn declaration(spec: &VmSpec, no_ipv4: bool) -> String {
    let firmware = if spec.firmware == Firmware::Uefi { "uefi" } else { "bios" };
    let address = match no_ipv4 {
        true => "address6: fd88::11/64".to_owned(),
        false => format!("address: 10.88.0.11/24\n    gateway: {ADDRESS}\n    nameservers: [{ADDRESS}]"),
    };
    format!(
        "name: node\nuuid: {}\nfirmware: {firmware}\nnics:\n  - mac: {}\n    {address}\nprofile: tiny-node\n",
        spec.uuid, spec.mac
    )
}

fn configuration(assets: &Assets, ways: &Ways) -> String {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let discovery = ways.discovery;
    let (host, bare) = (host(ways), host(ways).trim_matches(['[', ']']).to_owned());
    let dhcp = match ways.ipv6 {
        Some(rest) => format!("[[dhcp6]]\ninterface = \"{BRIDGE}\"\n{rest}"),
        None => ways.dhcp.unwrap_or(DHCP).to_owned(),
    };
    format!(
        "data_dir = \"data\"\nhardware_dir = \"hardware\"\ntemplates_dir = {templates:?}\nimages_dir = {:?}\n\
         discovery = {discovery}\n[http]\nlisten = \"{host}:8080\"\ntls_listen = \"{host}:8443\"\n\
         public_host = \"{bare}\"\nfirmware_tls = {}\n{dhcp}[tftp]\nlisten = \"{host}:69\"\n[boot]\n\
         ipxe_dir = {:?}\nkernel = {:?}\ninitramfs = {:?}\narguments = [\"console=ttyS0\", \"panic=10\"]\n{}",
        ways.images.clone().unwrap_or_else(|| assets.images()),
        ways.firmware_tls,
        ways.ipxe.clone().unwrap_or_else(|| assets.ipxe()),
        assets.kernel(),
        ways.initramfs.clone().unwrap_or_else(|| assets.initramfs()),
        ways.boot,
    )
}
