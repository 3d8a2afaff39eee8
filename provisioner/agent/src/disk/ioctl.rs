//! The two block-device ioctls that have no safe wrapper.
#![allow(unsafe_code)]

use rustix::ioctl::{NoArg, ioctl};
use std::os::fd::AsFd;

/// `_IO(0x12, 95)`: read the partition table again.
const BLKRRPART: u32 = 0x125f;
/// `_IO(0x12, 97)`: drop the device's clean cached pages.
const BLKFLSBUF: u32 = 0x1261;

pub(super) fn reread_partition_table(device: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of ours.
    unsafe { ioctl(device, NoArg::<{ BLKRRPART as rustix::ioctl::Opcode }>::new()) }
}

pub(super) fn drop_cached_pages(device: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument and touches no memory of ours.
    unsafe { ioctl(device, NoArg::<{ BLKFLSBUF as rustix::ioctl::Opcode }>::new()) }
}
