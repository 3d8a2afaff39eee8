//! Disks: which one, how an image gets onto it so that it can boot only when all of it is there and verified, and how
//! it is wiped. Works on [`device::Device`], so that tests can put any broken disk underneath.

pub mod block;
pub mod buffer;
mod crew;
pub mod device;
mod drive;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod fault_tests;
pub mod find;
mod held;
mod ioctl;
pub mod pace;
pub mod prove;
pub(crate) mod reservation;
pub mod table;
pub mod wipe;
pub mod wipe_choice;
pub mod write;
pub mod write_chunks;
