//! A thread with a small runtime of its own: a packet wakes it and no other, and the rest of the server's work does not
//! stand in its way.

use std::{io, thread};
use tokio::{runtime, sync::oneshot};

#[derive(Debug)]
pub struct Lane {
    handle: runtime::Handle,
    /// Dropped: the thread ends, and with it all that runs on it.
    _stop: oneshot::Sender<()>,
}

impl Lane {
    pub fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("tftp".to_owned()).spawn(move || {
            // An error is the sender's end: the same as a word.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, _stop: stop })
    }

    pub fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }
}
