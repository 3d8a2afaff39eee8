//! PURE. UUIDs and serials that name no machine: vendors' filler, seen on many boards at once.

use uuid::Uuid;

/// UUIDs that board makers left in: all zero, all one, and AMI's, MSI's and Supermicro's known fillers.
const FILLER_UUIDS: [u128; 5] = [
    0,
    u128::MAX,
    0x0300_0200_0400_0500_0006_0007_0008_0009,
    0x0002_0003_0004_0005_0006_0007_0008_0009,
    0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f,
];

const FILLER_SERIALS: [&str; 14] = [
    "to be filled by o.e.m.",
    "to be filled by oem",
    "default string",
    "system serial number",
    "chassis serial number",
    "not specified",
    "not applicable",
    "none",
    "n/a",
    "unknown",
    "oem",
    "123456789",
    "0123456789",
    "serial",
];

/// The same value for a UUID and its byte-swapped twin: SMBIOS 2.6 changed the order of the first three fields, and
/// firmware, BMC and PXE ROM of one machine do not always agree.
pub fn canonical(uuid: Uuid) -> Uuid {
    uuid.min(Uuid::from_bytes_le(uuid.into_bytes()))
}

/// True for a UUID that names no machine.
pub fn is_filler_uuid(uuid: Uuid) -> bool {
    FILLER_UUIDS.iter().any(|filler| canonical(Uuid::from_u128(*filler)) == canonical(uuid))
}

/// True for a serial that names no machine and no disk.
pub fn is_filler_serial(serial: &str) -> bool {
    let plain = serial.trim().to_ascii_lowercase();
    // "0000000", "xxxxxx", "........", "-", "0"; but "7" may be what somebody gave a VM.
    let first = plain.chars().next().unwrap_or('0');
    let one_character = plain.chars().all(|c| c == first);
    let says_something = plain.len() == 1 && first.is_ascii_alphanumeric() && first != '0';
    (one_character && !says_something) || FILLER_SERIALS.contains(&plain.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filler_is_known_in_both_byte_orders() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
        ] {
            assert!(is_filler_uuid(text.parse().unwrap()), "{text}");
        }
        let good: Uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        assert!(!is_filler_uuid(good));
        let swapped: Uuid = "33221100-5544-7766-8899-aabbccddeeff".parse().unwrap();
        assert_eq!(canonical(good), canonical(swapped));
    }

    #[test]
    fn serials() {
        for text in ["To Be Filled By O.E.M.", "0000000", "", " ", "None", "xxxx", "0123456789", "-", "0"] {
            assert!(is_filler_serial(text), "{text}");
        }
        for text in ["lab-1", "7XK2J33", "01", "7"] {
            assert!(!is_filler_serial(text), "{text}");
        }
    }
}
