//! The real routes under a limit: who is paced, who is sent away, and what an operator sees of it.

use crate::api::{MAC, Server};
use provisioner::http::{
    Settings,
    fair::{Limits, Rate},
    fleet::{Choices, Fleet, NearCache},
};
use provisioner_wire::chunks::Sha;
use std::{fs, time::Instant};

async fn limited(rate: u64) -> (Server, Sha) {
    let limits = Limits { server: Some(Rate(rate)), domain: None };
    let fleet = Fleet::new(Choices { limits, ..Choices::default() });
    let server = Server::serving(Settings::default(), fleet).await;
    let bytes = vec![3; 100_000];
    let name = Sha::of(&bytes);
    fs::write(server.file(&format!("chunk-{name}")), bytes).unwrap();
    (server, name)
}

#[tokio::test]
async fn chunks_come_no_faster_than_the_rate_and_it_is_counted() {
    let (server, name) = limited(400_000).await;
    let url = format!("{}/images/chunks/{name}", server.plain);
    let began = Instant::now();
    for _ in 0..5 {
        let answer = server.http.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap().len(), 100_000);
    }
    // The burst is 40 kB; the last 100 kB are sent ahead.
    let took = began.elapsed().as_secs_f64();
    assert!(took >= 0.8, "{took} s");
    let counts = server.get("/api/v1/boot-plane").await["counts"]["images"].clone();
    assert_eq!(
        (&counts["pieces"], &counts["bytes"], &counts["had to wait"]),
        (&5.into(), &500_000.into(), &5.into())
    );
    // Only the question costs nothing.
    assert_eq!(server.http.head(&url).send().await.unwrap().headers()["content-length"], "100000");
    assert_eq!(server.get("/api/v1/boot-plane").await["counts"]["images"]["pieces"], 5);
}

#[tokio::test]
async fn an_order_names_the_caches_of_the_machines_rack() {
    let fleet = Fleet::new(Choices {
        domain_label: Some("rack".to_owned()),
        caches: vec![NearCache {
            url: "http://10.88.0.5:8081".parse().unwrap(),
            // As tests/api declares its machines.
            domains: vec!["a1".to_owned()],
            networks: vec![],
        }],
        ..Choices::default()
    });
    let server = Server::serving(Settings::default(), fleet).await;
    server.powered("node-1", MAC).await;
    let agent = server.boot(MAC).await;
    assert_eq!(agent.claim().await.0, 200);
    let order = agent.order().await;
    assert_eq!(order["image"]["chunks"]["caches"][0], "http://10.88.0.5:8081/images", "{order}");
}
