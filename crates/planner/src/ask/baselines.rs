//! What admins ask of baselines.

use crate::command::{Actor, BaselineAct, Creation};
use crate::decide::baselines::{next_due, resolved, users, version_of};
use crate::facts::{BaselineRow, DEFAULT, EMPTY_NAME, Facts, Recipe, Stand, parse_version, version_name};
use crate::identity::Trust;
use crate::manifest::{Manifest, check_schedule};
use crate::resource::{Owner, ResourceId};
use crate::spec::{DatabaseFrom, ObjectsFrom};

use super::Desk;

/// Judges what is asked of a baseline, and writes it down.
pub(super) fn act(desk: &mut Desk<'_>, actor: &Actor, name: &str, act: &BaselineAct) -> Result<String, String> {
    match act {
        BaselineAct::Create(creation) => create(desk, actor, name, creation),
        BaselineAct::Refresh => refresh(desk, actor, name),
        BaselineAct::Use(number) => take(desk, name, *number),
        BaselineAct::Remove(None) => remove(desk, name),
        BaselineAct::Remove(Some(number)) => remove_version(desk, name, *number),
    }
}

fn create(desk: &mut Desk<'_>, actor: &Actor, name: &str, creation: &Creation) -> Result<String, String> {
    if name == EMPTY_NAME {
        return Err(format!("{EMPTY_NAME} is the baseline without anything in it; choose another name"));
    }
    if !Manifest::is_baseline_name(name) {
        return Err(format!(
            "{name:?} is no possible name of a baseline: a-z, 0-9 and single inner hyphens, a letter first"
        ));
    }
    let Creation { recipe, every, max_shrink } = creation;
    check(desk, recipe)?;
    if let Some(every) = every {
        check_schedule(every).map_err(|why| format!("--every {every:?} {why}"))?;
    }
    if *max_shrink > 100 {
        return Err(format!("--max-shrink {max_shrink}% is more than there is; at most 100%"));
    }
    let mut row = desk.facts.baselines.get(name).cloned().unwrap_or_else(|| BaselineRow::new(name));
    not_under_way(desk, &row)?;
    let begun = resolved(recipe.clone(), desk.facts)?;
    (row.recipe, row.every, row.max_shrink) = (Some(recipe.clone()), every.clone(), *max_shrink);
    (row.due, row.trouble, row.removed) = (next_due(every.as_deref(), desk.now), None, None);
    Ok(begin(desk, actor, row, begun))
}

