//! What people and clocks run once inside an environment: a container of its own, made like one that stays, so that a
//! console does not eat the memory of the process that it looks at.

use crate::core::Core;
use crate::identity::EnvId;
use crate::manifest::Manifest;
use crate::resource::{Kind, Resource, Run};
use crate::spec::{Container, Health, Spec};

/// What a command of the manifest begins with where a program could stand: `:sample-data`, `:cron.close`.
pub const NAMED: char = ':';

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// These words, as they are.
    Words(Vec<String>),
    /// `[command.NAME]` of the manifest.
    Command(String),
    /// `[cron.NAME]` of the manifest.
    Cron(String),
}

impl What {
    /// From what a person typed behind the environment's name.
    ///
    /// # Errors
    /// Nothing was typed, or more than the one name.
    pub fn read(words: &[String]) -> Result<What, String> {
        let Some((first, rest)) = words.split_first() else {
            return Err("name what to run: a command behind `--`, or `:name` of the manifest".to_owned());
        };
        let Some(name) = first.strip_prefix(NAMED) else { return Ok(What::Words(words.to_owned())) };
        if !rest.is_empty() {
            return Err(format!("{first} is a command of the manifest and takes no words of its own"));
        }
        Ok(match name.strip_prefix("cron.") {
            Some(cron) => What::Cron(cron.to_owned()),
            None => What::Command(name.to_owned()),
        })
    }

    /// The command, as a template.
    fn command(self, manifest: &Manifest) -> Result<Vec<String>, String> {
        let unknown = |what: &str, name: &str, known: Vec<&String>| {
            let known: Vec<String> = known.into_iter().map(|known| format!(":{what}{known}")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!("the manifest has no :{what}{name}; there are: {known}")
        };
        match self {
            // What a person typed is meant as it stands.
            What::Words(words) => Ok(words.into_iter().map(|word| word.replace("${", "$${")).collect()),
            What::Command(name) => manifest
                .commands
                .get(&name)
                .cloned()
                .ok_or_else(|| unknown("", &name, manifest.commands.keys().collect())),
            What::Cron(name) => manifest
                .crons
                .get(&name)
                .map(|cron| cron.command.clone())
                .ok_or_else(|| unknown("cron.", &name, manifest.crons.keys().collect())),
        }
    }
}

impl Core {
    /// What a one-off container of the environment's serving generation is made of: image, variables, network, body and
    /// memory of `process` (the web process if none), and this command. Its identity is the process's; the driver gives
    /// it a name of its own.
    ///
    /// # Errors
    /// Nothing serves, no such process, no such command.
    pub fn one_off(&self, env: &EnvId, process: Option<&str>, what: What) -> Result<Resource, String> {
        let row = self.facts().envs.get(env).ok_or("there is no such environment")?;
        let generation = row.serving().ok_or("the environment has not been ready yet")?;
        let blueprint = self.blueprints().get(env, generation)?;
        let processes = || blueprint.of(Kind::Container).filter(|part| own(part).is_some());
        let name = process.unwrap_or("web");
        let part = processes().find(|part| part.id.name == name).ok_or_else(|| {
            let known: Vec<&str> = processes().map(|part| part.id.name.as_str()).collect();
            format!("there is no process {name:?}; there are: {}", known.join(", "))
        })?;
        let source = self.facts().sources.get(&(row.of.project.clone(), row.of.sha));
        let source = source.ok_or("the commit has not been read")?;
        let manifest = source.manifest.as_ref().map_err(Clone::clone)?;
        let container = own(part).cloned().ok_or("a companion runs nothing for people")?;
        let container = Container { command: Some(what.command(manifest)?), health: Health::Alive, ..container };
        Ok(Resource { spec: Spec::Job(container), run: Run::Running, ..part.clone() })
    }
}

impl Core {
    /// The generation of the environment's database: the one that serves, else the one that comes up.
    ///
    /// # Errors
    /// There is none.
    pub fn database(&self, env: &EnvId) -> Result<u32, String> {
        let row = self.facts().envs.get(env).ok_or("there is no such environment")?;
        let generation = row.serving().or(row.coming()).ok_or("the environment has not been staged yet")?;
        let mut data = self.blueprints().get(env, generation)?.of(Kind::Database);
        data.next().map(|_| generation).ok_or_else(|| "the manifest has no database".to_owned())
    }
}

/// A container of the commit's own code.
fn own(part: &Resource) -> Option<&Container> {
    match &part.spec {
        Spec::Container(container) if !container.companion => Some(container),
        _ => None,
    }
}
