//! The proxy, over real sockets: raw requests and real clients on one side, real and broken servers on the other.
#![allow(clippy::unwrap_used)]

mod access;
mod framing;
mod hosts;
mod pages;
mod pool;
mod stage;
mod streams;
mod tls;
mod wake;
