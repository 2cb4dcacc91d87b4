//! The fake GitHub, judged.
