//! sidestage

pub mod cli;
