//! Tests of this room's `intake`.
