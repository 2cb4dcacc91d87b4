//! Tables for people.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use console::text::{absolute, below, clean, relative, span, took};
use planner::identity::{ProjectName, Ref, Time, Trust};
use planner::units::round_size;
use planner::view::{CommitView, DataView, ProjectView, RefView, State, View};
use term::{Style, measure_text_width, pad_str, truncate_str};

use super::Screen;

const HEAD: [&str; 6] = ["REF", "TITLE", "COMMIT", "STATE", "AGE", "URL"];
/// The narrowest a title gets, and the widest: beyond, it says no more than its beginning.
const TITLE: (usize, usize) = (20, 60);

pub(super) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The style of a state on a terminal, like the badges of the console.
fn colour(state: State) -> Style {
    let plain = Style::new();
    match state {
        State::Ready => plain.green(),
        State::Queued | State::Building | State::Starting | State::Waking => plain.yellow(),
        State::Dozing | State::Asleep => plain.blue(),
        State::Failed => plain.red().bold(),
        State::Blocked => plain.yellow().bold(),
        _ => plain.dim(),
    }
}

pub(super) fn styled(screen: &Screen, style: Style, text: &str) -> String {
    if screen.columns.is_some() { style.force_styling(true).apply_to(text).to_string() } else { text.to_owned() }
}

/// What a ref is called for short; `target` takes it back.
fn ref_label(of: &Ref) -> String {
    match of {
        Ref::Pull(number) => format!("pr-{number}"),
        Ref::Branch(name) | Ref::Tag(name) => clean(name).into_owned(),
    }
}

/// Every project, or the one of that name.
pub(super) fn ls(view: &View, only: Option<&str>, screen: &mut Screen) -> io::Result<()> {
    for warning in &view.warnings {
        let mark = styled(screen, Style::new().yellow().bold(), "warning:");
        writeln!(screen.out, "{mark} {}", clean(warning))?;
    }
    if view.projects.is_empty() {
        return writeln!(screen.out, "no project is watched yet: add a [[project]] table to the configuration");
    }
    let (taken, all) = view.places;
    let places = styled(screen, Style::new().dim(), &format!("{taken} of {all} places taken"));
    writeln!(screen.out, "{}  {places}", clean(&view.domain))?;
    for project in view.projects.iter().filter(|project| only.is_none_or(|only| project.name.as_str() == only)) {
        writeln!(screen.out)?;
        table(project, screen)?;
    }
    Ok(())
}

/// How much is open, and how much more fits.
pub(super) fn counts(view: &View, projects: &[ProjectView], screen: &mut Screen) -> io::Result<()> {
    let fit = view.places.1.saturating_sub(view.places.0);
    projects.iter().try_for_each(|project| {
        let open = project.refs.iter().filter(|of| of.open).count();
        writeln!(screen.out, "{}: {open} open, {fit} more fit", project.name)
    })
}

struct Line<'v> {
    cells: [String; 6],
    commit: &'v CommitView,
}

fn lines(of: &RefView, now: Time) -> impl Iterator<Item = Line<'_>> {
    of.commits.iter().enumerate().map(move |(place, commit)| {
        let (name, title) = if place == 0 {
            let marks = [(of.foreign, " (fork)"), (!of.open, " (closed)")];
            let marks: String = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
            (ref_label(&of.name), format!("{}{marks}", clean(&of.title)))
        } else {
            (String::new(), String::new())
        };
        let age = span(now.since(commit.since));
        let cells = [name, title, commit.sha.short(), commit.state.as_str().to_owned(), age, commit.url.clone()];
        Line { cells, commit }
    })
}

