//! Checks of templates at the time of parsing, so that an unknown `${NAME}` is an error with key and line.

use std::collections::BTreeMap;

use super::section::{Place, shown};
use crate::injected;
use crate::interpolate::{Piece, pieces};

/// What templates of one manifest may name.
pub(super) struct Names {
    /// `[database]` is there.
    pub(super) database: bool,
    /// `[objects]` is there.
    pub(super) objects: bool,
    /// Names in `[app]`.
    pub(super) apps: Vec<String>,
}

impl Names {
    /// Of variables and commands: any injected variable, any random part, any secret of the project.
    pub(super) fn check(&self, place: &Place, template: &str) -> Result<(), String> {
        for piece in pieces(template).map_err(|error| place.error(format!("holds {error}")))? {
            if let Piece::Name(name) = piece {
                self.known(name).map_err(|error| place.error(format!("holds `${{{name}}}`, {error}")))?;
            }
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<(), String> {
        let missing = |table| Err(format!("but [{table}] has baseline = false"));
        if injected::DATABASE.contains(&name) {
            return if self.database { Ok(()) } else { missing("database") };
        }
        if injected::OBJECTS.contains(&name) {
            return if self.objects { Ok(()) } else { missing("objects") };
        }
        if injected::GENERAL.contains(&name) {
            return Ok(());
        }
        if injected::LATER.contains(&name) {
            return Err("which is not yet injected".to_owned());
        }
        if injected::is_reserved(name) && !has_app_url(&self.apps, name) {
            return Err(unknown(name, &self.apps));
        }
        // Everything else is a secret; whether it is set is the operator's to say, later.
        match injected::slip(name) {
            Some(near) => Err(format!("which is unknown; did you mean `${{{near}}}`?")),
            None => Ok(()),
        }
    }
}

fn has_app_url(apps: &[String], name: &str) -> bool {
    apps.iter().any(|app| injected::app_url(app) == name)
}

fn unknown(name: &str, apps: &[String]) -> String {
    match injected::nearest(name) {
        Some(near) => format!("which is unknown; did you mean `${{{near}}}`?"),
        None if name.starts_with("STAGING_URL_") && apps.is_empty() => {
            "which is unknown: there is no [app] of that name".to_owned()
        }
        None => format!("which is unknown: known are {}", injected::GENERAL.join(", ")),
    }
}

/// What build arguments may name.
pub(super) struct Args {
    /// Names in `[app]`.
    pub(super) apps: Vec<String>,
}

impl Args {
    /// `STAGING_*` only, since an image remembers its arguments and a tree is built once.
    pub(super) fn check(&self, place: &Place, template: &str) -> Result<(), String> {
        for piece in pieces(template).map_err(|error| place.error(format!("holds {error}")))? {
            let allowed = match piece {
                Piece::Text(_) => true,
                Piece::Name(name) => {
                    name.starts_with("STAGING_") && (injected::GENERAL.contains(&name) || has_app_url(&self.apps, name))
                }
                Piece::Hex(_) | Piece::Base64(_) => false,
            };
            if !allowed {
                return Err(place.error(
                    "may only hold `${STAGING_…}`: an image remembers its build arguments, and a tree is built once",
                ));
            }
        }
        Ok(())
    }
}

/// Whether a secret may be called so.
pub(super) fn check_secret(place: &Place, name: &str) -> Result<(), String> {
    crate::secrets::check_name(name).map_err(|why| place.error(format!("holds {}, which {why}", shown(name))))
}

/// Of notes: entries of `[env]` that are made of random parts only, so that nothing else is ever shown.
pub(super) fn check_note(place: &Place, template: &str, env: &BTreeMap<String, String>) -> Result<(), String> {
    for piece in pieces(template).map_err(|error| place.error(format!("holds {error}")))? {
        let name = match piece {
            Piece::Text(_) => continue,
            Piece::Name(name) => name,
            Piece::Hex(_) | Piece::Base64(_) => {
                return Err(place.error("may not hold a random part itself: put it into [env] and name that entry"));
            }
        };
        let Some(entry) = env.get(name) else {
            return Err(place.error(format!("holds `${{{name}}}`, which is not an entry of [env]")));
        };
        let random = |piece: &Piece<'_>| matches!(piece, Piece::Hex(_) | Piece::Base64(_));
        if !pieces(entry).is_ok_and(|pieces| !pieces.is_empty() && pieces.iter().all(random)) {
            let entry = shown(entry);
            return Err(place.error(format!("shows `${{{name}}}`, which is {entry}; a note may only show entries of [env] made of random parts only, such as \"${{random:12}}\"")));
        }
    }
    Ok(())
}

/// Whether variables and build arguments may be called so.
pub(super) fn check_name(place: &Place, name: &str) -> Result<(), String> {
    let fits = (1..=128).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if fits {
        return Ok(());
    }
    Err(place.error("is no name of a variable: letters, digits, `_`, `.` and `-`, not a digit first"))
}

/// Whether a manifest may set this variable of a container.
pub(super) fn check_variable(place: &Place, name: &str) -> Result<(), String> {
    if name == "PORT" {
        return Err(place.error("cannot be set: it is the manifest's port, `port = …`"));
    }
    if name == "STAGING" || name.starts_with("STAGING_") {
        return Err(place.error("cannot be set: names that begin with STAGING are given by Sidestage"));
    }
    check_name(place, name)
}
