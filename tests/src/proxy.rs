//! The proxy, over real sockets: raw requests and real clients on one side, real and broken servers on the other.
#![allow(clippy::unwrap_used)]

mod access;
mod framing;
mod hosts;
mod pages;
mod pool;
pub(crate) mod stage;
mod streams;
pub(crate) mod tls;
mod wake;
