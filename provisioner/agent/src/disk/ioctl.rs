//! The ioctls of block devices that have no safe wrapper. Each takes a structure of this file or nothing; what the bytes
//! in them mean is in [`super::drive`].
#![allow(unsafe_code)]

use rustix::ioctl::{NoArg, Opcode, Updater, ioctl};
use std::{io, os::fd::AsFd};

/// `_IO(0x12, 95)`: read the partition table again.
const BLKRRPART: Opcode = 0x125f;
/// `_IO(0x12, 97)`: drop the device's clean cached pages.
const BLKFLSBUF: Opcode = 0x1261;
/// `_IOWR('N', 0x41, struct nvme_passthru_cmd)`.
const NVME_ADMIN: Opcode = 0xc048_4e41;
/// `_IO('N', 0x40)`: the number of the namespace.
const NVME_ID: Opcode = 0x4e40;
const SG_IO: Opcode = 0x2285;

pub(super) fn reread_partition_table(device: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of ours.
    unsafe { ioctl(device, NoArg::<BLKRRPART>::new()) }
}

pub(super) fn drop_cached_pages(device: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument and touches no memory of ours.
    unsafe { ioctl(device, NoArg::<BLKFLSBUF>::new()) }
}

/// Kernel's `struct nvme_passthru_cmd` (include/uapi/linux/nvme_ioctl.h).
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct NvmeCommand {
    pub opcode: u8,
    pub flags: u8,
    pub reserved: u16,
    pub namespace: u32,
    pub dword2: u32,
    pub dword3: u32,
    pub metadata: u64,
    /// Set by [`nvme_admin`].
    pub address: u64,
    pub metadata_length: u32,
    /// Set by [`nvme_admin`].
    pub length: u32,
    pub dwords: [u32; 6],
    pub timeout_ms: u32,
    pub result: u32,
}

/// Sends an admin command through a namespace's block device; what it answers is in `data`. An error status of the drive
/// is an error.
pub(super) fn nvme_admin(device: impl AsFd, mut command: NvmeCommand, data: &mut [u8]) -> io::Result<()> {
    command.address = if data.is_empty() { 0 } else { data.as_mut_ptr() as u64 };
    command.length = u32::try_from(data.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes the command, and at most `length` bytes at `address`: both live until the call
    // is over, and `data` is borrowed for that long.
    let status = unsafe { ioctl(device, Status::<NVME_ADMIN, NvmeCommand>(&mut command)) }?;
    match status {
        0 => Ok(()),
        status => Err(io::Error::other(format!("the drive refused it: NVMe status {status:#06x}"))),
    }
}

/// The number of the namespace that a block device is.
pub(super) fn nvme_namespace(device: impl AsFd) -> io::Result<u32> {
    // SAFETY: NVME_ID takes no argument and touches no memory of ours.
    let number = unsafe { ioctl(device, Status::<NVME_ID, u8>(&mut 0)) }?;
    u32::try_from(number).map_err(io::Error::other)
}

/// An ioctl whose return value says how the device answered.
struct Status<'a, const CODE: Opcode, T>(&'a mut T);

// SAFETY: the pointer is to a `T` that is borrowed for as long as this lives; the return value is handed on as it is.
unsafe impl<const CODE: Opcode, T> rustix::ioctl::Ioctl for Status<'_, CODE, T> {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        CODE
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(
        out: rustix::ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// Kernel's `struct sg_io_hdr` (include/scsi/sg.h), version 3.
#[derive(Debug)]
#[repr(C)]
struct ScsiHeader {
    interface: i32,
    direction: i32,
    command_length: u8,
    sense_length: u8,
    iovec_count: u16,
    data_length: u32,
    data: u64,
    command: u64,
    sense: u64,
    timeout_ms: u32,
    flags: u32,
    pack_id: i32,
    padding: u32,
    user: u64,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_written: u8,
    host_status: u16,
    driver_status: u16,
    residue: i32,
    duration_ms: u32,
    info: u32,
}

/// Which way a SCSI command's data goes.
#[derive(Debug)]
pub(super) enum Data<'a> {
    None,
    To(&'a [u8]),
    From(&'a mut [u8]),
}

/// How a SCSI command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScsiEnd {
    pub status: u8,
    pub host_status: u16,
    /// As many bytes as the device gave.
    pub sense: Vec<u8>,
}

/// Sends a SCSI command. How the device liked it is in the answer.
pub(super) fn scsi(
    device: impl AsFd,
    command: &[u8],
    data: Data<'_>,
    timeout_ms: u32,
) -> io::Result<ScsiEnd> {
    let mut sense = [0_u8; 64];
    let (direction, address, length) = match data {
        Data::None => (-1, 0, 0),
        Data::To(bytes) => (-2, bytes.as_ptr() as u64, bytes.len()),
        Data::From(bytes) => (-3, bytes.as_mut_ptr() as u64, bytes.len()),
    };
    let mut header = ScsiHeader {
        interface: i32::from(b'S'),
        direction,
        command_length: u8::try_from(command.len()).map_err(io::Error::other)?,
        sense_length: 64,
        iovec_count: 0,
        data_length: u32::try_from(length).map_err(io::Error::other)?,
        data: address,
        command: command.as_ptr() as u64,
        sense: sense.as_mut_ptr() as u64,
        timeout_ms,
        flags: 0,
        pack_id: 0,
        padding: 0,
        user: 0,
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_written: 0,
        host_status: 0,
        driver_status: 0,
        residue: 0,
        duration_ms: 0,
        info: 0,
    };
    // SAFETY: the kernel reads and writes the header, reads `command_length` bytes of the command, writes at most
    // `sense_length` bytes of sense, and reads or writes (by `direction`) `data_length` bytes of data: all of them live
    // until the call is over, and the data is borrowed as its direction needs.
    unsafe { ioctl(device, Updater::<SG_IO, ScsiHeader>::new(&mut header)) }?;
    let written = usize::from(header.sense_written).min(sense.len());
    let sense = sense.get(..written).unwrap_or_default().to_vec();
    Ok(ScsiEnd { status: header.status, host_status: header.host_status, sense })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel knows the structures by their size and their places alone.
    #[test]
    fn the_structures_are_the_kernels() {
        use std::mem::{offset_of, size_of};
        assert_eq!(size_of::<NvmeCommand>(), 72);
        assert_eq!((offset_of!(NvmeCommand, address), offset_of!(NvmeCommand, dwords)), (24, 40));
        assert_eq!((offset_of!(NvmeCommand, timeout_ms), offset_of!(NvmeCommand, result)), (64, 68));
        assert_eq!(size_of::<ScsiHeader>(), 88);
        assert_eq!((offset_of!(ScsiHeader, data), offset_of!(ScsiHeader, timeout_ms)), (16, 40));
        assert_eq!((offset_of!(ScsiHeader, user), offset_of!(ScsiHeader, status)), (56, 64));
        assert_eq!((offset_of!(ScsiHeader, host_status), offset_of!(ScsiHeader, info)), (68, 80));
    }
}
