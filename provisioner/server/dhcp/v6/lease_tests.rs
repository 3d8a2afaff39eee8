//! Tests of this room's `lease`.
