//! One test package, one binary: stories, simulation, conformance, real services, browser.
//!
//! Real parts need what `cargo xtask test` sets up: a container engine, PostgreSQL's binaries, git, a browser.
#![allow(clippy::unwrap_used)]

#[cfg(test)]
mod any_ref;
#[cfg(test)]
mod applications;
#[cfg(test)]
mod arrows;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod baselines;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod config;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod console;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod docker;
pub mod fakehub;
#[cfg(test)]
mod fakehub_itself;
#[cfg(test)]
mod git;
#[cfg(test)]
mod github;
#[cfg(test)]
mod housekeeping;
#[cfg(test)]
mod https;
#[cfg(test)]
mod hub_stories;
#[cfg(test)]
mod inside;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod names;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod planner_properties;
#[cfg(test)]
mod planner_stories;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod start;
#[cfg(test)]
mod store;
#[cfg(test)]
mod story;
#[cfg(test)]
mod veil;
