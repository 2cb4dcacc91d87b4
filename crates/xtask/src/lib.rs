//! Set-up, demo, test, check and bench for whoever works on Sidestage. `cargo xtask` lists what it can do.

pub mod arrows;
pub mod wheels;
