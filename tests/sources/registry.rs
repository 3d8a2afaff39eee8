//! Debian's docker-registry, as it is in production: what is pushed there by its own API comes out as an image.

use super::{Site, contents, sha256};
use provisioner::image::source::config::RegistryConfig;
use serde_json::{Value, json};
use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// `htpasswd -nbB lab hunter2`.
const HTPASSWD: &str = "lab:$2y$05$wmmF2.oqsTVHqR1J.ZM8n.oe/SAdeOvfbnF.BfD1PR7UEFBswn2xG\n";

struct Registry {
    process: Child,
    host: String,
    guarded: bool,
    folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    fn start(guarded: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (host, root) = (format!("127.0.0.1:{port}"), folder.path().display().to_string());
        fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: lab, path: {root}/htpasswd}}}}\n");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp: {{addr: '{host}'}}\n{}",
            if guarded { auth } else { String::new() }
        );
        fs::write(folder.path().join("config.yml"), config).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("docker-registry")
            .args(["serve".as_ref(), folder.path().join("config.yml").as_os_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed");
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(&host).is_err() {
            assert!(Instant::now() < end, "{}", fs::read_to_string(folder.path().join("log")).unwrap());
            thread::sleep(Duration::from_millis(50));
        }
        Self { process, host, guarded, folder }
    }

    fn curl(&self, more: &[&str], url: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "--max-time", "20"]).args(more).arg(url);
        if self.guarded {
            curl.args(["-u", "lab:hunter2"]);
        }
        let done = curl.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{url}: {said} {}", String::from_utf8_lossy(&done.stderr));
        said
    }

    /// A blob by the API that every client pushes with; its descriptor.
    fn push(&self, bytes: &[u8], media_type: &str, title: Option<&str>) -> Value {
        let base = format!("http://{}/v2/os/disk", self.host);
        let heads =
            self.curl(&["-X", "POST", "-D", "-", "-o", "/dev/null"], &format!("{base}/blobs/uploads/"));
        let place =
            heads.lines().find_map(|l| l.to_lowercase().starts_with("location: ").then(|| l[10..].trim()));
        let (place, digest) = (place.unwrap(), format!("sha256:{}", sha256(bytes)));
        let file = self.folder.path().join("blob");
        fs::write(&file, bytes).unwrap();
        let data = format!("@{}", file.display());
        let kind = "content-type: application/octet-stream";
        self.curl(&["-X", "PUT", "-H", kind, "--data-binary", &data], &format!("{place}&digest={digest}"));
        let notes = title.map(|t| json!({"org.opencontainers.image.title": t})).unwrap_or(json!({}));
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len(), "annotations": notes})
    }

    /// A manifest; its digest.
    fn tag(&self, tag: &str, manifest: &Value) -> String {
        let text = manifest.to_string();
        let kind = format!("content-type: {}", manifest["mediaType"].as_str().unwrap());
        let url = format!("http://{}/v2/os/disk/manifests/{tag}", self.host);
        self.curl(&["-X", "PUT", "-H", &kind, "--data-binary", &text], &url);
        format!("sha256:{}", sha256(text.as_bytes()))
    }

    fn artifact(&self, layers: &[Value]) -> Value {
        let config = self.push(b"{}", "application/vnd.oci.empty.v1+json", None);
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers})
    }

    fn access(&self, password: Option<&str>) -> RegistryConfig {
        let file = self.folder.path().join("password");
        if let Some(password) = password {
            fs::write(&file, format!("{password}\n")).unwrap();
        }
        RegistryConfig {
            host: self.host.clone(),
            plain_http: true,
            username: password.map(|_| "lab".to_owned()),
            password_file: password.map(|_| file),
        }
    }

    fn image(&self, reference: &str) -> Value {
        json!({"source": {"oci": format!("{}/os/disk{reference}", self.host)}})
    }
}

