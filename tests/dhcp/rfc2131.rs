//! RFC 2131 and its companions, in whole packets: one named test for each rule that the unit tests do not have.
