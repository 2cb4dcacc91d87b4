//! `secret`: what projects' processes know and no repository holds.

use std::io::{Read, Write};

use clap::{Args, Subcommand};
use planner::secrets::{SecretClass, SecretView};
use serde_json::{Value, json};

use super::client::{Client, segment};
use super::{Failed, Screen, print_json, say};
use crate::clock::now;

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Set a secret; its value comes from standard input: `secret set shop NPM_TOKEN < token`
    Set(One),
    /// List what is set, never with values
    Ls(Ls),
    /// Take a secret away
    Rm(One),
}

/// One secret.
#[derive(Debug, Args)]
pub struct One {
    /// The project
    project: String,
    /// The variable
    name: String,
    /// For which code: the project's own, or approved code from outside (a dummy)
    #[arg(long = "for", value_name = "CLASS", default_value = "trusted", value_parser = class)]
    class: SecretClass,
}

/// Options of `secret ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// The project
    project: String,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

fn class(word: &str) -> Result<SecretClass, String> {
    let classes = [SecretClass::Trusted, SecretClass::Foreign];
    let known = classes.into_iter().find(|class| class.as_str() == word);
    known.ok_or_else(|| "it is `trusted` or `foreign`".to_owned())
}

pub(super) async fn run(client: &Client, secret: Secret, screen: &mut Screen) -> Result<(), Failed> {
    match secret {
        Secret::Set(one) => {
            let value = read(&one.name, screen)?;
            let change = json!({ "do": "set", "name": one.name, "for": one.class, "value": value });
            change_it(client, &one.project, &change, screen).await
        }
        Secret::Rm(one) => {
            let change = json!({ "do": "remove", "name": one.name, "for": one.class });
            change_it(client, &one.project, &change, screen).await
        }
        Secret::Ls(ls) => list(client, &ls, screen).await,
    }
}

fn path(project: &str) -> String {
    format!("/api/v1/projects/{}/secrets", segment(project))
}

async fn change_it(client: &Client, project: &str, change: &Value, screen: &mut Screen) -> Result<(), Failed> {
    let answer: Value = client.post(&path(project), change).await?;
    say(screen, answer["ok"].as_str().unwrap_or_default())
}

async fn list(client: &Client, ls: &Ls, screen: &mut Screen) -> Result<(), Failed> {
    let answer: Value = client.get(&path(&ls.project)).await?;
    if ls.json {
        return print_json(screen, &answer);
    }
    let secrets: Vec<SecretView> =
        serde_json::from_value(answer["secrets"].clone()).map_err(|error| Failed::Refused(error.to_string()))?;
    if secrets.is_empty() {
        return say(
            screen,
            &format!("{} has no secrets; `sidestage secret set {} NAME` sets one", ls.project, ls.project),
        );
    }
    let longest = secrets.iter().map(|secret| secret.name.len()).max().unwrap_or(0);
    for SecretView { name, class, by, at } in secrets {
        let when = console::text::relative(now(), at);
        writeln!(screen.out, "{name:<longest$}  {class:<7}  {by}, {when}")?;
    }
    Ok(())
}

/// The value: asked for on a terminal, without showing it, else all that comes in. One newline at its end is not part of it.
fn read(name: &str, screen: &mut Screen) -> Result<String, Failed> {
    if screen.terminal {
        write!(screen.err, "value of {name}: ")?;
        screen.err.flush()?;
        return Ok(term::Term::stderr().read_secure_line()?);
    }
    let mut bytes = Vec::new();
    if let Some(input) = &mut screen.input {
        // More than the controller takes.
        input.take(1 << 20).read_to_end(&mut bytes).map_err(|error| Failed::Usage(format!("no value: {error}")))?;
    }
    let text = String::from_utf8(bytes).map_err(|_| Failed::Usage("the value is not UTF-8 text".to_owned()))?;
    let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if value.is_empty() {
        let usage = format!("no value came in; pipe it in, as in `sidestage secret set shop {name} < file`");
        return Err(Failed::Usage(usage));
    }
    Ok(value.to_owned())
}
