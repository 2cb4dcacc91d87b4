//! Decides. Types and pure functions: what should exist, what does, and the next step from one to the other.
//!
//! No async, no I/O, no clock, no randomness: time, policy and the instance key are arguments.
//! `Core::step` is the whole product as one value; everything else in this crate is what it is made of.

pub mod announce;
mod ask;
pub mod blueprint;
pub mod command;
pub mod core;
pub mod decide;
pub mod desired;
pub mod event;
pub mod facts;
pub mod fingerprint;
pub mod forge;
mod heads;
pub mod hosts;
pub mod identity;
pub mod injected;
pub mod interpolate;
pub mod keeps;
pub mod ledger;
pub mod manifest;
pub mod names;
pub mod oneoff;
pub mod plan;
pub mod policy;
pub mod report;
pub mod resource;
pub mod routes;
pub mod secrets;
pub mod sleep;
pub mod spec;
pub mod standing;
pub mod tables;
pub mod units;
pub mod view;
pub mod zone;
