//! Builds images from the commit's tree: what is checked before, which builder does it, what is checked after.

use std::io;
use std::sync::Arc;

use planner::resource::{Failure, Observed, Owner, Resource};
use planner::secrets::SecretClass;
use planner::spec::Build;

use super::context::{self, Layout};
use super::dockerfile::Dockerfile;
use super::frontend::Frontend;
use super::leftovers::UnderWay;
use super::session::Offer;
use super::{Docker, image, is_absent, labels, spoken};
use crate::Log;
use crate::git::Context;

/// Opens the source of a build, such as [`GitForge::context`](crate::git::GitForge::context) does. Called on a thread
/// that may block.
pub type Contexts = Arc<dyn Fn(&Build) -> Result<Context, Failure> + Send + Sync>;

impl Docker {
    /// Builds an image, unless its tag exists.
    pub(super) async fn ensure_image(
        &self,
        resource: &Resource,
        build: &Build,
        log: &Log,
    ) -> Result<Observed, Failure> {
        let id = self.own_tag(resource, &build.tag)?;
        if let Some(seen) = self.image(&id).await? {
            return Ok(seen);
        }
        self.admit(build.of.trust)?;
        let under_way = UnderWay::begin(self).await;
        // A little before the caller stops waiting, so that the reason still reaches it.
        let limit = resource.deadline - resource.deadline / 50;
        let work = tokio::time::timeout(limit, self.build(resource, build, log)).await;
        if work.is_ok() {
            under_way.end().await;
        }
        let late = || Failure::permanent(format!("the build did not end within {}", spoken(resource.deadline)));
        work.map_err(|_| late())??;
        self.image(&id).await?.ok_or_else(|| Failure::transient("the image vanished right after it was built"))
    }

    async fn build(&self, resource: &Resource, build: &Build, log: &Log) -> Result<(), Failure> {
        let (contexts, of) = (self.settings().contexts.clone(), build.clone());
        let opened = tokio::task::spawn_blocking(move || contexts(&of)).await;
        let source = opened.map_err(|_| Failure::transient("reading the source of the build failed"))??;
        for note in &source.notes {
            log.line(&format!("note: {note}"));
        }
        let syntax = Dockerfile::syntax(&source.dockerfile).map_err(Failure::permanent)?;
        let frontend = self.frontend(build.of.trust, syntax.as_deref(), log).await?;
        let dockerfile = Dockerfile::read(&source.dockerfile, &frontend).map_err(Failure::permanent)?;
        dockerfile.check(&frontend).map_err(Failure::permanent)?;
        if build.of.trust.is_foreign() {
            let bases = dockerfile.check_foreign(&build.args).map_err(Failure::permanent)?;
            self.check_bases(&bases).await?;
        }
        if let (Frontend::Classic(why), Some(syntax)) = (&frontend, &syntax) {
            log.line(&format!("note: `# syntax={syntax}` has no effect: {why}"));
        }
        for (line, name) in
            dockerfile.secrets().iter().filter(|(_, name)| !build.secrets.iter().any(|known| known == name))
        {
            log.line(&format!(
                "note: Dockerfile line {line} mounts the secret {name}, which [build] secrets does not name"
            ));
        }
        let layout = if frontend.is_classic() { Layout::Classic } else { Layout::BuildKit };
        let written = dockerfile.write(&self.image_labels(resource, build), &frontend);
        let (sender, tar) = tokio::sync::mpsc::channel(8);
        let feeding = tokio::task::spawn_blocking(move || context::feed(source, &written, layout, &sender));
        let draft = image::draft(&build.tag);
        // Nothing is fetched on behalf of foreign code, least of all with an account of the operator's.
        let accounts = if build.of.trust.is_foreign() { Vec::new() } else { self.accounts(log) };
        let done = if let Frontend::Classic(why) = frontend {
            if !build.secrets.is_empty() {
                return Err(Failure::permanent(format!("[build] secrets need BuildKit, and {why}; leave them out")));
            }
            let stages = dockerfile.stages();
            self.classic(resource, build, (&draft, stages), (tar, &accounts), log).await
        } else {
            let offer = Offer { context: tar, secrets: self.build_secrets(build)?, accounts };
            Box::pin(self.solve(resource, build, &draft, offer, log)).await
        };
        match (done, feeding.await) {
            (Err(_), Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::transient(format!("reading the source for the build: {error}")))
            }
            (done, _) => {
                let stages = done?;
                self.settle(&draft, &build.tag, log).await?;
                self.keep_stages(build, &stages).await
            }
        }
    }

    async fn keep_stages(&self, build: &Build, stages: &[String]) -> Result<(), Failure> {
        for (n, image) in stages.iter().enumerate() {
            self.tag(image, &format!("{}.s{n}", build.tag)).await?;
        }
        Ok(())
    }

    /// Values of the secrets that the manifest names for builds.
    fn build_secrets(&self, build: &Build) -> Result<std::collections::BTreeMap<String, String>, Failure> {
        let class = SecretClass::of(build.of.trust);
        let known = self.settings().secrets.of(&build.of.project, class);
        let value = |name: &String| match known.get(name) {
            Some(value) => Ok((name.clone(), value.clone())),
            None => {
                let project = &build.of.project;
                Err(Failure::permanent(format!("the build's secret {name} is not set for {project}; set it first")))
            }
        };
        build.secrets.iter().map(value).collect()
    }

    /// Labels behind every `FROM`. They keep layers of two trusts apart and never say that a container is ours.
    fn image_labels(&self, resource: &Resource, build: &Build) -> Vec<(&'static str, String)> {
        let mut all = vec![
            (labels::INSTANCE, self.inner.instance.clone()),
            (labels::PROJECT, build.of.project.to_string()),
            (labels::TRUST, build.of.trust.to_string()),
        ];
        if let Owner::Env(env) = &resource.id.owner {
            all.push((labels::ENV, env.to_string()));
        }
        all
    }

    /// Bases of foreign code: there already, since nothing is fetched on its behalf, by name, and nothing of ours.
    async fn check_bases(&self, bases: &[(usize, String)]) -> Result<(), Failure> {
        for (line, base) in bases {
            let refuse =
                |why: &str| Err(Failure::permanent(format!("Dockerfile line {line}: the base image {base} {why}")));
            let seen = match self.engine().await?.inspect_image(base).await {
                Err(error) if is_absent(&error) => {
                    return refuse("is not on this machine, and none is fetched for foreign code; pull it first");
                }
                seen => seen.map_err(|error| self.fail("looking at the base image", &error))?,
            };
            let tags = seen.repo_tags.unwrap_or_default();
            let named = tags.iter().chain(seen.repo_digests.iter().flatten()).any(|tag| {
                tag == base || tag.strip_suffix(":latest") == Some(base) || tag.ends_with(&format!("/{base}"))
            });
            let config = seen.config.unwrap_or_default();
            let labelled = config.labels.unwrap_or_default().contains_key(labels::INSTANCE);
            if labelled || tags.iter().any(|tag| tag.starts_with("sst-")) || !named {
                return refuse("may not be used by foreign code; name a public image by its tag");
            }
            if config.on_build.is_some_and(|steps| !steps.is_empty()) {
                return refuse("has ONBUILD steps, which foreign code may not use");
            }
        }
        Ok(())
    }
}
