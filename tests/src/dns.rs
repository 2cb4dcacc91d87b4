//! The authority for the zone, over real sockets: equal to knot's answers, and right where knot does otherwise.
#![allow(clippy::unwrap_used)]

mod answers;
mod knot;
mod server;
