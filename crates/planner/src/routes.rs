//! What stands behind each host name. Derived from facts and what was seen, never stored.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::blueprint::{WEB, app_hosts};
use crate::facts::RefRow;
use crate::hosts;
use crate::identity::{EnvId, ProjectName, Sha, Trust};
use crate::names;
use crate::report::{Report, Status};
use crate::resource::{Inventory, Owner, Run};
use crate::spec::{Origin, Spec};
use crate::standing::Commit;
use crate::tables::{Door, EnvRoute, Page, Route, Upstream};
use crate::view::State;

/// All routes by host.
#[must_use]
pub fn routes(report: &Report<'_, '_>) -> BTreeMap<String, Route> {
    let standing = &report.eyes.standing;
    let domain = &standing.policy.domain;
    let mut routes = BTreeMap::from([(domain.clone(), Route::Objects { bucket: None })]);
    for commit in standing.commits() {
        let Some(project) = standing.policy.projects.get(commit.project) else { continue };
        let status = report.status(commit);
        let page = report.page(commit, &status);
        for (name, host) in report.fronts(commit) {
            let route = EnvRoute {
                env: status.env.clone(),
                sha: commit.sha,
                url: standing.policy.url(&host),
                door: report.door(&status, name),
                page: page.clone(),
                public: project.public,
            };
            routes.insert(host, Route::Env(Box::new(route)));
        }
        for id in report.with_bucket(commit) {
            let bucket = names::bucket(id);
            routes.insert(format!("{bucket}.{domain}"), Route::Objects { bucket: Some(bucket) });
        }
    }
    // A project that was taken out of the configuration gives way where its aliases are another's now.
    let mut projects: Vec<&ProjectName> = standing.policy.projects.keys().collect();
    projects.sort_by_key(|name| standing.facts.taken_out.contains(*name));
    projects.into_iter().for_each(|project| report.aliases(project, &mut routes));
    routes
}