fn site(registry: &Registry, password: Option<&str>) -> Site {
    Site::with("allow = [\"127.0.0.0/8\"]", &[registry.access(password)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_asked_for_once_and_is_its_digest_from_then_on() {
    let registry = Registry::start(false);
    let (one, two) = (contents(2 << 20), contents((2 << 20) + 512)[512..].to_vec());
    let layer = registry.push(&one, "application/octet-stream", Some("node.raw"));
    let notes = registry.push(b"read me", "text/plain", Some("README"));
    let digest = registry.tag("stable", &registry.artifact(&[notes, layer]));
    let site = site(&registry, None);
    let first = site.ready(registry.image(":stable")).await.unwrap();
    assert_eq!(first.sha256(), sha256(&one));
    // The tag moves on; what was declared does not.
    let layer = registry.push(&two, "application/octet-stream", Some("node.raw"));
    let later = registry.tag("stable", &registry.artifact(&[layer]));
    let again = site.ready(registry.image(":stable")).await.unwrap();
    assert_eq!((again.root(), again.sha256()), (first.root(), first.sha256()));
    let fetcher = site.images.fetcher().unwrap();
    assert_eq!(fetcher.pinned(&super::declaration(registry.image(":stable"))), Some(digest));
    // Declared by the new digest, it is the new one.
    let moved = site.ready(registry.image(&format!(":stable@{later}"))).await.unwrap();
    assert_eq!(moved.sha256(), sha256(&two));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_declared_is_refused() {
    let registry = Registry::start(false);
    let bytes = contents(100_000);
    let layer = registry.push(&bytes, "application/octet-stream", Some("node.raw"));
    registry.tag("v1", &registry.artifact(std::slice::from_ref(&layer)));
    let mut wrong = registry.image(":v1");
    wrong["sha256"] = json!(sha256(b"another"));
    let error = site(&registry, None).ready(wrong).await.unwrap_err().to_string();
    assert!(error.contains("declared is"), "{error}");
    for (reference, expected) in [
        (":v2".to_owned(), "there is no such repository, tag or digest"),
        (format!("@sha256:{}", "0".repeat(64)), "there is no such repository, tag or digest"),
    ] {
        let error = site(&registry, None).ready(registry.image(&reference)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    registry.tag("two", &registry.artifact(&[layer.clone(), registry.push(b"b", "x/y", Some("b.img"))]));
    let error = site(&registry, None).ready(registry.image(":two")).await.unwrap_err().to_string();
    assert!(error.contains("2 layers look like disks: node.raw, b.img"), "{error}");
    // TLS where nothing else was said.
    let strict = Site::with("allow = [\"127.0.0.0/8\"]", &[]);
    let error = strict.ready(registry.image(":v1")).await.unwrap_err().to_string();
    assert!(error.contains(&format!("https://{}/v2/os/disk/manifests/v1", registry.host)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_and_told_apart() {
    let registry = Registry::start(true);
    let bytes = contents(300_000);
    let layer = registry.push(&bytes, "application/octet-stream", Some("node.raw"));
    registry.tag("v1", &registry.artifact(&[layer]));
    let error = site(&registry, None).ready(registry.image(":v1")).await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("declare them in [[registries]]"), "{error}");
    let error = site(&registry, Some("hunter3")).ready(registry.image(":v1")).await.unwrap_err().to_string();
    assert!(error.contains("does not take the credentials") && !error.contains("hunter3"), "{error}");
    let site = site(&registry, Some("hunter2"));
    assert_eq!(site.ready(registry.image(":v1")).await.unwrap().sha256(), sha256(&bytes));
}

/// A layer of a container disk.
fn tar(disk: &[u8]) -> Vec<u8> {
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(disk.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append_data(&mut header, "disk/node.img", disk).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_comes_out_of_a_layer_is_counted_as_it_comes() {
    let registry = Registry::start(false);
    // Some 20 KB as a layer.
    let layer = registry.push(&tar(&vec![7; 5 << 20]), "application/vnd.oci.image.layer.v1.tar+gzip", None);
    registry.tag("large", &registry.artifact(&[layer]));
    let fetch = "allow = [\"127.0.0.0/8\"]\ncache_limit = \"4MiB\"";
    let site = Site::with(fetch, &[registry.access(None)]);
    let error = site.ready(registry.image(":large")).await.unwrap_err().to_string();
    assert!(
        error.starts_with("image i: the cache of fetched images has") && error.contains("fetch.cache_limit"),
        "{error}"
    );
    assert_eq!(site.fetched(), [], "what was begun is not given back");
    let site = Site::with(&fetch.replace('4', "6"), &[registry.access(None)]);
    site.ready(registry.image(":large")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_chosen_from_by_architecture_and_a_container_disk_is_opened() {
    let registry = Registry::start(false);
    let (amd64, arm64) = (contents(70_000), contents(80_000));
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let mut manifests = Vec::new();
    for (architecture, disk) in [("amd64", &amd64), ("arm64", &arm64)] {
        let layer = registry.push(&tar(disk), kind, None);
        let manifest = registry.artifact(&[layer]);
        let digest = registry.tag(architecture, &manifest);
        manifests.push(
            json!({"mediaType": manifest["mediaType"], "digest": digest, "size": manifest.to_string().len(),
            "platform": {"architecture": architecture, "os": "linux"}}),
        );
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    registry.tag("all", &index);
    let site = site(&registry, None);
    assert_eq!(site.ready(registry.image(":all")).await.unwrap().sha256(), sha256(&amd64));
    let mut other = registry.image(":all");
    other["architecture"] = json!("arm64");
    assert_eq!(site.ready(other.clone()).await.unwrap().sha256(), sha256(&arm64));
    other["architecture"] = json!("s390x");
    let error = site.ready(other).await.unwrap_err().to_string();
    assert!(error.contains("nothing for s390x, only for amd64, arm64"), "{error}");
}

fn openssl(folder: &std::path::Path, line: &str) {
    let done = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
}

/// What `cosign sign --key` leaves in a registry; the key's public half.
fn sign(registry: &Registry, digest: &str) -> String {
    let folder = registry.folder.path();
    openssl(folder, "ecparam -name prime256v1 -genkey -noout -out key");
    openssl(folder, "ec -in key -pubout -out key.pub");
    let payload = json!({"critical": {"identity": {"docker-reference": "registry.example/os/disk"},
        "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"}, "optional": null});
    let payload = payload.to_string();
    fs::write(folder.join("payload"), &payload).unwrap();
    openssl(folder, "dgst -sha256 -sign key -out payload.der payload");
    openssl(folder, "base64 -A -in payload.der -out payload.sig");
    let mut layer =
        registry.push(payload.as_bytes(), "application/vnd.dev.cosign.simplesigning.v1+json", None);
    let signature = fs::read_to_string(folder.join("payload.sig")).unwrap();
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
    registry.tag(&format!("{}.sig", digest.replace(':', "-")), &registry.artifact(&[layer]));
    fs::read_to_string(folder.join("key.pub")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_found_beside_its_artifact_and_wanted_also_later() {
    let registry = Registry::start(false);
    let bytes = contents(100_000);
    let layer = registry.push(&bytes, "application/octet-stream", Some("node.raw"));
    let digest = registry.tag("v1", &registry.artifact(&[layer]));
    let site = site(&registry, None);
    // Unsigned, and nobody minds.
    site.ready(registry.image(":v1")).await.unwrap();
    let key = sign(&registry, &digest);
    let mut signed = registry.image(":v1");
    signed["signature"] = json!({"cosign": {"key": key}});
    assert_eq!(site.ready(signed.clone()).await.unwrap().sha256(), sha256(&bytes));
    // By another key it is refused, also where all of it is here already.
    openssl(registry.folder.path(), "ecparam -name prime256v1 -genkey -noout -out other");
    openssl(registry.folder.path(), "ec -in other -pubout -out other.pub");
    let other = fs::read_to_string(registry.folder.path().join("other.pub")).unwrap();
    signed["signature"] = json!({"cosign": {"key": other}});
    let error = site.ready(signed.clone()).await.unwrap_err().to_string();
    assert!(
        error.contains("signature.cosign") && error.contains("not of its payload by this key"),
        "{error}"
    );
    // Nobody has signed this one.
    let layer = registry.push(&contents(90_000), "application/octet-stream", Some("node.raw"));
    registry.tag("v2", &registry.artifact(&[layer]));
    signed["source"] = registry.image(":v2")["source"].clone();
    let error = site.ready(signed).await.unwrap_err().to_string();
    assert!(error.contains(".sig: answered 404"), "{error}");
}
