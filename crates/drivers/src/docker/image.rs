//! Images: built from the commit's tree, known by tag, gone with everything that their builds left.
//!
//! The last image of every earlier stage is tagged `<tag>.s<n>`: it is the cache of the next build, and this way lives
//! exactly as long as an image that was built with it. What is left untagged with our labels is of no use to anybody.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ImageSummary;
use bollard::query_parameters::{
    BuildImageOptions, BuildImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
    TagImageOptionsBuilder,
};
use futures_util::StreamExt;
use planner::identity::ProjectName;
use planner::names;
use planner::resource::{
    Backend, Failure, Fingerprint, Kind, Observed, Outputs, Owner, Phase, Resource, ResourceId, Run,
};
use planner::spec::Build;
use tokio_stream::wrappers::ReceiverStream;

use super::build::{self, Progress};
use super::dockerfile::Dockerfile;
use super::leftovers::{MARK, UnderWay};
use super::{Docker, is_absent, is_conflict, labels, spoken};
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
        let (id, _) = self
            .image_id(&build.tag)
            .filter(|(id, _)| *id == resource.id)
            .ok_or_else(|| Failure::permanent(format!("the tag {} is not the one of {}", build.tag, resource.id)))?;
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
        let context = opened.map_err(|_| Failure::transient("reading the source of the build failed"))??;
        let dockerfile = Dockerfile::read(&context.dockerfile).map_err(Failure::permanent)?;
        dockerfile.check().map_err(Failure::permanent)?;
        if build.of.trust.is_foreign() {
            let bases = dockerfile.check_foreign(&build.args).map_err(Failure::permanent)?;
            self.check_bases(&bases).await?;
        }
        for note in &context.notes {
            log.line(&format!("note: {note}"));
        }
        if let Some(syntax) = &dockerfile.syntax {
            log.line(&format!("note: `# syntax={syntax}` has no effect here"));
        }
        let written = dockerfile.write(&self.image_labels(resource, build));
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        let feeding = tokio::task::spawn_blocking(move || build::feed(context, &written, &sender));
        // The answer begins only when the engine has the whole context.
        let engine = self.engine().await?.clone().with_timeout(resource.deadline.max(Duration::from_secs(1)));
        let body = bollard::body_try_stream(ReceiverStream::new(receiver));
        let mut account = engine.build_image(self.build_options(resource, build), None, Some(body));
        let mut progress = Progress::new(log);
        while let Some(info) = account.next().await {
            match info {
                Ok(info) => progress.take(&info),
                Err(error) => {
                    drop(account);
                    return Err(self.build_failure(&error, &mut progress, feeding.await));
                }
            }
        }
        progress.finish();
        self.keep_stages(build, &progress.stages).await
    }

    fn build_failure(
        &self,
        error: &Error,
        progress: &mut Progress<'_>,
        fed: Result<io::Result<()>, tokio::task::JoinError>,
    ) -> Failure {
        match (error, fed) {
            (_, Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => {
                Failure::transient(format!("reading the source for the build: {error}"))
            }
            (Error::DockerStreamError { error }, _) => progress.failure(error),
            (Error::DockerResponseServerError { message, .. }, _) => progress.failure(message),
            (error, _) => self.fail("building", error),
        }
    }

    fn build_options(&self, resource: &Resource, build: &Build) -> BuildImageOptions {
        let memory = i32::try_from(self.settings().build_memory).unwrap_or(i32::MAX);
        let arguments: HashMap<&str, &str> = build.args.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        // On the final image only, since they would spoil the cache of every layer.
        let labels = HashMap::from([
            (labels::FINGERPRINT, resource.fingerprint.0.clone()),
            (labels::SHA, build.of.sha.to_string()),
        ])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<HashMap<String, String>>();
        let options = BuildImageOptionsBuilder::default()
            .dockerfile(build::DOCKERFILE)
            .t(&build.tag)
            .rm(true)
            .forcerm(true)
            .nocache(build.no_cache || build.of.trust.is_foreign())
            .memory(memory)
            .memswap(memory)
            .networkmode("default")
            .extrahosts(&format!("{MARK}:127.0.0.1"))
            .buildargs(&arguments)
            .labels(&labels);
        match &build.target {
            Some(target) => options.target(target).build(),
            None => options.build(),
        }
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

    async fn keep_stages(&self, build: &Build, stages: &[String]) -> Result<(), Failure> {
        let Some((repository, tag)) = build.tag.rsplit_once(':') else { return Ok(()) };
        for (n, image) in stages.iter().enumerate() {
            let options = TagImageOptionsBuilder::default().repo(repository).tag(&format!("{tag}.s{n}")).build();
            let tagged = self.engine().await?.tag_image(image, Some(options)).await;
            tagged.map_err(|error| self.fail("keeping a stage of the build", &error))?;
        }
        Ok(())
    }

    /// The identity and project that a reference of ours means; none for stages and for what is not ours.
    pub(super) fn image_id(&self, reference: &str) -> Option<(ResourceId, ProjectName)> {
        let (project, tag) = reference.strip_prefix(&format!("sst-{}/", self.inner.instance))?.split_once(':')?;
        let project: ProjectName = project.parse().ok()?;
        if stage_of(tag).is_some() {
            return None;
        }
        let (first, rest) = tag.split_once('-')?;
        let (owner, name) = match first.parse() {
            Ok(env) => (Owner::Env(env), rest),
            Err(_) => (Owner::Project(project.clone(), planner::identity::Trust::Trusted), tag),
        };
        let id =
            ResourceId { backend: Backend::Engine, owner, generation: 0, kind: Kind::Image, name: name.to_owned() };
        Some((id, project))
    }

    /// The reference's pattern that finds one image: an environment's id does not tell the project.
    fn pattern(&self, id: &ResourceId) -> Option<String> {
        match &id.owner {
            Owner::Env(env) => Some(format!("sst-{}/*:{env}-{}", self.inner.instance, id.name)),
            Owner::Project(project, _) => {
                Some(format!("{}:{}", names::image_repository(&self.inner.key, project), id.name))
            }
            _ => None,
        }
    }

    async fn image(&self, id: &ResourceId) -> Result<Option<Observed>, Failure> {
        let Some(pattern) = self.pattern(id) else { return Ok(None) };
        Ok(self.images(&pattern).await?.into_iter().find(|(seen, _)| seen == id).map(|(_, seen)| seen))
    }

    /// Our images whose reference matches.
    pub(super) async fn images(&self, pattern: &str) -> Result<Vec<(ResourceId, Observed)>, Failure> {
        let tagged = self.references(pattern).await?;
        let ours = tagged.into_iter().filter_map(|(tag, image)| {
            let (id, _) = self.image_id(&tag)?;
            let fingerprint = image.labels.get(labels::FINGERPRINT).cloned().unwrap_or_default();
            let commit = labels::commit(&image.labels);
            let outputs = Outputs { id: Some(image.id), commit, ..Outputs::default() };
            let seen = Observed {
                fingerprint: Fingerprint(fingerprint),
                phase: Phase::Whole,
                run: Run::Running,
                uses: Vec::new(),
                outputs,
            };
            Some((id, seen))
        });
        Ok(ours.collect())
    }

    async fn references(&self, pattern: &str) -> Result<Vec<(String, ImageSummary)>, Failure> {
        let filters = HashMap::from([("reference", vec![pattern])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = self.engine().await?.list_images(Some(options)).await;
        let images = images.map_err(|error| self.fail("listing images", &error))?;
        Ok(images
            .into_iter()
            .flat_map(|image| image.repo_tags.clone().into_iter().map(move |tag| (tag, image.clone())))
            .collect())
    }

    /// Removes the image's tag and those of its stages, then what nobody needs any more.
    pub(super) async fn remove_image(&self, id: &ResourceId) -> Result<(), Failure> {
        let Some(pattern) = self.pattern(id) else { return Ok(()) };
        let options = || Some(RemoveImageOptionsBuilder::default().force(true).build());
        for pattern in [format!("{pattern}.s*"), pattern] {
            for (tag, _) in self.references(&pattern).await? {
                // Forced: of an image in use by a person's container only the tag goes.
                match self.engine().await?.remove_image(&tag, options(), None).await {
                    Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                        return Err(self.fail("removing the image", &error));
                    }
                    _ => {}
                }
            }
        }
        self.tidy().await
    }
}

/// The number of the stage that a tag keeps.
fn stage_of(tag: &str) -> Option<u32> {
    tag.rsplit_once(".s")?.1.parse().ok()
}
