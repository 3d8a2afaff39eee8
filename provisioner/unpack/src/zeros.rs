//! Holes: what of an image need be neither sent nor written.

/// True where all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // In wide steps: this runs over every byte of every image.
    let (wide, rest) = bytes.as_chunks::<64>();
    wide.iter().all(|c| c.iter().fold(0, |all, b| all | b) == 0) && rest.iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        assert!(is_zero(&[0; 200]) && is_zero(&[]));
        for at in 0..200 {
            let mut bytes = [0; 200];
            bytes[at] = 0x80;
            assert!(!is_zero(&bytes), "{at}");
        }
    }
}
