//! The answer to the server's challenge: the pieces that its nonce names, read from the medium.

use super::{buffer::Aligned, device::Device};
use provisioner_wire::{
    chunks::Manifest,
    read_back::{Nonce, PIECE_BYTES, Proof, pieces},
};
use std::io;

/// What [`provisioner_wire::order::ShowReadBack`] carries.
pub fn proof(device: &mut dyn Device, manifest: &Manifest, nonce: &Nonce) -> io::Result<String> {
    device.drop_cache()?;
    let mut buffer = Aligned::new(usize::try_from(PIECE_BYTES).unwrap_or(0));
    let mut proof = Proof::new(nonce);
    for piece in pieces(nonce, manifest, device.size()) {
        let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
        let room = buffer.room().get_mut(..length).ok_or(io::ErrorKind::InvalidInput)?;
        device.read_at(room, piece.at)?;
        proof.update(&piece, room);
    }
    Ok(proof.finish())
}
