//! Tests of this room's `client`.
