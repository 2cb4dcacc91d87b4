//! Commands in comments on pull requests, and by buttons: the first line, exactly. A refusal is answered once, politely; a
//! command that is carried out is answered by what becomes visible.

use std::time::Duration;

use super::{Desk, Entry, ask};
use crate::announce::{ToldRow, inert};
use crate::command::{Actor, Command, Role};
use crate::facts::EnvRow;
use crate::forge::{Person, Place, Said};
use crate::identity::{ProjectName, Ref, Sha, Trust};
use crate::standing::Standing;
use crate::units::parse_duration;

const HELP: &str = "Commands, as the first line of a comment:\n\n\
| | |\n| --- | --- |\n\
| `/stage` | stages the newest commit; `/stage SHA` another one, all 40 digits |\n\
| `/stage approve SHA` | lets exactly this commit from outside run, and stages it |\n\
| `/stage rebuild` | a new image, built without cache |\n\
| `/stage reset` | new data |\n\
| `/stage extend 3d` | lives at least so much longer |\n\
| `/stage pin` | is kept until somebody unpins it |\n\
| `/stage remove` | removes it |\n";

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Stage(Option<Sha>),
    Approve(Sha),
    Rebuild,
    Reset(Option<String>),
    Extend(Duration),
    Pin,
    Remove,
    Help,
}

/// None: it is no command at all.
fn parse(line: &str) -> Option<Result<Line, String>> {
    let mut words = line.trim_end().split(' ').filter(|word| !word.is_empty());
    if !line.starts_with("/stage") || words.next() != Some("/stage") {
        return None;
    }
    let words: Vec<&str> = words.collect();
    Some(match words[..] {
        [] => Ok(Line::Stage(None)),
        ["approve"] => Err("an approval names its commit, all 40 digits: `/stage approve SHA`".to_owned()),
        ["approve", sha] => full(sha).map(Line::Approve),
        ["rebuild"] => Ok(Line::Rebuild),
        ["reset"] => Ok(Line::Reset(None)),
        ["reset", baseline] => Ok(Line::Reset(Some((*baseline).to_owned()))),
        ["extend", by] => parse_duration(by).map(Line::Extend).map_err(|why| format!("extend {why}")),
        ["extend"] => Err("say by how much: `/stage extend 3d`".to_owned()),
        ["pin"] => Ok(Line::Pin),
        ["remove"] => Ok(Line::Remove),
        ["help"] => Ok(Line::Help),
        [sha] if sha.len() >= 7 && sha.bytes().all(|b| b.is_ascii_hexdigit()) => {
            full(sha).map(|sha| Line::Stage(Some(sha)))
        }
        _ => Err("there is no such command; `/stage help` lists them".to_owned()),
    })
}

fn full(text: &str) -> Result<Sha, String> {
    text.parse().map_err(|_| "a commit is named by all 40 digits: nothing shorter decides anything".to_owned())
}

/// Judges what a person said on the forge. `Ok` with an empty line: it was no command, or one that was judged before.
pub(crate) fn said(mut desk: Desk<'_>, said: &Said, role: Option<Role>) -> Result<String, String> {
    let parsed = match &said.sha {
        Some(sha) if said.comment.is_none() => pressed(&said.line, *sha),
        _ => parse(&said.line),
    };
    let Some(parsed) = parsed else { return Ok(String::new()) };
    let place = said.pull.zip(said.comment).map(|(pull, comment)| Place::Answer(pull, comment));
    let known = |place: &Place| desk.facts.told.contains_key(&(said.project.clone(), place.clone()));
    if place.as_ref().is_some_and(known) {
        return Ok(String::new());
    }
    let actor = Actor { name: name(&said.person), role: role.unwrap_or(Role::Look) };
    let answer = match parsed {
        Ok(Line::Help) => {
            answer(&mut desk, said, place, role, Some(HELP.to_owned()));
            return Ok("told what there is".to_owned());
        }
        Ok(line) => carry_out(&mut desk, said, &actor, line),
        Err(why) => {
            refuse(&mut desk, said, &actor, &why);
            Err(why)
        }
    };
    let polite = answer
        .as_ref()
        .err()
        .map(|why| format!("That cannot be done: {}\n\n<sub>`/stage help` lists the commands.</sub>", polished(why)));
    answer_if(&mut desk, said, place, role, polite);
    answer
}

/// A button stands for its word.
fn pressed(line: &str, sha: Sha) -> Option<Result<Line, String>> {
    match line.trim_start_matches("/stage").split_whitespace().next() {
        Some("approve") => Some(Ok(Line::Approve(sha))),
        Some("rebuild" | "remove" | "extend" | "pin") => None,
        _ => Some(Ok(Line::Stage(Some(sha)))),
    }
}

/// Who it is, for approvals and the audit log: the number decides, the login is for people.
fn name(person: &Person) -> String {
    format!("{} (account {})", person.login, person.id)
}

fn carry_out(desk: &mut Desk<'_>, said: &Said, actor: &Actor, line: Line) -> Result<String, String> {
    let project = said.project.clone();
    let sha = match target(desk, said, &line) {
        Ok(sha) => sha,
        Err(why) => {
            refuse(desk, said, actor, &why);
            return Err(why);
        }
    };
    let staging = matches!(line, Line::Stage(_));
    let command = command(line, project.clone(), sha);
    let Desk { facts, ledger, policy, now, inventory } = desk;
    let waits = staging && {
        let standing = Standing::new(facts, policy, *now);
        standing.commit(&project, &sha).is_some_and(|commit| {
            let foreign = commit.open.iter().any(|(of, _)| of.foreign);
            foreign && !commit.is_own() && standing.trust(commit) == Trust::Untrusted
        })
    };
    let forks = policy.projects.get(&project).is_some_and(|project| project.forks);
    let judged = ask(Desk { facts, ledger, policy, now: *now, inventory }, actor, &command);
    judged.map_err(|why| {
        if waits && forks && actor.role >= Role::Write {
            format!("{} comes from outside, so it needs the line\n\n```text\n/stage approve {sha}\n```", sha.short())
        } else {
            why
        }
    })
}

