//! URLs come from operators: none may reach what only this server can reach.

use super::{
    Site, contents,
    liar::{Liar, Way},
    sha256,
};
use serde_json::json;

async fn refused(site: &Site, url: &str) -> String {
    let spec = json!({"source": {"url": url}, "sha256": sha256(b"x")});
    site.ready(spec).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn this_host_is_not_fetched_from_by_address_or_by_name() {
    let site = Site::with("", &[]);
    let mirror = Liar::new(&contents(10), &[Way::Honest]);
    let port = mirror.address.port();
    for host in ["127.0.0.1", "localhost", "127.1", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let error = refused(&site, &format!("http://{host}:{port}/disk.img")).await;
        let denied = ["is this host itself", "is no host's address"].iter().any(|why| error.contains(why));
        assert!(denied && error.contains("fetch.allow"), "{host}: {error}");
    }
    let error = refused(&site, "http://169.254.169.254/latest/meta-data").await;
    assert!(error.contains("169.254.169.254 is link-local"), "{error}");
    assert_eq!(mirror.seen().len(), 0, "something was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_held_to_the_same_rules() {
    let site = Site::with("allow = [\"127.0.0.1/32\"]", &[]);
    for (to, expected) in [
        ("http://169.254.169.254/latest", "is link-local"),
        ("http://127.0.0.2:1/x", "is this host itself"),
        ("ftp://127.0.0.1/x", "is no http or https URL"),
        ("file:///etc/passwd", "is no http or https URL"),
        ("/disk.img", "redirects more than 5 times"),
    ] {
        let mirror = Liar::new(b"", &[Way::Status(302, format!("location: {to}\r\n"))]);
        let error = refused(&site, &mirror.url()).await;
        assert!(error.contains(expected), "{to}: {error}");
    }
    // A good one is followed.
    let bytes = contents(100_000);
    let to = Liar::new(&bytes, &[Way::Honest]);
    let from = Liar::new(b"", &[Way::Status(307, format!("location: {}\r\n", to.url()))]);
    let spec = json!({"source": {"url": from.url()}, "sha256": sha256(&bytes)});
    site.ready(spec).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_can_forbid_more() {
    let site = Site::with("deny = [\"192.0.2.0/24\"]", &[]);
    let error = refused(&site, "http://192.0.2.7/x").await;
    assert!(error.contains("192.0.2.7 is in fetch.deny"), "{error}");
}
