//! The in-RAM installer. It boots on a machine, shows the server its hardware and its claim, and then does what it is
//! ordered to, one step at a time: wipe, write an image, place a config, reboot. Synchronous; threads only where an
//! image streams. The story is [`run`]; everything else is one room of it.

pub mod boot;
pub mod cmdline;
pub mod disk;
pub mod hardware;
pub mod image;
pub mod log;
pub mod network;
pub mod patience;
pub mod place;
pub mod report;
pub mod run;
pub mod server;