fn command(line: Line, project: ProjectName, sha: Sha) -> Command {
    match line {
        Line::Approve(_) => Command::Approve { project, sha },
        Line::Rebuild => Command::Rebuild { project, sha },
        Line::Reset(baseline) => Command::Reset { project, sha, baseline },
        Line::Extend(by) => Command::Extend { project, sha, by },
        Line::Pin => Command::Pin { project, sha },
        Line::Remove => Command::Remove { project, sha },
        Line::Stage(_) | Line::Help => Command::Stage { project, sha },
    }
}

/// Which commit is meant: the one that is named, if it is one of this pull request; else the newest that lives, or the head.
fn target(desk: &Desk<'_>, said: &Said, line: &Line) -> Result<Sha, String> {
    let named = match line {
        Line::Stage(sha) => *sha,
        Line::Approve(sha) => Some(*sha),
        _ => None,
    };
    let facts = &desk.facts;
    let Some(pull) = said.pull else {
        let held = |sha: &Sha| facts.ids.contains_key(&(said.project.clone(), *sha));
        return named.filter(held).ok_or_else(|| "no open pull request has this commit".to_owned());
    };
    let row = facts.refs.get(&(said.project.clone(), Ref::Pull(pull))).filter(|row| row.is_open());
    let row = row.ok_or("this pull request is not watched, or it is closed")?;
    if let Some(sha) = named {
        let listed = row.commits.iter().any(|listed| listed.sha == sha);
        let none = || format!("this pull request has never had the commit {sha} while it was watched");
        return listed.then_some(sha).ok_or_else(none);
    }
    let head = row.head().map(|head| head.sha).ok_or("this pull request has no commit")?;
    if matches!(line, Line::Stage(_)) {
        return Ok(head);
    }
    let standing = Standing::new(facts, desk.policy, desk.now);
    let lives = |sha: &Sha| {
        let commit = standing.commit(&said.project, sha);
        commit.is_some_and(|commit| {
            [Trust::Trusted, Trust::Approved]
                .iter()
                .any(|trust| standing.row(commit, *trust).is_some_and(EnvRow::is_live))
        })
    };
    Ok(row.commits.iter().rev().map(|listed| listed.sha).find(lives).unwrap_or(head))
}

/// Written down, as every decision is.
fn refuse(desk: &mut Desk<'_>, said: &Said, actor: &Actor, why: &str) {
    let decision = format!("refused: {why}");
    let what = Some(said.line.chars().take(200).collect());
    let (at, project) = (desk.now, Some(&said.project));
    desk.facts.audit(&Entry {
        at,
        actor: &actor.name,
        role: actor.role,
        verb: "comment",
        what,
        project,
        sha: said.sha.as_ref(),
        decision: &decision,
    });
}

/// The comment was judged. Strangers are answered once in a pull request: an answer is a write, and they have many comments.
fn answer_if(desk: &mut Desk<'_>, said: &Said, place: Option<Place>, role: Option<Role>, text: Option<String>) {
    let answered = desk.facts.told.values().any(|row| {
        let here = matches!(row.place, Place::Answer(pull, _) if Some(pull) == said.pull);
        row.project == said.project && here && row.to == Some(said.person.id) && row.answer.is_some()
    });
    let stranger = role.is_none_or(|role| role < Role::Write);
    answer(desk, said, place, role, text.filter(|_| !(stranger && answered)));
}

fn answer(desk: &mut Desk<'_>, said: &Said, place: Option<Place>, _: Option<Role>, text: Option<String>) {
    let Some(place) = place else { return };
    let shown = text.is_none().then(|| "judged".to_owned());
    let to = Some(said.person.id);
    desk.facts.put_told(ToldRow { shown, answer: text, to, ..ToldRow::new(&said.project, place) });
}

/// A reason as markdown: what it quotes of others is harmless, what is ours stays as it is.
fn polished(why: &str) -> String {
    match why.split_once("\n\n```") {
        Some((line, block)) => format!("{}\n\n```{block}", inert::text(line)),
        None if why.contains('`') => why.to_owned(),
        None => inert::text(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn only_the_first_line_as_it_is_written_here_is_a_command() {
        let good =
            |line: &str| parse(line).unwrap_or_else(|| panic!("{line} is one")).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(good("/stage"), Line::Stage(None));
        assert_eq!(good(&format!("/stage {SHA}")), Line::Stage(SHA.parse().ok()));
        assert!(matches!(good(&format!("/stage approve {SHA}")), Line::Approve(_)));
        assert_eq!(good("/stage extend 3d"), Line::Extend(Duration::from_secs(3 * 24 * 3600)));
        for other in ["> /stage", " /stage", "`/stage`", "/staged", "/stage-it", "please /stage", "", "/Stage"] {
            assert!(parse(other).is_none(), "{other}");
        }
        for refused in ["/stage approve", "/stage approve 01234567", "/stage 0123456", "/stage dance", "/stage extend"]
        {
            assert!(matches!(parse(refused), Some(Err(_))), "{refused}");
        }
    }
}
