//! OS images: where a declared one is, whether it is what was declared, and what an agent is told of it.
//!
//! In: an [`ImageDeclaration`](crate::inventory::ImageDeclaration) and the images folder. Out: a [`VerifiedImage`],
//! which only [`verify`] makes; from it the wire's `Image` and the file to serve under its hash.

mod cache;
mod format;
mod library;
mod verify;

pub use format::detect;
pub use library::Library;
pub use verify::{ImageError, Images, VerifiedImage};
