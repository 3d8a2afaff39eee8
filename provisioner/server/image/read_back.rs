//! What a disk with an image on it must answer to a challenge, made of the chunks that are here.

use super::chunks::ChunkStore;
use provisioner_wire::{
    chunks::Sha,
    read_back::{Nonce, Piece, Proof, pieces},
};
use std::{fs, io};

/// The proof that a disk of `disk_bytes` with the image of `root` gives. Unpacks at most one chunk a piece; blocks.
pub fn expected(store: &ChunkStore, root: &Sha, nonce: &Nonce, disk_bytes: u64) -> io::Result<String> {
    let manifest = store.manifest(root)?;
    let mut unpacker = zstd::bulk::Decompressor::new()?;
    let mut raw = Vec::with_capacity(manifest.chunk_bytes as usize);
    let zeros = vec![0; usize::try_from(provisioner_wire::read_back::PIECE_BYTES).unwrap_or(0)];
    let mut proof = Proof::new(nonce);
    for piece in pieces(nonce, &manifest, disk_bytes) {
        let Some(chunk) = manifest.chunks.get(piece.chunk) else { continue };
        let Some(chunk) = chunk else {
            proof.update(&piece, part(&zeros, piece.at, &piece)?);
            continue;
        };
        let packed = fs::read(store.chunk_file(&chunk.packed))?;
        raw.clear();
        unpacker.decompress_to_buffer(&packed, &mut raw)?;
        // The name of a chunk is what it was kept under; this is what the disk is held to.
        if Sha::of(&raw) != chunk.raw {
            return Err(io::Error::other(format!("the chunk {} is damaged", chunk.packed)));
        }
        proof.update(&piece, part(&raw, manifest.place(piece.chunk).0, &piece)?);
    }
    Ok(proof.finish())
}

/// What of `bytes`, which begin at `start`, is the piece.
fn part<'b>(bytes: &'b [u8], start: u64, piece: &Piece) -> io::Result<&'b [u8]> {
    let from = usize::try_from(piece.at.saturating_sub(start)).ok();
    let length = usize::try_from(piece.length).ok();
    let found = from.zip(length).and_then(|(from, length)| bytes.get(from..from.checked_add(length)?));
    found.ok_or_else(|| io::Error::other("a piece lies outside its chunk"))
}
