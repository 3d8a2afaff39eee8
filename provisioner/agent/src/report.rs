//! Sends log lines and progress to the server, about once a second, from a thread of its own. Losing one costs nothing,
//! so nothing waits for it.

use crate::{log::Log, server::Server};
use provisioner_wire::{
    Generation,
    order::{BEAT, Progress},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

const LINES_AT_ONCE: usize = 200;
/// How often the last lines are tried before the agent leaves.
const LAST_TRIES: u32 = 3;

/// Sends until dropped; dropping tries a few times to send what is left.
#[derive(Debug)]
pub struct Reporter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reporter {
    pub fn start(server: Arc<Server>, log: Arc<Log>, generation: Generation, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut last = None;
            while !stopped.load(Ordering::Relaxed) {
                crate::patience::sleep_unless(&stopped, every);
                last = send(&server, &log, generation, last);
            }
            for _ in 0..LAST_TRIES {
                last = send(&server, &log, generation, last);
                if log.is_empty() {
                    break;
                }
                std::thread::sleep(every);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

/// Sends what was not sent yet, at once: with the agent's last word its claim ends, and later lines are refused.
pub fn send_lines(server: &Server, log: &Log, generation: Generation) {
    send(server, log, generation, None);
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the server has heard last, and when.
type Sent = Option<(Progress, Instant)>;

/// Sends what is new since `last`, and the same again after a [`BEAT`]; returns what the server has heard.
fn send(server: &Server, log: &Log, generation: Generation, last: Sent) -> Sent {
    let (step, done_bytes, total_bytes) = log.position();
    let lines = log.take_lines(LINES_AT_ONCE);
    let now = Progress { generation, step, done_bytes, total_bytes, log: Vec::new() };
    let is_known = last.as_ref().is_some_and(|(sent, at)| *sent == now && at.elapsed() < BEAT);
    if lines.is_empty() && is_known {
        return last;
    }
    let message = Progress { log: lines, ..now.clone() };
    if server.progress(&message).is_ok() {
        return Some((now, Instant::now()));
    }
    log.put_back(message.log);
    last
}
