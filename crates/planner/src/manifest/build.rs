//! `[build]`: where an image comes from.

use super::reference;
use super::section::{Entry, Place, Section, shown};
use super::template::{Args, check_name, check_secret};
use super::{BuildRecipe, MOST_ITEMS};

/// `[build]`, or the `build` of an application.
pub(super) fn build(entry: Entry<'_>, args: &Args) -> Result<BuildRecipe, String> {
    let mut section = entry.section(r#"[build] with dockerfile = "Dockerfile""#)?;
    let mut recipe = BuildRecipe { image: image(&mut section)?, ..BuildRecipe::default() };
    if let Some(entry) = section.take("dockerfile") {
        let place = entry.place.clone();
        recipe.dockerfile = relative(entry)?;
        if recipe.dockerfile == "." {
            return Err(place.error("must name a file"));
        }
    }
    if let Some(entry) = section.take("context") {
        recipe.context = relative(entry)?;
    }
    recipe.target = section.take("target").map(target).transpose()?;
    if let Some(entry) = section.take("args") {
        for (name, (place, value)) in entry.strings(r#"{ NODE_ENV = "staging" }"#)? {
            check_name(&place, &name)?;
            args.check(&place, &value)?;
            recipe.args.insert(name, value);
        }
    }
    recipe.secrets = section.take("secrets").map(secrets).transpose()?.unwrap_or_default();
    section.finish()?;
    Ok(recipe)
}

/// `image = "ghcr.io/acme/shop:sha-{short_sha}"`, by CI.
pub(super) fn image(section: &mut Section<'_>) -> Result<Option<String>, String> {
    let Some(entry) = section.take("image") else { return Ok(None) };
    let (place, template) = entry.string()?;
    reference::check(&template).map_err(|why| place.error(why))?;
    Ok(Some(template))
}

fn target(entry: Entry<'_>) -> Result<String, String> {
    let (place, target) = entry.string()?;
    let fits = !target.is_empty() && target.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !fits || target.len() > 128 {
        return Err(place.error(format!("must be the name of a stage of the Dockerfile, not {}", shown(&target))));
    }
    Ok(target)
}

/// Names of secrets, each once.
fn secrets(entry: Entry<'_>) -> Result<Vec<String>, String> {
    let place = entry.place.clone();
    let mut names = Vec::new();
    for (place, name) in entry.list(r#"["NPM_TOKEN"]"#)? {
        check_secret(&place, &name)?;
        if names.contains(&name) {
            return Err(place.error(format!("holds {name} twice; remove one")));
        }
        names.push(name);
    }
    few(&place, names.len())?;
    Ok(names)
}

/// No endless lists.
pub(super) fn few(place: &Place, count: usize) -> Result<(), String> {
    if count <= MOST_ITEMS {
        return Ok(());
    }
    Err(place.error(format!("holds {count} items, and at most {MOST_ITEMS} are possible")))
}

/// A path within the tree, in normal form; `.` is its root.
fn relative(entry: Entry<'_>) -> Result<String, String> {
    let (place, path) = entry.string()?;
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let leaves = path.starts_with('/') || parts.contains(&"..");
    if path.is_empty() || path.len() > 1024 || leaves || path.contains(char::is_control) {
        return Err(place.error(format!("must be a path within the repository, without `..`, not {}", shown(&path))));
    }
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}
