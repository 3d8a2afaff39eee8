//! What the BMC switches.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A machine's answer, some time later.
pub type Done<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send + 'a>>;

/// Where a boot starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootFrom {
    /// The machine's own boot order.
    Order,
    Pxe,
    UefiHttp(Option<String>),
    Disk,
}

/// A machine that can be switched. Calls for one machine come one after the other.
pub trait PowerBackend: Send + Sync + fmt::Debug {
    fn on(&self, boot: BootFrom) -> Done<'_, ()>;
    /// At once, like pulling the plug.
    fn off(&self) -> Done<'_, ()>;
    /// The button: asks the operating system.
    fn shutdown(&self) -> Done<'_, ()>;
    fn reset(&self, boot: BootFrom) -> Done<'_, ()>;
    fn is_on(&self) -> Done<'_, bool>;
}

/// A machine in memory that remembers what was done to it.
#[derive(Debug, Default)]
pub struct MemoryMachine(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    on: bool,
    boots: Vec<BootFrom>,
    offs: usize,
}

impl MemoryMachine {
    pub fn new(on: bool) -> Self {
        Self(Mutex::new(Memory { on, ..Memory::default() }))
    }

    /// Every boot so far and where it started.
    pub fn boots(&self) -> Vec<BootFrom> {
        self.memory().boots.clone()
    }

    /// How often it was switched off.
    pub fn offs(&self) -> usize {
        self.memory().offs
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn boot(&self, from: BootFrom) -> Done<'_, ()> {
        let mut memory = self.memory();
        memory.on = true;
        memory.boots.push(from);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl PowerBackend for MemoryMachine {
    fn on(&self, boot: BootFrom) -> Done<'_, ()> {
        self.boot(boot)
    }

    fn off(&self) -> Done<'_, ()> {
        let mut memory = self.memory();
        memory.on = false;
        memory.offs += 1;
        Box::pin(std::future::ready(Ok(())))
    }

    fn shutdown(&self) -> Done<'_, ()> {
        self.off()
    }

    fn reset(&self, boot: BootFrom) -> Done<'_, ()> {
        self.boot(boot)
    }

    fn is_on(&self) -> Done<'_, bool> {
        let on = self.memory().on;
        Box::pin(std::future::ready(Ok(on)))
    }
}