/// Files are named in full, no password stands in a URL, and environments are those of the project's own code.
fn check(desk: &Desk<'_>, recipe: &Recipe) -> Result<(), String> {
    let absolute = |what: &str, path: &std::path::Path| {
        let text = path.display();
        if path.is_absolute() { Ok(()) } else { Err(format!("{what} {text} must be an absolute path")) }
    };
    match &recipe.database {
        DatabaseFrom::Empty => {}
        DatabaseFrom::File(path) => absolute("--database", path)?,
        DatabaseFrom::Server { url, password_file } => {
            check_url(url)?;
            password_file.iter().try_for_each(|path| absolute("--password-file", path))?;
        }
        DatabaseFrom::Env(id) => own(desk.facts, id)?,
    }
    match &recipe.objects {
        ObjectsFrom::Empty => {}
        ObjectsFrom::Folder(path) => absolute("--objects", path)?,
        ObjectsFrom::Bucket { credentials_file, .. } => {
            credentials_file.iter().try_for_each(|path| absolute("--credentials-file", path))?;
        }
        ObjectsFrom::Env(id) => own(desk.facts, id)?,
    }
    recipe.mask.iter().try_for_each(|path| absolute("--mask", path))?;
    if recipe.mask.is_some() && recipe.database == DatabaseFrom::Empty {
        return Err("--mask masks a database, and none is given; add --database".to_owned());
    }
    match recipe.extensions.iter().find(|name| !desk.policy.extensions.contains(*name)) {
        Some(name) => {
            Err(format!("--extensions: {name} is not on the list `[database] extensions` of the configuration"))
        }
        None => Ok(()),
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
    let rest = rest.ok_or("--database: a server is named as postgresql://user@host:port/database")?;
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if user.contains(':') || rest.contains("password=") {
        return Err(
            "--database: the URL holds a password, which listings would show; put it into a file of mode 0600 \
                    and name that with --password-file"
                .to_owned(),
        );
    }
    Ok(())
}

/// Data of foreign code becomes nobody's baseline.
fn own(facts: &Facts, id: &ResourceId) -> Result<(), String> {
    let Owner::Env(env) = &id.owner else { return Err("a baseline is made from an environment's data".to_owned()) };
    let row = facts.envs.get(env).ok_or("there is no such environment")?;
    if row.of.trust == Trust::Trusted {
        Ok(())
    } else {
        Err(format!(
            "{} comes from outside: a baseline is made from data of the project's own code",
            row.of.sha.short()
        ))
    }
}

fn not_under_way(desk: &Desk<'_>, row: &BaselineRow) -> Result<(), String> {
    let Some((number, _)) = row.making() else { return Ok(()) };
    let version = version_name(&row.name, number);
    let owner = Owner::Baseline(version.clone());
    if desk.ledger.failures().any(|failed| failed.id.owner == owner && failed.permanent) {
        return Ok(());
    }
    Err(format!("{version} is being made; wait for it, or stop it with `sidestage baseline rm {} {number}`", row.name))
}

fn begin(desk: &mut Desk<'_>, actor: &Actor, mut row: BaselineRow, recipe: Recipe) -> String {
    let number = row.begin(recipe, Some(actor.name.clone()), desk.now);
    let said = format!("{} is being made", version_name(&row.name, number));
    desk.facts.put_baseline(row);
    said
}

fn known(facts: &Facts, name: &str) -> Result<BaselineRow, String> {
    let row = facts.baselines.get(name).filter(|row| row.removed.is_none()).cloned();
    row.ok_or_else(|| match name {
        DEFAULT | EMPTY_NAME => {
            format!("{name} is empty; an admin fills `default` with `sidestage baseline create default`")
        }
        _ => format!("there is no baseline {name:?}; `sidestage baseline ls` lists them"),
    })
}

fn refresh(desk: &mut Desk<'_>, actor: &Actor, name: &str) -> Result<String, String> {
    let row = known(desk.facts, name)?;
    not_under_way(desk, &row)?;
    let recipe = row.recipe.clone().ok_or_else(|| {
        format!("nobody knows what {name} was made from, since the store was lost; say so with `sidestage baseline create {name}`")
    })?;
    check(desk, &recipe)?;
    let recipe = resolved(recipe, desk.facts)?;
    Ok(begin(desk, actor, row, recipe))
}

fn take(desk: &mut Desk<'_>, name: &str, number: u32) -> Result<String, String> {
    let mut row = known(desk.facts, name)?;
    let said = format!("new generations start from {}", version_name(name, number));
    if name == DEFAULT && number == 1 {
        (row.before, row.current) = (row.current, None);
        desk.facts.put_baseline(row);
        return Ok(format!("{said}, which is empty"));
    }
    let version = row.versions.get_mut(&number).ok_or_else(|| unknown(name, number))?;
    if version.sealed.is_none() {
        return Err(format!("{} is not complete", version_name(name, number)));
    }
    version.stand = Stand::Sealed;
    row.take(number);
    desk.facts.put_baseline(row);
    Ok(said)
}

fn unknown(name: &str, number: u32) -> String {
    format!("there is no version {}; `sidestage baseline show {name}` lists them", version_name(name, number))
}

/// Data that an environment began with, or still reads, is not dropped.
fn unused(desk: &Desk<'_>, version: &str) -> Result<(), String> {
    let users = users(desk.facts, desk.inventory, version);
    if users.is_empty() {
        return Ok(());
    }
    let names = users
        .iter()
        .filter_map(|env| desk.facts.envs.get(*env))
        .map(|row| format!("{} {}", row.of.project, row.of.sha.short()));
    let names: Vec<String> = names.take(3).collect();
    let names = if names.is_empty() { String::new() } else { format!(", {} among them", names.join(", ")) };
    Err(format!("{version} is used by {} environments{names}; reset or remove them first", users.len()))
}

fn remove(desk: &mut Desk<'_>, name: &str) -> Result<String, String> {
    let mut row = known(desk.facts, name)?;
    row.versions.keys().try_for_each(|number| unused(desk, &version_name(name, *number)))?;
    row.versions.clear();
    (row.recipe, row.every, row.due, row.trouble) = (None, None, None, None);
    (row.current, row.before, row.removed) = (None, None, Some(desk.now));
    desk.facts.put_baseline(row);
    Ok(format!("{name} is being removed"))
}

fn remove_version(desk: &mut Desk<'_>, name: &str, number: u32) -> Result<String, String> {
    let mut row = known(desk.facts, name)?;
    let version = version_name(name, number);
    if !row.versions.contains_key(&number) {
        return Err(unknown(name, number));
    }
    if row.current == Some(number) {
        return Err(format!(
            "{version} is the current one; take another with `sidestage baseline use {name} VERSION`, or remove all with `sidestage baseline rm {name}`"
        ));
    }
    unused(desk, &version)?;
    row.drop_version(number);
    desk.facts.put_baseline(row);
    Ok(format!("{version} is being removed"))
}

/// Whether a commit of this trust may be reset to that baseline, or version of one.
pub(super) fn choosable(desk: &Desk<'_>, of: &crate::spec::Origin, wanted: &str) -> Result<(), String> {
    let project = desk.policy.projects.get(&of.project);
    let project = project.ok_or_else(|| format!("{} is not in the configuration", of.project))?;
    let version = version_of(desk.facts, wanted)?;
    let name = if version == crate::facts::EMPTY {
        EMPTY_NAME
    } else {
        parse_version(&version).map_or(wanted, |(name, _)| name)
    };
    if of.trust.is_foreign() && name != project.fork_baseline {
        return Err(format!("foreign code of {} starts from {} only", of.project, project.fork_baseline));
    }
    if of.trust.is_foreign() { Ok(()) } else { crate::blueprint::may_name(project, name) }
}
