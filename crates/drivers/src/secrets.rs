//! Values of projects' secrets, as they are now: for whoever creates containers, builds images or shows logs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use planner::identity::{ProjectName, Trust};
use planner::secrets::SecretClass;
use planner::spec::Origin;

use crate::Veil;

/// All values of one project and class, by name.
pub type Values = Arc<BTreeMap<String, String>>;

/// Values by project and class. Cheap to clone; all clones are one. Whoever keeps the vault sets them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<BTreeMap<(ProjectName, SecretClass), Held>>>);

#[derive(Default)]
struct Held {
    values: Values,
    /// What a log may hold: the values, and former ones, with which something may have been created that still runs.
    hidden: BTreeSet<String>,
    veil: Veil,
}

impl Secrets {
    /// All that is set for this class of code; empty if nothing is.
    #[must_use]
    pub fn of(&self, project: &ProjectName, class: SecretClass) -> Values {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&(project.clone(), class)).map(|held| held.values.clone()).unwrap_or_default()
    }

    /// What hides the values that code of this commit may know. Those of the other class are not hidden: by what is, it could
    /// find out what they are.
    #[must_use]
    pub fn veil(&self, of: &Origin) -> Veil {
        self.veil_of(&of.project, of.trust)
    }

    /// As [`Secrets::veil`], of any commit at this trust.
    #[must_use]
    pub fn veil_of(&self, project: &ProjectName, trust: Trust) -> Veil {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&(project.clone(), SecretClass::of(trust))).map(|held| held.veil.clone()).unwrap_or_default()
    }

    /// Puts these in the place of all that there were. Those stay hidden.
    pub fn set(&self, project: &ProjectName, class: SecretClass, values: BTreeMap<String, String>) {
        self.change(project, class, |held| {
            held.hidden.extend(values.values().cloned());
            held.values = Arc::new(values);
        });
    }

    /// Hides these too.
    pub fn hide(&self, project: &ProjectName, class: SecretClass, former: impl IntoIterator<Item = String>) {
        self.change(project, class, |held| held.hidden.extend(former));
    }

    fn change(&self, project: &ProjectName, class: SecretClass, change: impl FnOnce(&mut Held)) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry((project.clone(), class)).or_default();
        change(held);
        held.veil = Veil::over(held.hidden.iter().map(String::as_str));
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}
