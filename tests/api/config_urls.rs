//! A config by its one-shot URL: told to an installer on its kernel command line, or to a node by a file on its disk;
//! fetched once.

use super::{MAC, Server, hardware};
use provisioner_wire::machine::Phase;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const NODE: &str = "node-1";

impl Server {
    /// Declared, provisioned with the played `profile`, its agent claimed and with an order.
    pub async fn ordered(&self, profile: &str) -> (super::Agent, Value) {
        let body = Some(json!({ "profile": profile }));
        let path = format!("/api/v1/machines/{NODE}/provision");
        let (status, value) = self.api(Method::POST, &path, body).await;
        assert_eq!(status, 200, "{value}");
        self.until(NODE, |m| m.phase == Phase::Powering).await;
        let agent = self.boot(MAC).await;
        let (status, value) = agent.claim().await;
        assert_eq!(status, 200, "{value}");
        let order = agent.order().await;
        (agent, order)
    }

    /// Handed over by its agent; the script with its operating system's own kernel.
    async fn netbooted(&self, profile: &str) -> String {
        let (agent, order) = self.ordered(profile).await;
        assert_eq!(order["order"], "hand-over", "{order}");
        let generation = self.machine(NODE).await.unwrap().generation.0;
        assert_eq!(agent.done(generation, "hand-over").await.0, 409, "its licence is not spent");
        assert_eq!(agent.spend(generation, &order).await.0, 200);
        assert_eq!(agent.done(generation, "hand-over").await.0, 200);
        assert_eq!(agent.order().await["order"], "reboot");
        assert_eq!(agent.done(generation, "reboot").await.0, 200);
        self.script(MAC).await
    }

