//! The words that server, agent and CLI exchange: identities, the hardware report, orders, progress, and the
//! channel that binds an agent's requests to the key it claimed with. Values in, values out; no sockets, no files.

pub mod channel;
pub mod chunks;
pub mod ids;
pub mod machine;
pub mod order;
pub mod read_back;
pub mod report;
pub mod wipe;

pub use ids::{BootId, Generation, Mac, MachineName};
