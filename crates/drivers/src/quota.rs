//! How much of the backends' room is an environment's.

use planner::identity::Trust;

/// How many bytes an environment may have there, by trust; none: any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Of trusted code.
    pub trusted: Option<u64>,
    /// Of foreign code.
    pub foreign: Option<u64>,
}

impl Quota {
    pub(crate) fn of(self, trust: Trust) -> Option<u64> {
        if trust.is_foreign() { self.foreign } else { self.trusted }
    }
}