fn table(project: &ProjectView, screen: &mut Screen) -> io::Result<()> {
    let name = styled(screen, Style::new().bold(), project.name.as_str());
    writeln!(screen.out, "{name}")?;
    if project.refs.is_empty() {
        return writeln!(screen.out, "  no open pull requests yet: push a branch, it appears here by itself");
    }
    let now = now();
    let lines: Vec<Line<'_>> = project.refs.iter().flat_map(|of| lines(of, now)).collect();
    let mut widths = HEAD.map(str::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    if let Some(columns) = screen.columns {
        let others: usize = widths.iter().sum::<usize>() - widths[1] + 2 * widths.len();
        widths[1] = widths[1].min(columns.saturating_sub(others).clamp(TITLE.0, TITLE.1));
    }
    let head = row(&HEAD.map(str::to_owned), &widths, None);
    let head = styled(screen, Style::new().dim(), &head);
    writeln!(screen.out, "  {head}")?;
    for line in &lines {
        let style = screen.columns.map(|_| colour(line.commit.state));
        let text = row(&line.cells, &widths, style.as_ref());
        writeln!(screen.out, "  {text}")?;
        let over = line.commit.data.as_ref().and_then(|data| data.over.as_ref());
        for told in line.commit.reason.iter().chain(over) {
            let told = styled(screen, Style::new().dim(), &clean(told));
            writeln!(screen.out, "  {:width$}  {told}", "", width = widths[0])?;
        }
    }
    Ok(())
}

fn row(cells: &[String; 6], widths: &[usize; 6], state: Option<&Style>) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| {
            let cell = pad_str(&truncate_str(cell, *width, "…"), *width, term::Alignment::Left, None).into_owned();
            match state {
                Some(style) if column == 3 => style.clone().force_styling(true).apply_to(cell).to_string(),
                _ => cell,
            }
        })
        .collect();
    padded.join("  ").trim_end().to_owned()
}

/// Where an environment's data came from, since when, and what they measure.
fn data_line(data: &DataView, moment: impl Fn(Time) -> String) -> String {
    let sizes = [("database", data.database), ("objects", data.objects)];
    let sizes = sizes.iter().filter_map(|(what, bytes)| Some(format!(", {what} {}", round_size((*bytes)?))));
    format!(" from {}, {}{}", clean(&data.from), moment(data.at), sizes.collect::<String>())
}

/// One commit in full.
pub(super) fn show(view: &View, project: &ProjectName, commit: &CommitView, screen: &mut Screen) -> io::Result<()> {
    let now = now();
    let moment = |time: Time| absolute(time).map_or("never".to_owned(), |at| format!("{} ({at})", relative(now, time)));
    let refs: Vec<String> = view
        .projects
        .iter()
        .filter(|other| other.name == *project)
        .flat_map(|project| &project.refs)
        .filter(|of| of.commits.iter().any(|other| other.sha == commit.sha))
        .map(|of| format!("{} {}", clean(&of.name.to_string()), clean(&of.title)))
        .collect();
    let trust = match commit.trust {
        Trust::Trusted => "trusted",
        Trust::Approved => "approved, from outside the project",
        Trust::Untrusted => "untrusted, from outside the project and not approved",
    };
    let state = styled(screen, colour(commit.state), commit.state.as_str());
    let mut facts = vec![
        ("commit", commit.sha.to_string()),
        ("subject", format!("{} ({})", clean(&commit.subject), clean(&commit.author))),
        ("project", project.to_string()),
        ("refs", refs.join(", ")),
        ("state", format!("{state}, {}", moment(commit.since))),
    ];
    facts.extend(commit.reason.as_ref().map(|reason| ("reason", clean(reason).into_owned())));
    facts.push(("url", commit.url.clone()));
    facts.push(("trust", trust.to_owned()));
    if commit.generation > 0 {
        let data = commit.data.as_ref().map(|data| data_line(data, moment)).unwrap_or_default();
        facts.push(("data", format!("generation {}{data}", commit.generation)));
        let over = commit.data.as_ref().and_then(|data| data.over.as_ref());
        facts.extend(over.map(|over| ("limit", clean(over).into_owned())));
    }
    facts.extend(commit.took.map(|ms| ("took", took(ms))));
    facts.extend(commit.visited.map(|at| ("visited", moment(at))));
    if commit.pinned {
        facts.push(("ends", "not before it is unpinned".to_owned()));
    } else {
        facts.extend(commit.expires.map(|at| ("ends", format!("{} if nobody visits it", moment(at)))));
    }
    if commit.held {
        facts.push(("held", "its removal waits for `sidestage gc --confirm`".to_owned()));
    }
    if !commit.logs.is_empty() {
        facts.push(("logs", commit.logs.join(", ")));
    }
    for (name, path, note) in &commit.links {
        let note = note.as_ref().map(|note| format!("  {}", clean(note))).unwrap_or_default();
        let url = below(&commit.url, path);
        facts.push(("link", format!("{}: {url}{note}", clean(name))));
    }
    for (name, value) in facts {
        let name = styled(screen, Style::new().dim(), &format!("{name:<8}"));
        writeln!(screen.out, "{name} {value}")?;
    }
    Ok(())
}
