//! The mutants, by the rules that they break.

/// One broken rule.
pub(super) struct Mutant {
    /// What is broken.
    pub(super) name: &'static str,
    /// The rule's number, as `invariants` of the planner count them.
    pub(super) rule: &'static str,
    /// File below `crates/planner/src`.
    pub(super) file: &'static str,
    /// Text that is there exactly once.
    pub(super) find: &'static str,
    /// What stands there instead: `MUTANT` is true when this one is switched on.
    pub(super) with: &'static str,
    /// Seeds that caught it before; they are played first.
    pub(super) seeds: &'static [u64],
}

pub(super) const MUTANTS: &[Mutant] = &[];
