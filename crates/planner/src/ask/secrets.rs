//! Setting secrets and taking them away: judged by name, project and class. Values never come here.

use super::Desk;
use crate::identity::ProjectName;
use crate::policy::ProjectPolicy;
use crate::secrets::{Place, check_name};

/// # Errors
/// One line: no such project, or a name that no secret may have.
pub(super) fn set(desk: &Desk<'_>, place: &Place) -> Result<String, String> {
    let Place { project, class, name } = place;
    let known = configured(desk, project)?;
    check_name(name).map_err(|why| format!("{name:?} {why}"))?;
    let was_set = known.secrets.get(class).is_some_and(|set| set.contains_key(name));
    let (done, when) = if was_set { ("changed", "; processes get it when they next start") } else { ("set", "") };
    Ok(format!("{name} of {project} is {done} for {class} code{when}"))
}

/// # Errors
/// One line: no such project, or nothing to take away.
pub(super) fn remove(desk: &Desk<'_>, place: &Place) -> Result<String, String> {
    let Place { project, class, name } = place;
    let known = configured(desk, project)?;
    if !known.secrets.get(class).is_some_and(|set| set.contains_key(name)) {
        return Err(format!("{project} has no secret {name:?} for {class} code; see `sidestage secret ls {project}`"));
    }
    Ok(format!("{name} of {project} is not set any more for {class} code"))
}

fn configured<'d>(desk: &'d Desk<'_>, project: &ProjectName) -> Result<&'d ProjectPolicy, String> {
    desk.policy.projects.get(project).ok_or_else(|| format!("no project {project} in the configuration"))
}