impl<'a> Report<'_, 'a> {
    /// Containers of a commit that have a host, each with its host: the web process and further applications. One state,
    /// one clock and one generation hold for all of them.
    fn fronts(&self, commit: &Commit<'a>) -> Vec<(&'a str, String)> {
        let policy = self.eyes.standing.policy;
        let of = Origin { project: commit.project.clone(), sha: commit.sha, trust: Trust::Trusted };
        let apps = app_hosts(policy, &of, self.apps(commit.project, &commit.sha));
        let web = (WEB, hosts::canonical(&commit.sha, policy.suffix(commit.project), &policy.domain));
        std::iter::once(web).chain(apps).collect()
    }

    /// Names of a commit's further applications.
    pub(crate) fn apps(&self, project: &ProjectName, sha: &Sha) -> impl Iterator<Item = &'a String> + use<'a> {
        let source = self.eyes.standing.facts.sources.get(&(project.clone(), *sha));
        let manifest = source.and_then(|source| source.manifest.as_ref().ok());
        manifest.into_iter().flat_map(|manifest| manifest.apps.keys())
    }

    /// What happens to a request for one of its containers: only a generation that has been ready serves, and only while
    /// it is wanted running.
    fn door(&self, status: &Status<'a>, front: &str) -> Door {
        let Some(row) = status.row.filter(|row| row.is_live()) else { return Door::Shut };
        let Some(generation) = row.serving() else {
            // After a loss of the store visitors of what still runs wait until it was asked whether it answers.
            let found = row.begun.as_ref().is_some_and(|begun| begun.released);
            return if found && status.state == State::Starting { Door::Wake } else { Door::Shut };
        };
        if self.is_copied(status.env, generation) {
            return Door::Wake;
        }
        match status.state {
            State::Dozing | State::Asleep | State::Waking => return Door::Wake,
            State::Ready | State::Failed => {}
            _ => return Door::Shut,
        }
        match self.upstream(status.env, generation, front) {
            Some(upstream) => Door::Open(upstream),
            None if status.state == State::Failed => Door::Shut,
            None => Door::Wake,
        }
    }

    /// The one container that a route may reach. A backend that does not answer now keeps what was seen last.
    fn upstream(&self, env: &EnvId, generation: u32, front: &str) -> Option<Upstream> {
        let blueprint = self.eyes.blueprints.get(env, generation).ok()?;
        let part = blueprint.container(front).filter(|part| self.is_reachable(part))?;
        let Spec::Container(container) = &part.spec else { return None };
        let outputs = &self.eyes.inventory.seen.get(&part.id)?.outputs;
        let address = SocketAddr::new(outputs.address?, container.port?);
        Some(Upstream { container: outputs.id.clone()?, generation, address })
    }

    fn page(&self, commit: &Commit<'a>, status: &Status<'a>) -> Page {
        let standing = &self.eyes.standing;
        let first = commit.open.iter().chain(&commit.closed).min_by_key(|(of, _)| (!of.is_open(), of.first));
        let title = first.map(|(of, _)| title(of)).unwrap_or_default();
        let source = standing.facts.sources.get(&(commit.project.clone(), commit.sha));
        let links = source.and_then(|source| source.manifest.as_ref().ok()).map(|manifest| &manifest.links);
        let links = links.into_iter().flatten().map(|link| (link.name.clone(), link.path.clone()));
        let console = standing.policy.console_url.as_ref();
        let data = status.row.filter(|row| row.is_live()).and_then(|row| self.data(status.env, row));
        Page {
            state: status.state,
            reason: status.reason.clone(),
            hint: hint(status.state).map(str::to_owned),
            project: commit.project.to_string(),
            title,
            subject: source.map(|source| source.subject.clone()).unwrap_or_default(),
            data: data.map(|data| data.from),
            links: links.collect(),
            console_url: console.map(|console| format!("{}/#{}", console.trim_end_matches('/'), commit.sha)),
        }
    }

    /// Environments of the commit that have or had a bucket.
    fn with_bucket<'c>(&self, commit: &'c Commit<'a>) -> impl Iterator<Item = &'c EnvId> + use<'c, 'a> {
        let standing = &self.eyes.standing;
        let source = standing.facts.sources.get(&(commit.project.clone(), commit.sha));
        let objects =
            source.is_some_and(|source| source.manifest.as_ref().is_ok_and(|manifest| manifest.objects.is_some()));
        let all = [Trust::Trusted, Trust::Approved];
        let known = all.map(|trust| standing.row(commit, trust).filter(|row| row.begun.is_some()).map(|_| trust));
        known.into_iter().flatten().filter(move |_| objects).map(|trust| commit.ids.at(trust))
    }

    /// Aliases follow the newest commit of the ref that has been ready, awake or not; until there is one, the head.
    fn aliases(&self, project: &ProjectName, routes: &mut BTreeMap<String, Route>) {
        let standing = &self.eyes.standing;
        let Some(settings) = standing.policy.projects.get(project) else { return };
        let labels = standing.labels(project);
        for of in standing.facts.refs.values().filter(|of| of.project == *project) {
            let ready = of.commits.iter().rev().find(|listed| {
                standing.commit(project, &listed.sha).is_some_and(|commit| {
                    let status = self.status(commit);
                    status.row.is_some_and(|row| row.serving().is_some())
                })
            });
            let (Some(label), Some(target)) = (labels.get(&of.name), ready.or(of.head())) else { continue };
            let (suffix, domain) = (&settings.suffix, &standing.policy.domain);
            let web = (hosts::alias(label, suffix, domain), hosts::canonical(&target.sha, suffix, domain));
            let apps = self.apps(project, &target.sha).map(|app| {
                (hosts::app_alias(label, app, suffix, domain), hosts::app(&target.sha, app, suffix, domain))
            });
            for (alias, to) in std::iter::once(web).chain(apps) {
                routes.entry(alias).or_insert(Route::Alias { to, proxy: settings.alias_proxy });
            }
        }
    }
}

/// `#7 Title`, or the branch.
fn title(of: &RefRow) -> String {
    match &of.name {
        crate::identity::Ref::Pull(number) => format!("#{number} {}", of.title),
        crate::identity::Ref::Branch(name) | crate::identity::Ref::Tag(name) => name.clone(),
    }
}

/// What the visitor can do.
fn hint(state: State) -> Option<&'static str> {
    Some(match state {
        State::Unstaged => "Whoever may write to the project stages it, in the console or with `sidestage stage`.",
        State::Blocked => "There is nothing that a visitor has to do.",
        State::Queued | State::Building | State::Starting | State::Waking => "This page goes on by itself.",
        State::Failed => "Push a fix, or stage it again.",
        State::Expired | State::Removed | State::Superseded => {
            "It can be staged again in the console or with `sidestage stage`."
        }
        State::Ready | State::Dozing | State::Asleep | State::Removing => return None,
    })
}

/// Whose address is whose, for the inner edge: all of a network, so that what has just been started is known with its
/// first request, and a job that no listing has shown yet. Its containers are there for engines whose networks say nothing.
#[must_use]
pub fn inside(inventory: &Inventory) -> BTreeMap<IpAddr, EnvId> {
    let mut addresses = BTreeMap::new();
    for (id, seen) in inventory.seen.iter().filter(|(_, seen)| seen.run == Run::Running) {
        let Owner::Env(env) = &id.owner else { continue };
        let all = seen.outputs.addresses.iter().chain(&seen.outputs.address);
        addresses.extend(all.map(|address| (*address, env.clone())));
    }
    addresses
}
