//! Images that we built or pulled: known by tag, gone with everything that came with them.
//!
//! An image has its tag only once everything about it was checked; until then it goes by a draft's.
//! The last image of every earlier stage is tagged `<tag>.s<n>`: it is the cache of the next build, and this way lives
//! exactly as long as an image that was built with it. What is left untagged with our labels is of no use to anybody.

use std::collections::HashMap;

use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder};
use planner::identity::ProjectName;
use planner::names;
use planner::resource::{
    Backend, Failure, Fingerprint, Kind, Observed, Outputs, Owner, Phase, Resource, ResourceId, Run,
};

use super::{Docker, is_absent, is_conflict, labels};
use crate::Log;

impl Docker {
    /// The identity that the tag of this resource means, which must be its own.
    pub(super) fn own_tag(&self, resource: &Resource, tag: &str) -> Result<ResourceId, Failure> {
        let id = self.image_id(tag).map(|(id, _)| id).filter(|id| *id == resource.id);
        id.ok_or_else(|| Failure::permanent(format!("the tag {tag} is not the one of {}", resource.id)))
    }

    /// Gives the image its tag if it is fit to be one of ours; the name that it had goes.
    pub(super) async fn settle(&self, draft: &str, tag: &str, log: &Log) -> Result<(), Failure> {
        let seen = self.engine().await?.inspect_image(draft).await;
        let seen = seen.map_err(|error| self.fail("looking at the image", &error))?;
        let (size, most) = (u64::try_from(seen.size.unwrap_or(0)).unwrap_or(0), self.settings().image_size);
        log.line(&format!("the image has {}", megabytes(size)));
        let labelled = seen.config.and_then(|config| config.labels).unwrap_or_default();
        let unfit = if size > most {
            Some(format!(
                "the image has {}, and at most {} are allowed; leave out what it does not need to run",
                megabytes(size),
                megabytes(most)
            ))
        } else if labelled.contains_key(labels::KIND) {
            Some(format!("the image carries the label {}, which is reserved", labels::KIND))
        } else {
            None
        };
        if let Some(why) = unfit {
            self.untag(draft).await?;
            return Err(Failure::permanent(why));
        }
        self.tag(draft, tag).await?;
        self.untag(draft).await
    }

    /// Gives an image another name.
    pub(super) async fn tag(&self, image: &str, tag: &str) -> Result<(), Failure> {
        let (repository, name) = tag.rsplit_once(':').unwrap_or((tag, "latest"));
        let options = TagImageOptionsBuilder::default().repo(repository).tag(name).build();
        let tagged = self.engine().await?.tag_image(image, Some(options)).await;
        tagged.map_err(|error| self.fail("naming the image", &error))
    }

    /// Takes a name from an image; of one in use by a person's container only the name goes.
    pub(super) async fn untag(&self, reference: &str) -> Result<(), Failure> {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        match self.engine().await?.remove_image(reference, Some(options), None).await {
            Err(error) if !is_absent(&error) && !is_conflict(&error) => Err(self.fail("removing the image", &error)),
            _ => Ok(()),
        }
    }

    /// The identity and project that a reference of ours means; none for stages and for what is not ours.
    pub(super) fn image_id(&self, reference: &str) -> Option<(ResourceId, ProjectName)> {
        let (project, tag) = reference.strip_prefix(&format!("sst-{}/", self.inner.instance))?.split_once(':')?;
        let project: ProjectName = project.parse().ok()?;
        if stage_of(tag).is_some() || tag.ends_with(DRAFT) {
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

    pub(super) async fn image(&self, id: &ResourceId) -> Result<Option<Observed>, Failure> {
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

    pub(super) async fn references(&self, pattern: &str) -> Result<Vec<(String, ImageSummary)>, Failure> {
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
        for pattern in [format!("{pattern}.s*"), pattern] {
            for (tag, _) in self.references(&pattern).await? {
                self.untag(&tag).await?;
            }
        }
        self.tidy().await
    }
}

/// How the tag of an image ends that is not checked yet.
const DRAFT: &str = ".draft";

/// What the image of this tag is called until it is checked.
pub(super) fn draft(tag: &str) -> String {
    format!("{tag}{DRAFT}")
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// The number of the stage that a tag keeps.
fn stage_of(tag: &str) -> Option<u32> {
    tag.rsplit_once(".s")?.1.parse().ok()
}
