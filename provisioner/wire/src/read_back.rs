//! The proof that a disk has what was written: after the agent has said that the image is on the medium the server
//! draws a nonce; from it both know the same random pieces of the disk. The agent reads them from the medium and answers
//! with a keyed hash, which the server compares with the one that it makes of its own chunks.

use crate::{chunks::Manifest, ids::hex};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Each end of the disk that the agent keeps back until all between them is proven.
pub const END_BYTES: u64 = 1 << 20;
/// Pieces of chunks with data, beside the first and the last of them.
pub const DATA_PIECES: usize = 62;
/// Pieces of holes, which must read as zero.
pub const HOLE_PIECES: usize = 8;
/// Longest piece.
pub const PIECE_BYTES: u64 = 64 << 10;
/// Pieces begin and end at multiples of this: any disk's sector.
const GRAIN: u64 = 4096;

/// 32 random bytes.
pub type Nonce = [u8; 32];

/// Part of one chunk: `at` and `length` in bytes of the raw disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub chunk: usize,
    pub at: u64,
    pub length: u64,
}

/// The bytes of an image that lie between the ends of a disk.
pub fn body(raw_bytes: u64, disk_bytes: u64) -> Range<u64> {
    let end = raw_bytes.min(disk_bytes.saturating_sub(END_BYTES));
    END_BYTES.min(end)..end
}

/// What is to be read of a disk of `disk_bytes`. The same for the same nonce and manifest, and not to be known before
/// the nonce is. Empty where an image is so small that it lies in the ends alone.
pub fn pieces(nonce: &Nonce, manifest: &Manifest, disk_bytes: u64) -> Vec<Piece> {
    let body = body(manifest.raw_bytes, disk_bytes);
    let (mut data, mut holes) = (Vec::new(), Vec::new());
    for (number, chunk) in manifest.chunks.iter().enumerate() {
        let (at, length) = manifest.place(number);
        let start = at.max(body.start).next_multiple_of(GRAIN);
        let end = (at + length as u64).min(body.end) / GRAIN * GRAIN;
        if start < end {
            if chunk.is_some() { &mut data } else { &mut holes }.push((number, start..end));
        }
    }
    let mut draw = Draw { nonce, count: 0 };
    let mut drawn = Vec::new();
    drawn.extend(data.first().map(|place| piece(&mut draw, place)));
    drawn.extend(data.last().map(|place| piece(&mut draw, place)));
    for (places, count) in [(&data, DATA_PIECES), (&holes, HOLE_PIECES)] {
        for _ in 0..count {
            let chosen = draw.below(places.len() as u64);
            let place = usize::try_from(chosen).ok().and_then(|n| places.get(n));
            drawn.extend(place.map(|place| piece(&mut draw, place)));
        }
    }
    drawn
}

fn piece(draw: &mut Draw<'_>, (chunk, room): &(usize, Range<u64>)) -> Piece {
    let length = PIECE_BYTES.min(room.end - room.start);
    let grains = (room.end - room.start - length) / GRAIN + 1;
    Piece { chunk: *chunk, at: room.start + draw.below(grains) * GRAIN, length }
}

/// Random numbers of a nonce: SHA-256 of it and a counter.
struct Draw<'n> {
    nonce: &'n Nonce,
    count: u64,
}

impl Draw<'_> {
    /// Below `bound`; 0 for 0. What the remainder favours is beyond measure for bounds that a disk has.
    fn below(&mut self, bound: u64) -> u64 {
        let hash = Sha256::new()
            .chain_update(b"provisioner read-back v1")
            .chain_update(self.nonce)
            .chain_update(self.count.to_le_bytes())
            .finalize();
        self.count += 1;
        let number = hash.iter().take(8).fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
        number.checked_rem(bound).unwrap_or(0)
    }
}

/// The keyed hash over pieces, given in their order.
#[derive(Debug)]
pub struct Proof(Hmac<Sha256>);

