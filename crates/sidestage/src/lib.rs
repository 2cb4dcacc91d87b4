//! Remembers and runs: configuration, store, executing the core, command line, wiring.
//!
//! | file | what lives there |
//! |---|---|
//! | `config`, `state_dir`, `store`, `vault`, `clock` | what the operator decided, and what this instance remembers |
//! | `setup` | what the operator changes while everything runs |
//! | `controller` | the loop that steps the core and does what it says |
//! | `calls`, `listings`, `forges`, `watch`, `logs` | its hands: calls to drivers, listings, forges, logs |
//! | `housekeeping` | deletes our own files that nobody needs any more |
//! | `inside`, `databases` | what people and clocks run once inside environments |
//! | `instance`, `world`, `certificate`, `bind`, `teardown` | wiring, what is outside, listeners, and taking everything away again |
//! | `connecting` | making a GitHub App, and looking what a connection lacks |
//! | `notify` | the socket for hooks |
//! | `storage` | the file in which clones share their blocks |
//! | `cli`, `demo` | the command line, and the demo with its story |

mod bind;
mod calls;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
mod connecting;
mod controller;
mod databases;
pub mod demo;
pub mod forges;
pub mod housekeeping;
pub mod inside;
pub mod instance;
mod listings;
mod logs;
pub mod notify;
mod setup;
pub mod state_dir;
pub mod storage;
pub mod store;
mod teardown;
pub mod vault;
mod watch;
mod world;
