//! Images of a generation: built here, or by CI.

use std::collections::BTreeMap;
use std::time::Duration;

use super::draft::Draft;
use crate::fingerprint::{digest, of_image};
use crate::interpolate::fill;
use crate::manifest::{BuildRecipe, reference};
use crate::names;
use crate::resource::{Backend, Kind, Owner, Resource, ResourceId, Run};
use crate::spec::{Build, Pulled, Spec};

/// How long one build, or one pull, may take.
const BUILD: Duration = Duration::from_secs(15 * 60);

/// Images of a generation: those of applications by their name. Two that have the same recipe are one.
#[derive(Debug, Default)]
pub(super) struct Images {
    by_id: BTreeMap<ResourceId, Resource>,
    of_apps: BTreeMap<String, ResourceId>,
}

impl Images {
    /// The image of an application, if it has one of its own.
    pub(super) fn of_app(&self, name: &str) -> Option<&ResourceId> {
        self.of_apps.get(name)
    }

    pub(super) fn into_parts(self) -> impl Iterator<Item = Resource> {
        self.by_id.into_values()
    }

    fn put(&mut self, image: Resource) -> ResourceId {
        let id = image.id.clone();
        self.by_id.insert(id.clone(), image);
        id
    }
}

impl Draft<'_> {
    /// The image of the web process, and all that there are.
    pub(super) fn images(&self) -> Result<(ResourceId, Images), String> {
        let mut images = Images::default();
        let main = images.put(self.image("build", &self.manifest.build)?);
        for (name, app) in &self.manifest.apps {
            if let Some(recipe) = &app.build {
                let image = images.put(self.image(&format!("app.{name}.build"), recipe)?);
                images.of_apps.insert(name.clone(), image);
            }
        }
        Ok((main, images))
    }

    /// Foreign code is always built here, whatever CI may have pushed.
    fn image(&self, key: &str, recipe: &BuildRecipe) -> Result<Resource, String> {
        match recipe.image.as_ref().filter(|_| !self.of.trust.is_foreign()) {
            Some(template) => self.pulled(key, template),
            None => self.built(key, recipe),
        }
    }

    fn pulled(&self, key: &str, template: &str) -> Result<Resource, String> {
        let (pull, branch) = (&self.address.pull, &self.address.branch);
        let reference =
            reference::fill(template, &self.of.sha, pull, branch).map_err(|why| format!("{key}.image: {why}"))?;
        let mut parts = vec!["image".to_owned(), template.to_owned()];
        if self.begun.rebuilt > 0 {
            parts.push(self.begun.rebuilt.to_string());
        }
        let name = digest(&parts, 12);
        let tag = self.tag(&format!("{}-{name}", self.env));
        let wait = self.policy.projects.get(&self.of.project).map_or(Duration::ZERO, |project| project.image_wait);
        let spec = Spec::Pulled(Pulled { of: self.of.clone(), reference, tag: tag.clone(), wait });
        Ok(image_part(Owner::Env(self.env.clone()), name, spec, &tag))
    }

    /// Same tree, same recipe, same trust is one build. A rebuild is another recipe; foreign images are shared with nobody.
    fn built(&self, key: &str, recipe: &BuildRecipe) -> Result<Resource, String> {
        let foreign = self.of.trust.is_foreign();
        let args = self.args(key, recipe)?;
        let secrets = if foreign { Vec::new() } else { recipe.secrets.clone() };
        let recipe_hash = digest(&self.recipe_parts(recipe, &args, &secrets), 12);
        let (owner, name, tag) = if foreign {
            let tag = format!("{}-{recipe_hash}", self.env);
            (Owner::Env(self.env.clone()), recipe_hash, tag)
        } else {
            let name = format!("{}-{recipe_hash}", &self.source.tree.to_string()[..12]);
            (Owner::Project(self.of.project.clone(), self.of.trust), name.clone(), name)
        };
        let tag = self.tag(&tag);
        let spec = Spec::Image(Build {
            of: self.of.clone(),
            tag: tag.clone(),
            dockerfile: recipe.dockerfile.clone(),
            context: recipe.context.clone(),
            target: recipe.target.clone(),
            args,
            secrets,
            no_cache: foreign || self.begun.rebuilt > 0,
        });
        Ok(image_part(owner, name, spec, &tag))
    }

    /// Build arguments, filled in.
    fn args(&self, key: &str, recipe: &BuildRecipe) -> Result<BTreeMap<String, String>, String> {
        let values = self.injected(self.manifest.port);
        let filled = recipe.args.iter().map(|(name, template)| {
            let value = fill(template, &values, None).map_err(|error| format!("{key}.args.{name}: {error}"))?;
            Ok((name.clone(), value))
        });
        filled.collect()
    }

    /// What makes two builds of one tree the same. Names of secrets are in it, versions are not: a changed one builds nothing.
    fn recipe_parts(&self, recipe: &BuildRecipe, args: &BTreeMap<String, String>, secrets: &[String]) -> Vec<String> {
        let mut parts = vec![recipe.dockerfile.clone(), recipe.context.clone()];
        parts.push(recipe.target.clone().unwrap_or_default());
        parts.extend(args.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
        if !secrets.is_empty() {
            // No argument can be called so.
            parts.push("\0secrets".to_owned());
            parts.extend_from_slice(secrets);
        }
        // What is fetched beside the tree is another image of it. No argument can be called so either.
        let source = self.policy.projects.get(&self.of.project).map(|project| project.source).unwrap_or_default();
        let fetched = [(source.submodules, "\0submodules"), (source.lfs, "\0lfs")];
        parts.extend(fetched.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        if self.begun.rebuilt > 0 {
            parts.extend([self.env.to_string(), self.begun.rebuilt.to_string()]);
        }
        parts
    }

    fn tag(&self, tag: &str) -> String {
        format!("{}:{tag}", names::image_repository(self.key, &self.of.project))
    }
}

fn image_part(owner: Owner, name: String, spec: Spec, tag: &str) -> Resource {
    let id = ResourceId { backend: Backend::Engine, owner, generation: 0, kind: Kind::Image, name };
    Resource { id, spec, run: Run::Running, needs: Vec::new(), deadline: BUILD, fingerprint: of_image(tag) }
}