impl Proof {
    pub fn new(nonce: &Nonce) -> Self {
        // A block long, so that HMAC takes it as it is and cannot fail.
        let mut key = [0; 64];
        for (place, byte) in key.iter_mut().zip(nonce) {
            *place = *byte;
        }
        Self(Hmac::new(&key.into()))
    }

    pub fn update(&mut self, piece: &Piece, bytes: &[u8]) {
        self.0.update(&piece.at.to_le_bytes());
        self.0.update(&piece.length.to_le_bytes());
        self.0.update(bytes);
    }

    /// 64 hexadecimal digits.
    pub fn finish(self) -> String {
        hex(&self.0.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::{Chunk, Sha};
    use proptest::prelude::*;

    fn manifest(raw_bytes: u64, data: impl Fn(usize) -> bool) -> Manifest {
        let chunk = Chunk { packed: Sha([1; 32]), packed_bytes: 9, raw: Sha([2; 32]) };
        let count = usize::try_from(raw_bytes.div_ceil(1 << 20)).unwrap();
        let chunks = (0..count).map(|n| data(n).then_some(chunk)).collect();
        Manifest { raw_bytes, chunk_bytes: 1 << 20, chunks }
    }

    #[test]
    fn data_and_holes_are_asked_for_and_another_nonce_asks_for_others() {
        let manifest = manifest(100 << 20, |n| n % 3 == 0);
        let drawn = pieces(&[1; 32], &manifest, 200 << 20);
        assert_eq!(drawn.len(), DATA_PIECES + HOLE_PIECES + 2);
        let data = drawn.iter().filter(|p| p.chunk % 3 == 0).count();
        assert_eq!(data, DATA_PIECES + 2);
        assert_eq!((drawn[0].chunk, drawn[1].chunk), (3, 99), "the first and the last with data");
        assert_eq!(drawn, pieces(&[1; 32], &manifest, 200 << 20));
        assert_ne!(drawn, pieces(&[2; 32], &manifest, 200 << 20));
        assert_eq!(pieces(&[1; 32], &self::manifest(1 << 20, |_| true), 200 << 20), []);
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..60 {
            seen.extend(pieces(&[n; 32], &manifest, 200 << 20).iter().map(|p| p.chunk));
        }
        assert!(seen.len() > 95, "{} of 99 chunks were ever asked for", seen.len());
    }

    #[test]
    fn one_byte_one_place_and_the_nonce_change_the_proof() {
        let piece = Piece { chunk: 0, at: 4096, length: 4 };
        let of = |nonce, piece: &Piece, bytes: &[u8]| {
            let mut proof = Proof::new(&nonce);
            proof.update(piece, bytes);
            proof.finish()
        };
        let right = of([1; 32], &piece, b"abcd");
        assert_eq!(right.len(), 64);
        assert_ne!(right, of([2; 32], &piece, b"abcd"));
        assert_ne!(right, of([1; 32], &piece, b"abce"));
        assert_ne!(right, of([1; 32], &Piece { at: 8192, ..piece }, b"abcd"));
    }

    proptest! {
        /// Every piece lies in its chunk, between the ends, on whole sectors.
        #[test]
        fn pieces_are_where_they_may_be(raw in 1u64..40 << 20, more in 0u64..9 << 20, seed: u8, data: u8) {
            let disk = (raw + more).next_multiple_of(4096);
            let manifest = manifest(raw, |n| (data >> (n % 8)) & 1 == 1);
            for piece in pieces(&[seed; 32], &manifest, disk) {
                let (at, length) = manifest.place(piece.chunk);
                prop_assert!(piece.length > 0 && piece.at % 4096 == 0 && piece.length % 4096 == 0);
                prop_assert!(piece.at >= at && piece.at + piece.length <= at + length as u64);
                prop_assert!(piece.at >= END_BYTES && piece.at + piece.length <= disk - END_BYTES);
            }
        }
    }
}
