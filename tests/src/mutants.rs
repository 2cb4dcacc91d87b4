//! Mutants: the rules of the core, each broken on purpose in a copy of the planner, and each caught by the simulation.
//!
//! A mutant is a patch of the source. All of them are applied to one copy, each behind a switch, so that one build serves all;
//! the product itself has no such switches. A patch that no longer applies, and a mutant that survives, fail the test.
#![allow(clippy::unwrap_used)]

mod baselines;
mod list;
mod operator;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use list::Mutant;

/// Seeds for each mutant beyond those that aim at it.
const SEEDS: u64 = 3_000;
/// Seeds that the copy must pass with no mutant switched on.
const SOUND: u64 = 200;

#[test]
fn every_broken_rule_is_caught() {
    let place = Place::new();
    place.copy_planner();
    let mutants: Vec<&Mutant> = list::MUTANTS.iter().chain(operator::MUTANTS).chain(baselines::MUTANTS).collect();
    mutants.iter().enumerate().for_each(|(index, mutant)| place.apply(index + 1, mutant));
    place.write_simulator();
    place.build();

    let sound = place.run(0, &[], SOUND);
    assert!(sound.is_none(), "the copy breaks a rule with no mutant in it: {sound:?}");
    let mut survivors = Vec::new();
    for (index, mutant) in mutants.iter().enumerate() {
        match place.run(index + 1, mutant.seeds, SEEDS) {
            Some(caught) => println!("{:>7} {}: {caught}", mutant.rule, mutant.name),
            None => survivors.push(format!("{} ({})", mutant.name, mutant.rule)),
        }
    }
    assert!(survivors.is_empty(), "{} mutants survive {SEEDS} seeds:\n{}", survivors.len(), survivors.join("\n"));
}

/// A folder of our own below `target/`: a workspace of the mutated planner and the simulation.
struct Place {
    repository: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn new() -> Place {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let folder = repository.join("target/mutants");
        fs::create_dir_all(&folder).unwrap();
        Place { repository, folder }
    }

    fn copy_planner(&self) {
        let planner = self.folder.join("planner");
        let _ = fs::remove_dir_all(&planner);
        copy(&self.repository.join("crates/planner"), &planner);
        let lib = planner.join("src/lib.rs");
        let text = fs::read_to_string(&lib).unwrap();
        fs::write(&lib, format!("{text}\npub mod mutants;\n")).unwrap();
        fs::write(planner.join("src/mutants.rs"), SWITCH).unwrap();
    }

    fn apply(&self, number: usize, mutant: &Mutant) {
        let path = self.folder.join("planner/src").join(mutant.file);
        let original = self.repository.join("crates/planner/src").join(mutant.file);
        let text = fs::read_to_string(&original).unwrap_or_else(|e| panic!("{}: {e}", mutant.file));
        let found = text.matches(mutant.find).count();
        assert!(found == 1, "'{}' no longer applies: its text is {found} times in {}", mutant.name, mutant.file);
        let text = fs::read_to_string(&path).unwrap();
        let found = text.matches(mutant.find).count();
        assert!(found == 1, "'{}' meets another mutant in {}", mutant.name, mutant.file);
        let with = mutant.with.replace("MUTANT", &format!("crate::mutants::on({number})"));
        assert!(with != mutant.with, "'{}' has no switch", mutant.name);
        fs::write(&path, text.replace(mutant.find, &with)).unwrap();
    }

