//! Measures beside what one would do by hand: interleaved rounds on one machine, a table, and rows of JSON.

mod apps;
mod by_hand;
mod data;
mod hooks;
mod main;
mod objects;
mod phases;
mod site;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Options of every bench.
pub(crate) struct Options {
    rounds: usize,
    /// The development profile, for trying out the bench itself: its numbers say nothing.
    dev: bool,
    /// Only cases whose name contains this.
    only: Option<String>,
}

impl Options {
    fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| case.contains(only.as_str()))
    }
}

/// One measured case. `ratio` is ours divided by the peer's, and `goal` is what it may be.
pub(crate) struct Row {
    case: String,
    ours: f64,
    peer: f64,
    peer_name: String,
    unit: &'static str,
    goal: f64,
}

/// `cargo xtask bench NAME [--json FILE] [--rounds N] [--only CASE] [--dev]`
pub(crate) fn named(arguments: &[String]) -> Result<()> {
    let mut options = Options { rounds: 15, dev: false, only: None };
    let (mut name, mut file) = (None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--json" => file = Some(PathBuf::from(value()?)),
            "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
            "--only" => options.only = Some(value()?.clone()),
            "--dev" => options.dev = true,
            _ if name.is_none() && !word.starts_with('-') => name = Some(word.clone()),
            _ => bail!("`cargo xtask bench` does not know {word}"),
        }
    }
    let rows = match name.as_deref() {
        Some("main") => main::all(&options)?,
        Some("apps") => apps::all(&options)?,
        Some("data") => data::all(&options)?,
        Some("objects") => objects::all(&options)?,
        Some("hooks") => hooks::all(&options)?,
        _ => bail!("there are these benches: main, apps, data, objects, hooks"),
    };
    print(&rows);
    if let Some(file) = file {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        std::fs::write(&file, format!("{:#}\n", Value::from(rows))).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours / self.peer
    }

    fn json(&self) -> Value {
        json!({
            "case": self.case,
            "ours": self.ours,
            "peer": self.peer,
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ratio": self.ratio(),
            "goal": self.goal,
            "better": "lower",
        })
    }
}

/// What a measuring program printed: a row of JSON a line.
fn told(options: &Options, printed: &str) -> Result<Vec<Row>> {
    let row = |line: &str| -> Result<Row> {
        let told: Value = serde_json::from_str(line).with_context(|| format!("not a row: {line}"))?;
        let number = |key: &str| told[key].as_f64().unwrap_or(f64::NAN);
        Ok(Row {
            case: told["case"].as_str().unwrap_or_default().to_owned(),
            ours: number("ours"),
            peer: number("peer"),
            peer_name: told["peer_name"].as_str().unwrap_or_default().to_owned(),
            unit: if told["unit"] == "MB" { "MB" } else { "ms" },
            goal: number("goal"),
        })
    };
    let rows = printed.lines().map(row).collect::<Result<Vec<Row>>>()?;
    Ok(rows.into_iter().filter(|row| options.wants(&row.case)).collect())
}

fn print(rows: &[Row]) {
    println!("{:<44} {:>10} {:>10} {:>6} {:>6} {:>6}  peer", "case", "ours", "peer", "unit", "ratio", "goal");
    for row in rows {
        let verdict = if row.ratio() <= row.goal { "" } else { "  MISSED" };
        println!(
            "{:<44} {:>10.1} {:>10.1} {:>6} {:>6.2} {:>6.2}  {}{verdict}",
            row.case,
            row.ours,
            row.peer,
            row.unit,
            row.ratio(),
            row.goal,
            row.peer_name
        );
    }
}

/// Both sides by turns, so that a busy moment of the machine meets both; the first round warms up and is not counted.
fn rounds(
    count: usize,
    mut ours: impl FnMut(usize) -> Result<Duration>,
    mut peer: impl FnMut(usize) -> Result<Duration>,
) -> Result<(f64, f64)> {
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    for round in 0..=count {
        let (one, other) = if round % 2 == 0 {
            let one = ours(round)?;
            (one, peer(round)?)
        } else {
            let other = peer(round)?;
            (ours(round)?, other)
        };
        eprintln!("xtask: round {round}: ours {} ms, by hand {} ms", one.as_millis(), other.as_millis());
        if round > 0 {
            of_ours.push(one);
            of_peer.push(other);
        }
    }
    Ok((median(of_ours), median(of_peer)))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}
