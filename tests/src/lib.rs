//! One test package, one binary: stories, simulation, conformance, real services, browser.
//!
//! Real parts need what `cargo xtask test` sets up: a container engine, PostgreSQL's binaries, git, a browser.
#![cfg(test)]
#![allow(clippy::unwrap_used)]

mod any_ref;
mod applications;
mod arrows;
mod bad_input;
mod baselines;
mod browser;
mod canary;
mod cli;
mod config;
mod conformance;
mod console;
mod data_stories;
mod dns;
mod docker;
mod fakehub;
mod fakehub_itself;
mod git;
mod github;
mod housekeeping;
mod https;
mod hub_demo;
mod hub_stories;
mod inside;
mod kit;
mod manifest;
mod mutants;
mod names;
mod objects;
mod planner_properties;
mod planner_stories;
mod postgres;
mod proxy;
mod recovery;
mod reload;
mod secrets;
mod simulation;
mod stage;
mod start;
mod store;
mod story;
mod veil;
