//! Tests of this room's `answer`.
