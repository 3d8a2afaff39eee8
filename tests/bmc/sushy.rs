//! sushy
