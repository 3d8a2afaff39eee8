//! Names that answer something else each time: the connection goes to what was checked.

use provisioner::reach::{AskError, Client, Reach, Rules};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
};
use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Answers each question with the next of these, and counts.
#[derive(Clone)]
struct Turns {
    answers: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    asked: Arc<AtomicUsize>,
}

impl Resolve for Turns {
    fn resolve(&self, _: Name) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let next = self.answers.lock().unwrap().pop_front().unwrap_or_default();
        let found: Vec<SocketAddr> = next.into_iter().map(|ip| (ip, 0).into()).collect();
        Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
    }
}

/// Answers each connection once and closes it; counts them.
fn server(listener: TcpListener) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        }
    });
    count
}

struct House {
    client: Client,
    names: Turns,
    url: Url,
    good: Arc<AtomicUsize>,
    forbidden: Arc<AtomicUsize>,
}

const GOOD: [u8; 4] = [127, 0, 0, 1];
const FORBIDDEN: [u8; 4] = [127, 0, 0, 2];

/// The same port at an allowed and at a forbidden address.
fn house(answers: &[&[[u8; 4]]]) -> House {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (good, forbidden) = std::iter::repeat_with(|| {
        let good = TcpListener::bind((IpAddr::from(GOOD), 0)).unwrap();
        let forbidden = TcpListener::bind((IpAddr::from(FORBIDDEN), good.local_addr().unwrap().port()));
        forbidden.ok().map(|forbidden| (good, forbidden))
    })
    .flatten()
    .next()
    .unwrap();
    let url = format!("http://changing.example:{}/x", good.local_addr().unwrap().port());
    let answers = answers.iter().map(|a| a.iter().map(|ip| IpAddr::from(*ip)).collect()).collect();
    let names = Turns { answers: Arc::new(Mutex::new(answers)), asked: Arc::default() };
    let rules = Rules { allow: vec!["127.0.0.1/32".parse().unwrap()], ..Rules::with_private() };
    let reach = Reach::resolving_by(rules, Arc::new(names.clone()));
    House {
        client: Client::reaching(reach, None).unwrap(),
        names,
        url: url.parse().unwrap(),
        good: server(good),
        forbidden: server(forbidden),
    }
}

impl House {
    async fn ask(&self) -> Result<String, AskError> {
        let answer = self.client.get(&self.url, &HeaderMap::new(), |request, _| request).await?;
        Ok(answer.text().await.unwrap())
    }

    fn connections(&self) -> (usize, usize) {
        (self.good.load(Ordering::SeqCst), self.forbidden.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_name_that_changes_after_the_check_gains_nothing() {
    let house = house(&[&[GOOD], &[FORBIDDEN]]);
    assert_eq!(house.ask().await.unwrap(), "ok");
    assert_eq!(house.names.asked.load(Ordering::SeqCst), 1, "one question for one connection");
    assert_eq!(house.connections(), (1, 0));
    // A new connection is a new question, and its answer is checked.
    let error = house.ask().await.unwrap_err();
    assert!(error.is_lasting());
    assert!(error.to_string().contains("changing.example: 127.0.0.2 is this host itself"), "{error}");
    assert_eq!(house.connections(), (1, 0));
}

#[tokio::test]
async fn one_forbidden_address_denies_the_name() {
    for answer in [[GOOD, FORBIDDEN], [FORBIDDEN, GOOD]] {
        let house = house(&[&answer]);
        assert!(matches!(house.ask().await, Err(AskError::Denied { .. })));
        assert_eq!(house.connections(), (0, 0));
    }
}
