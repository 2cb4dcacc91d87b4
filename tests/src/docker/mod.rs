//! The container engine's driver against a real engine.
#![allow(clippy::unwrap_used)]

mod bodies;
mod builds;
mod containers;
mod engine;
mod jobs;
mod networks;
mod oneoffs;
mod services;
