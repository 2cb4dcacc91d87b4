//! What people ask for, and the ways back to them.

use console::Ask;
use console::inside::{Access, Begin};
use drivers::Listing;
use planner::command::{Actor, Command};
use planner::event::{Event, Head, RequestId};
use planner::identity::{EnvId, ProjectName, Sha};
use planner::oneoff::What;
use planner::resource::Resource;
use tokio::sync::oneshot;

use super::{Controller, Input, Reply, StagedRef};

impl Controller {
    /// A branch or tag was found: the core hears of it and of the wish in one step.
    pub(super) fn found(&mut self, project: ProjectName, head: Head, actor: Actor, reply: StagedRef) {
        let sha = head.sha;
        let (answer, answered) = oneshot::channel::<Result<String, String>>();
        tokio::spawn(async move {
            if let Ok(said) = answered.await {
                let _ = reply.send(said.map(|line| (sha, line)));
            }
        });
        self.pending.push(Event::Found { project: project.clone(), head });
        self.command(actor, Command::Stage { project, sha }, answer);
    }

    pub(super) fn command(&mut self, actor: Actor, command: Command, answer: Reply) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.answers.insert(request, answer);
        self.pending.push(Event::Asked { request, actor, command });
        request
    }

    /// Looks for a branch or tag by name, beside the loop.
    fn find(&self, project: &str, name: String, actor: Actor, reply: StagedRef) {
        let forges = self.setup.forges.all();
        let Some((project, forge)) = forges.into_iter().find(|(of, _)| of.as_str() == project) else {
            let _ = reply.send(Err(format!("no project {project:?} in the configuration")));
            return;
        };
        let input = self.input.clone();
        tokio::spawn(async move {
            match forge.find(&name).await {
                Ok(head) => drop(input.send(Input::Found(project, head, actor, reply))),
                Err(failure) => drop(reply.send(Err(failure.to_string()))),
            }
        });
    }

    pub(super) fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Command(actor, command, answer) => drop(self.command(actor, command, answer)),
            Ask::Run(run) => {
                let (answer, judged) = oneshot::channel();
                let Begin { process, words, .. } = run.begin.clone();
                let command = Command::Run { project: run.project.clone(), sha: run.sha, process, words };
                self.command(run.actor.clone(), command, answer);
                self.inside.serve(*run, judged);
            }
            Ask::Database { actor, project, sha, dump, reply } => {
                let (answer, judged) = oneshot::channel();
                let access = self.access(&project, &sha);
                let command = if dump { Command::Dump { project, sha } } else { Command::Psql { project, sha } };
                self.command(actor, command, answer);
                tokio::spawn(async move {
                    let judged = judged.await.unwrap_or_else(|_| Err("the controller is stopping".to_owned()));
                    let _ = reply.send(judged.and(access));
                });
            }
            Ask::StageRef { actor, project, name, reply } => self.find(&project, name, actor, reply),
            Ask::Logs { env, name, follow, reply } => {
                let found = self.core.log(&env, &name);
                self.logs.open(found, self.core.origin(&env), (&env, &name), follow, reply);
            }
            Ask::BaselineLogs { version, name, follow, reply } => {
                self.logs.of_baseline(self.core.baseline_log(&version, &name).as_ref(), &version, follow, reply);
            }
            Ask::Cloning(version, reply) => {
                let databases = self.databases.clone();
                tokio::spawn(async move {
                    let told = databases.cloning(&version).await;
                    let _ = reply.send(told);
                });
            }
            Ask::Secrets(project, reply) => drop(reply.send(Ok(self.setup.secrets(&project)))),
            Ask::Secret { actor, place, value, reply } => {
                let is_set = value.is_some();
                let change = self.setup.secret(&place, value, &actor.name);
                let command = if is_set { Command::SetSecret(place) } else { Command::RemoveSecret(place) };
                self.change(actor, command, change, reply);
            }
            Ask::Reload(actor, reply) => {
                let change = self.setup.reload();
                self.change(actor, Command::Reload, change, reply);
            }
            Ask::Connect { organisation, reply } => {
                drop(reply.send(self.connecting.begin(&self.setup.config, organisation.as_deref())));
            }
            Ask::Connected { code, state, reply } => self.connected(code, state, reply),
            Ask::CheckGitHub(reply) => self.check_github(reply),
            Ask::Webhook { headers, body, reply } => self.webhook(headers, body, reply),
            Ask::Plan(reply) => drop(reply.send(self.core.plan_lines(None))),
            Ask::Look(project, answer) => match self.watches.iter().find(|(name, _)| name.as_str() == project) {
                Some((_, watch)) => watch.look(answer),
                None => drop(answer.send(Err(format!("no project {project:?} in the configuration")))),
            },
        }
    }

    pub(super) fn one_off(
        &self,
        env: &EnvId,
        process: Option<&str>,
        what: What,
    ) -> Result<(Resource, Listing), String> {
        let resource = self.core.one_off(env, process, what)?;
        let seen = &self.core.inventory().seen;
        let needs = resource.needs.iter().filter_map(|id| Some((id.clone(), seen.get(id)?.clone()))).collect();
        Ok((resource, needs))
    }

    /// How the commit's database is reached.
    fn access(&self, project: &ProjectName, sha: &Sha) -> Result<Access, String> {
        let view = self.ends.view.borrow();
        let shown = view.projects.iter().filter(|shown| shown.name == *project);
        let mut commits = shown.flat_map(|shown| &shown.refs).flat_map(|of| &of.commits);
        let commit = commits.find(|commit| commit.sha == *sha).ok_or("the commit is not known")?;
        let generation = self.core.database(&commit.env)?;
        Ok(self.databases.access(&commit.env, generation))
    }
}
