//! Where URLs that somebody declared may lead (images, registries, TUF repositories, webhooks, clusters): the rules
//! ([`rules`], pure), and HTTP that connects only to addresses which were checked ([`resolver`], [`client`]).

pub mod client;
pub mod resolver;
pub mod rules;

pub use client::{AskError, Client, shown};
pub use resolver::{Reach, Refused};
pub use rules::{Denied, Rules};
