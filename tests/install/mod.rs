//! The real agent, in this process, on a made machine (a tree of files, a file as disk), against a server that lies.
//! Whatever happens on the wire, the disk ends byte-identical, or the agent says why not and the disk cannot boot.

mod bodies;
mod caches;
mod chunks;
mod cuts;
pub mod machine;
mod server;
mod talk;