    fn write_simulator(&self) {
        let text = fs::read_to_string(self.repository.join("Cargo.toml")).unwrap();
        let mut root: toml::Table = text.parse().unwrap();
        let workspace = root["workspace"].as_table_mut().unwrap();
        workspace.insert("members".into(), toml::Value::Array(vec!["planner".into(), "simulator".into()]));
        workspace.remove("default-members");
        workspace.remove("lints");
        let lints: toml::Table = "[rust]\nunsafe_code = \"forbid\"\n".parse().unwrap();
        workspace.insert("lints".into(), toml::Value::Table(lints));
        let planner: toml::Table = "path = \"planner\"".parse().unwrap();
        workspace["dependencies"].as_table_mut().unwrap().insert("planner".into(), toml::Value::Table(planner));
        root.insert("profile".into(), toml::Value::Table("[dev]\nopt-level = 1\ndebug = false\n".parse().unwrap()));
        write_if_new(&self.folder.join("Cargo.toml"), &root.to_string());
        fs::copy(self.repository.join("Cargo.lock"), self.folder.join("Cargo.lock")).unwrap();
        let source = self.folder.join("simulator/src");
        fs::create_dir_all(&source).unwrap();
        write_if_new(&self.folder.join("simulator/Cargo.toml"), SIMULATOR);
        let simulation = self.repository.join("tests/src/simulation/mod.rs");
        write_if_new(&source.join("main.rs"), &MAIN.replace("SIMULATION", &simulation.display().to_string()));
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.folder).env("CARGO_TARGET_DIR", self.folder.join("target"));
        cargo
    }

    fn build(&self) {
        let built = self.cargo().args(["build", "--offline", "--package", "simulator"]).output().unwrap();
        assert!(built.status.success(), "the mutants do not compile:\n{}", String::from_utf8_lossy(&built.stderr));
    }

    /// What a mutant breaks, and at which seed; none if it survives.
    fn run(&self, number: usize, aimed: &[u64], count: u64) -> Option<String> {
        let mut command = Command::new(self.folder.join("target/debug/simulator"));
        command.arg(number.to_string()).arg(count.to_string()).args(aimed.iter().map(u64::to_string));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.code() {
            Some(0) => None,
            Some(1) => Some(said),
            other => panic!("the simulator ended with {other:?}: {said}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A file that stays as it is does not make cargo build again.
fn write_if_new(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    fs::write(path, text).unwrap();
}

const SWITCH: &str = "
use std::sync::atomic::{AtomicUsize, Ordering};
static ON: AtomicUsize = AtomicUsize::new(0);
/// Whether this mutant is switched on.
pub fn on(number: usize) -> bool { ON.load(Ordering::Relaxed) == number }
/// Switches one on.
pub fn switch(number: usize) { ON.store(number, Ordering::Relaxed); }
";

const SIMULATOR: &str = "
[package]
name = \"simulator\"
version = \"0.0.0\"
edition = \"2024\"
[dependencies]
planner.workspace = true
";

const MAIN: &str = "
#![allow(dead_code)]
#[path = \"SIMULATION\"]
mod simulation;

/// Arguments: mutant, how many seeds, seeds that aim. Ends with 1 and the broken rule if there is one.
fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let numbers: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect(\"a number\")).collect();
    let mutant = numbers[0] as usize;
    planner::mutants::switch(mutant);
    if let Err(what) = simulation::scenes::play_scenes(3) {
        println!(\"{what}\");
        std::process::exit(1);
    }
    for seed in &numbers[2..] {
        if let Err(what) = simulation::runner::attempt(*seed) {
            catch(mutant, *seed, &what);
        }
    }
    let mut first = 0;
    while first < numbers[1] {
        let outcome = simulation::runner::play_all(first..numbers[1], 1);
        for (seed, what) in &outcome.failures {
            catch(mutant, *seed, what);
        }
        first = outcome.failures.last().map_or(numbers[1], |(seed, _)| seed + 1);
    }
}

/// The mutant is caught if the same seed breaks no rule without it.
fn catch(mutant: usize, seed: u64, what: &str) {
    planner::mutants::switch(0);
    if mutant == 0 || simulation::runner::attempt(seed).is_ok() {
        println!(\"seed {seed}: {what}\");
        std::process::exit(1);
    }
    planner::mutants::switch(mutant);
}
";
