//! A qcow2 file with any bytes is an error or a disk of the size that it says, and nothing else is opened for it.

use provisioner::image::qcow2::Disk;
use std::{
    io::{Read, Write},
    sync::Once,
};

/// Of the disk; enough for several clusters of any image here.
const READ_MAX: u64 = 1 << 20;

/// The bytes as they are; and with a good magic number and version.
pub fn run(data: &[u8]) {
    // What imago panics on is caught and told as damage (`guarded`); libFuzzer's hook would end the process before that.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = panic.location().is_none_or(|place| !place.file().contains("imago"));
            if ours {
                loud(panic);
            }
        }));
    });
    check(data);
    if data.len() > 8 {
        let version = 2 + (data[7] & 1);
        check(&[b"QFI\xfb\0\0\0", &[version][..], &data[8..]].concat());
    }
}

fn check(data: &[u8]) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(data).expect("a file");
    let Ok(disk) = Disk::open(file) else { return };
    let mut bytes = Vec::new();
    let _ = disk.take(READ_MAX).read_to_end(&mut bytes);
    assert!(bytes.len() as u64 <= READ_MAX);
}
