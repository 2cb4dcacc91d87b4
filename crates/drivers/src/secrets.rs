//! Values of projects' secrets, as they are now: for whoever creates containers, builds images or shows logs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use planner::identity::ProjectName;
use planner::secrets::SecretClass;

/// All values of one project and class, by name.
pub type Values = Arc<BTreeMap<String, String>>;

/// Values by project and class. Cheap to clone; all clones are one. Whoever keeps the vault sets them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<BTreeMap<(ProjectName, SecretClass), Values>>>);

impl Secrets {
    /// All that is set for this class of code; empty if nothing is.
    #[must_use]
    pub fn of(&self, project: &ProjectName, class: SecretClass) -> Values {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&(project.clone(), class)).cloned().unwrap_or_default()
    }

    /// Puts these in the place of all that there were.
    pub fn set(&self, project: &ProjectName, class: SecretClass, values: BTreeMap<String, String>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert((project.clone(), class), Arc::new(values));
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}
