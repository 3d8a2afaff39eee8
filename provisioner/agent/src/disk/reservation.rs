//! SCSI persistent reservations (SPC-4 §6.13): whether some machine has registered a key with a disk.

use super::ioctl::{self, Data};
use std::fs::File;

const PERSISTENT_RESERVE_IN: u8 = 0x5e;
const ANSWER_BYTES: usize = 256;

/// False also where the disk knows no reservations.
pub(crate) fn is_registered(disk: &File) -> bool {
    let mut answer = [0; ANSWER_BYTES];
    let end = ioctl::scsi(disk, &read_keys(), Data::From(&mut answer), 10_000);
    end.is_ok_and(|end| end.status == 0 && end.host_status == 0) && keys(&answer) > 0
}

/// Service action 0: read keys.
fn read_keys() -> [u8; 10] {
    let [_, _, high, low] = u32::try_from(ANSWER_BYTES).unwrap_or(0).to_be_bytes();
    [PERSISTENT_RESERVE_IN, 0, 0, 0, 0, 0, 0, high, low, 0]
}

/// Generation (4 bytes), length of the list (4 bytes), keys of 8 bytes each.
fn keys(answer: &[u8; ANSWER_BYTES]) -> u32 {
    answer.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_and_its_answer() {
        assert_eq!(read_keys(), [0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        let mut answer = [0; ANSWER_BYTES];
        assert_eq!(keys(&answer), 0);
        answer[3] = 7;
        assert_eq!(keys(&answer), 0, "a generation alone is no key");
        answer[7] = 16;
        assert_eq!(keys(&answer), 2);
    }
}