    async fn fetch(&self, url: &str) -> (StatusCode, String) {
        let response = self.http.get(url).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    pub async fn shows(&self, token: &str) -> StatusCode {
        let url = format!("{}/node/v1/{NODE}/ready", self.tls);
        self.http.post(url).body(token.to_owned()).send().await.unwrap().status()
    }
}

/// The URL on the kernel command line of a netboot script.
fn url_in(script: &str) -> String {
    let words = script.split_whitespace();
    let found = words.filter_map(|word| word.strip_prefix("ignition.config.url=")).next();
    found.unwrap_or_else(|| panic!("{script}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installer_is_booted_fetches_once_and_its_node_is_ready() {
    let server = Server::start().await;
    server.declare(NODE, MAC).await;
    let script = server.netbooted("netboot").await;
    let kernel = script.lines().find(|line| line.starts_with("kernel ")).unwrap();
    let base = &server.plain;
    assert!(kernel.starts_with(&format!(
        "kernel {base}/images/x initrd=initrd0 flatcar.first_boot=1 ignition.platform.id=metal \
         ignition.config.url={base}/config/{NODE}/"
    )));
    assert!(kernel.ends_with("/config console=ttyS0 || goto again"), "{kernel}");
    assert!(script.contains(&format!("\ninitrd --name initrd0 {base}/images/initramfs || goto again\n")));
    assert!(!script.contains("canary-token") && !script.contains("{{"), "{script}");
    let before = server.machine(NODE).await.unwrap();
    assert_eq!(before.phase, Phase::Netbooting);
    assert!(before.token.is_none() && before.licence.unwrap().spent.is_some());
    // A look is no fetch, and neither is what there is not.
    let url = url_in(&script);
    assert_eq!(server.http.head(&url).send().await.unwrap().status(), 405);
    assert_eq!(server.fetch(&url.replace("/config/node-1/", "/config/node-2/")).await.0, 410);
    assert_eq!(server.fetch(&url.replace("/config/node-1/", "/config/node-1/00")).await.0, 410);
    assert_eq!(server.fetch(&(url.trim_end_matches("config").to_owned() + "other")).await.0, 404);
    assert_eq!(
        server.fetch(&(url.trim_end_matches("config").to_owned() + "vendor-data")).await,
        (StatusCode::OK, String::new())
    );
    let (status, token) = server.fetch(&url).await;
    assert_eq!(status, 200);
    assert!(token.starts_with("canary-token"), "{token}");
    let fetched = server.machine(NODE).await.unwrap();
    assert_eq!(fetched.phase, Phase::Rebooting);
    assert!(fetched.licence.is_none() && fetched.token.is_some());
    // Whatever its firmware tries first, it boots its disk from now on.
    assert!(server.script(MAC).await.contains("boots its own disk"));
    assert_eq!(server.shows(&token).await, 200);
    let ready = server.machine(NODE).await.unwrap();
    assert_eq!(ready.phase, Phase::Ready);
    assert!(server.script(MAC).await.contains("boots its own disk"));
    // Afterwards somebody who kept the URL gets nothing, is an alarm, and changes nothing (I2).
    for _ in 0..5 {
        assert_eq!(server.fetch(&url).await.0, 410);
    }
    assert_eq!(server.alarms(NODE).await, 1, "one in a while is enough");
    let after = server.machine(NODE).await.unwrap();
    assert_eq!((after.phase, after.version), (Phase::Ready, ready.version));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_fetch_gets_nothing_and_kills_the_firsts_token() {
    let server = Server::start().await;
    server.declare(NODE, MAC).await;
    let url = url_in(&server.netbooted("netboot").await);
    let (status, token) = server.fetch(&url).await;
    assert_eq!(status, 200);
    let (status, body) = server.fetch(&url).await;
    assert_eq!(status, 410);
    assert!(!body.contains("canary-token"));
    let failed = server.machine(NODE).await.unwrap();
    assert_eq!(failed.phase, Phase::Failed);
    assert!(failed.reason.contains("fetched a second time"), "{}", failed.reason);
    assert_eq!(server.alarms(NODE).await, 1);
    assert_eq!(server.shows(&token).await, 403);
    // A new generation has a new URL, and the old one is nothing.
    assert_eq!(server.post(&format!("/api/v1/machines/{NODE}/retry")).await.0, 200);
    assert_eq!(server.fetch(&url).await.0, 410);
    assert_eq!(server.alarms(NODE).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_boot_as_one_machine_are_found_out() {
    let server = Server::start().await;
    server.declare(NODE, MAC).await;
    let older = url_in(&server.netbooted("netboot").await);
    let newer = url_in(&server.script(MAC).await);
    assert_ne!(older, newer);
    assert_eq!(server.fetch(&older).await.0, 410);
    let machine = server.machine(NODE).await.unwrap();
    assert_eq!((machine.phase, server.alarms(NODE).await), (Phase::Netbooting, 1), "nothing is out yet");
    let (status, token) = server.fetch(&newer).await;
    assert_eq!(status, 200);
    assert_eq!(server.fetch(&older).await.0, 410);
    let failed = server.machine(NODE).await.unwrap();
    assert!(
        failed.phase == Phase::Failed && failed.reason.contains("two machines boot"),
        "{}",
        failed.reason
    );
    assert_eq!(server.shows(&token).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_fetches_at_once_at_most_one_is_given_the_config() {
    let server = Server::start().await;
    server.declare(NODE, MAC).await;
    let mut given = 0;
    for round in 0..12 {
        let url = url_in(&server.netbooted("netboot").await);
        let fetches: Vec<_> = (0..64)
            .map(|_| {
                let (http, url) = (server.http.clone(), url.clone());
                tokio::spawn(async move {
                    let response = http.get(url).send().await.unwrap();
                    (response.status(), response.text().await.unwrap())
                })
            })
            .collect();
        let mut tokens = Vec::new();
        for fetch in fetches {
            match fetch.await.unwrap() {
                (StatusCode::OK, token) => tokens.push(token),
                (status, body) => {
                    assert_eq!(status, 410, "{body}");
                    assert!(!body.contains("canary-token"));
                }
            }
        }
        assert!(tokens.len() <= 1, "round {round}: {} were given it", tokens.len());
        let machine = server.machine(NODE).await.unwrap();
        assert_eq!(machine.phase, Phase::Failed, "round {round}");
        for token in &tokens {
            assert_eq!(server.shows(token).await, 403, "round {round}: a token that two know of");
        }
        given += tokens.len();
    }
    println!("{given} of 12 rounds gave it to one, the others to nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_and_the_address_are_as_the_profile_says() {
    let server = Server::start().await;
    let mut record = hardware(NODE, MAC);
    record["nics"][0]["address"] = json!("10.9.9.9/24");
    server.declare(NODE, MAC).await;
    assert_eq!(server.api(Method::PUT, &format!("/api/v1/machines/{NODE}"), Some(record)).await.0, 200);
    let script = server.netbooted("netboot-tls").await;
    assert!(script.contains("/boot/authority.pem /etc/ssl/certs/provisioner-site.pem mode=644"), "{script}");
    let url = url_in(&script);
    assert!(url.starts_with(&server.tls));
    let authority = format!("{}/boot/authority.pem", server.plain);
    let (status, pem) = server.fetch(&authority).await;
    assert_eq!((status, pem.starts_with("-----BEGIN CERTIFICATE")), (StatusCode::OK, true), "{pem}");
    assert_eq!(server.fetch(&url.replace(&server.tls, &server.plain)).await.0, 403, "not in clear");
    assert_eq!(server.fetch(&url).await.0, 200, "and that was no fetch");
    assert_eq!(server.fetch(&url).await.0, 410);
    let url = url_in(&server.netbooted("netboot-own").await);
    assert_eq!(server.fetch(&url).await.0, 403, "127.0.0.1 is not its address");
    let machine = server.machine(NODE).await.unwrap();
    assert_eq!((machine.phase, machine.token), (Phase::Netbooting, None), "and that was no fetch");
    let events = server.get(&format!("/api/v1/machines/{NODE}/events")).await.to_string();
    assert!(events.contains("ALARM: 127.0.0.1 asked for its config"), "{events}");
    server.declare(NODE, MAC).await;
    assert_eq!(server.fetch(&url).await.0, 200, "no address is known: any may be its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_led_to_its_config_by_a_file_without_a_token() {
    let server = Server::start().await;
    server.declare(NODE, MAC).await;
    let (agent, order) = server.ordered("by-url").await;
    assert_eq!(order["order"], "write-image");
    assert_eq!(agent.spend(1, &order).await.0, 200);
    assert_eq!(agent.done(1, "write-image").await.0, 200);
    assert_eq!(agent.order().await["order"], "place-config");
    assert_eq!(agent.done(1, "place-config").await.0, 409, "nothing was given to be placed");
    let (first, second) = (agent.config(NODE, 1).await.1.unwrap(), agent.config(NODE, 1).await.1.unwrap());
    let seed = |config: &provisioner_wire::order::Config| {
        let meta: Value = serde_json::from_str(&config.files[0].contents).unwrap();
        meta["seedfrom"].as_str().unwrap().to_owned()
    };
    assert!(first.files.iter().all(|file| !file.contents.contains("canary-token")));
    assert!(server.machine(NODE).await.unwrap().token.is_none(), "minted when it is fetched");
    assert_eq!(server.fetch(&format!("{}user-data", seed(&second))).await.0, 410, "its agent still runs");
    assert_eq!(agent.done(1, "place-config").await.0, 200);
    assert_eq!(agent.done(1, "reboot").await.0, 200);
    assert_eq!(
        server.fetch(&format!("{}user-data", seed(&first))).await.0,
        410,
        "the newest is the live one"
    );
    let (status, token) = server.fetch(&format!("{}user-data", seed(&second))).await;
    assert_eq!((status, token.starts_with("canary-token")), (StatusCode::OK, true));
    assert_eq!(server.shows(&token).await, 200);
    assert_eq!(server.machine(NODE).await.unwrap().phase, Phase::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_or_late_fetch_gets_nothing() {
    let server = Server::start().await;
    server.declare(NODE, MAC).await;
    let url = url_in(&server.netbooted("netboot-slow").await);
    let (http, slow) = (server.http.clone(), url.clone());
    let fetching = tokio::spawn(async move { http.get(slow).send().await.unwrap().status() });
    server.until(NODE, |m| m.phase == Phase::Rebooting).await;
    assert_eq!(server.post(&format!("/api/v1/machines/{NODE}/cancel")).await.0, 200);
    assert_eq!(fetching.await.unwrap(), 410, "cancelled while its config was rendered");
    assert!(server.machine(NODE).await.unwrap().token.is_none());
    let url = url_in(&server.netbooted("netboot").await);
    server.pass(Duration::from_secs(2 * 3600));
    assert_eq!(server.fetch(&url).await.0, 410, "expired");
    let url = url_in(&server.netbooted("netboot").await);
    server.pass_back(Duration::from_secs(3 * 3600));
    assert_eq!(server.fetch(&url).await.0, 200, "a clock that was set back hinders nobody");
    assert_eq!(server.fetch(&url).await.0, 410, "nor does it open what was used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_url_nor_token_is_logged_or_stored() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let file = log.reopen().unwrap();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(file).init();
    let server = Server::start().await;
    server.declare(NODE, MAC).await;
    let url = url_in(&server.netbooted("netboot-tls").await);
    assert_eq!(server.fetch(&url.replace(&server.tls, &server.plain)).await.0, 403);
    let (_, token) = server.fetch(&url).await;
    assert_eq!(server.fetch(&url).await.0, 410);
    let capability = url.rsplit('/').nth(1).unwrap();
    assert_eq!(capability.len(), 32);
    let mut places = vec![log.path().to_owned()];
    places.extend(std::fs::read_dir(server.folder.path()).unwrap().map(|entry| entry.unwrap().path()));
    for place in places.into_iter().filter(|place| place.is_file()) {
        let bytes = std::fs::read(&place).unwrap();
        for secret in [capability, token.as_str()] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            // What reqwest and hyper log of this test's own requests is the client's.
            assert!(!found || place == log.path() && only_the_clients(&bytes, secret), "{}", place.display());
        }
    }
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert!(text.contains("/config/…"), "the requests were not logged at all");
}

/// Every line with `secret` is of the HTTP client that this test itself is.
fn only_the_clients(log: &[u8], secret: &str) -> bool {
    let text = String::from_utf8_lossy(log);
    text.lines().filter(|line| line.contains(secret)).all(|line| {
        line.contains("reqwest") || line.contains("hyper_util::client") || line.contains("hyper::client")
    })
}
