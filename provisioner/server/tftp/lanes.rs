//! Threads for transfers: a few, however many transfers there are. Each has a small runtime of its own, so that a packet
//! wakes one thread and no other, and the rest of the server's work does not stand in its way.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use tokio::{runtime, sync::oneshot};

/// More would only take processors from the rest of the server.
const LANES_MAX: usize = 4;

#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Lane>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Lane {
    handle: runtime::Handle,
    /// Dropped: the thread ends, and with it all that runs on it.
    _stop: oneshot::Sender<()>,
}

impl Lanes {
    /// `count`, or one for each processor.
    pub fn start(count: Option<usize>) -> io::Result<Self> {
        let processors = || thread::available_parallelism().map_or(1, usize::from).min(LANES_MAX);
        let count = count.unwrap_or_else(processors);
        let lanes = (0..count).map(|_| Lane::start()).collect::<io::Result<_>>()?;
        Ok(Self { lanes, next: AtomicUsize::new(0) })
    }

    /// Runs `work` on the next lane.
    pub fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(lane) = self.lanes.iter().cycle().nth(next % self.lanes.len().max(1)) {
            lane.handle.spawn(work);
        }
    }
}

impl Lane {
    fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("tftp".to_owned()).spawn(move || {
            // An error is the sender's end: the same as a word.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, _stop: stop })
    }
}
