//! The core in a hostile world, seed by seed: nothing is random but by the seed, and no clock is real.
//!
//! `world` holds engine, PostgreSQL and object store; `calls` lets calls go wrong; `forge` holds repositories; `acts` is what
//! people do and what befalls the world; `run` executes the core's steps, and dies in between; `oracle` judges every step.
//! Depends on `planner` and the standard library only, so that the mutants can be built with it quickly; `driver` is the one exception.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, missing_docs)]

mod acts;
pub mod calls;
pub mod forge;
pub mod oracle;
pub mod rng;
pub mod run;
pub mod runner;
pub mod scenes;
pub mod settings;
mod story;
pub mod world;

#[cfg(test)]
pub mod driver;
#[cfg(test)]
mod seeds;
