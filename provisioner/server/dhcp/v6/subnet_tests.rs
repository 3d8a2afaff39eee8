//! Tests of this room's `subnet`.
