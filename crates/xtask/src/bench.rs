//! Measures.
use anyhow::{Result, bail};
pub(crate) fn named(_: &[String]) -> Result<()> {
    bail!("to come")
}
