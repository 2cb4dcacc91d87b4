//! The container engine's driver against a real engine.
#![allow(clippy::unwrap_used)]

mod bodies;
mod buildkit;
mod builds;
mod containers;
mod disk;
mod engine;
mod jobs;
mod networks;
mod oneoffs;
mod registries;
mod registry;
mod services;
mod volumes;
