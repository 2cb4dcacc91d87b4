//! Images by CI: looked for in their registry, pulled by digest, checked, and kept under a tag of our own.

use bollard::errors::Error;
use bollard::models::{ImageInspect, OciPlatform};
use planner::identity::Sha;
use planner::resource::{Failure, Observed, Resource};
use planner::spec::Pulled;

use super::leftovers::UnderWay;
use super::{Docker, image};
use crate::Log;

/// The label in which CI says what it built.
const REVISION: &str = "org.opencontainers.image.revision";

impl Docker {
    /// Pulls the image, unless its tag exists. Waits for nothing: an image that is not there yet is told as such.
    pub(super) async fn ensure_pulled(
        &self,
        resource: &Resource,
        pulled: &Pulled,
        log: &Log,
    ) -> Result<Observed, Failure> {
        let id = self.own_tag(resource, &pulled.tag)?;
        if let Some(seen) = self.image(&id).await? {
            return Ok(seen);
        }
        self.admit(pulled.of.trust)?;
        if pulled.of.trust.is_foreign() {
            return Err(Failure::permanent("an image for foreign code is never pulled: it is built here"));
        }
        let by_digest = self.resolve(&pulled.reference).await?;
        // From here on drafts are there that somebody else must not clear away.
        let under_way = UnderWay::begin(self).await;
        let kept = self.keep(pulled, &by_digest, log).await;
        under_way.end().await;
        kept?;
        self.image(&id).await?.ok_or_else(|| Failure::transient("the image vanished right after it was pulled"))
    }

    /// The reference with the digest that it has now, if there is one for this machine.
    async fn resolve(&self, reference: &str) -> Result<String, Failure> {
        let account = self.account(reference)?;
        let credentials = account.as_ref().map(super::registry::Account::credentials);
        let found = match self.engine().await?.inspect_registry_image(reference, credentials).await {
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                return Err(Failure::waiting(format!("waiting for {reference}")));
            }
            found => found.map_err(|error| self.pull_failure(reference, account.as_ref(), &error))?,
        };
        let here = self.architecture().await?;
        check_platforms(reference, &found.platforms, &here)?;
        let digest = found.descriptor.digest.filter(|digest| !digest.is_empty());
        let digest =
            digest.ok_or_else(|| Failure::transient(format!("the registry names no digest of {reference}")))?;
        Ok(format!("{}@{digest}", super::registry::name_of(reference)))
    }

    /// Pulls it under the name of a draft, and gives it its own if it is what was wanted.
    async fn keep(&self, pulled: &Pulled, by_digest: &str, log: &Log) -> Result<(), Failure> {
        log.line(&format!("{} is {by_digest}", pulled.reference));
        let draft = image::draft(&pulled.tag);
        let before = self.is_here(by_digest).await?;
        self.pull(by_digest, log).await?;
        self.tag(by_digest, &draft).await?;
        if !before {
            // Ours for the moment of the pull only, unless somebody had it before.
            self.untag(by_digest).await?;
        }
        let seen = self.engine().await?.inspect_image(&draft).await;
        let seen = seen.map_err(|error| self.fail("looking at the image", &error))?;
        match check_revision(&pulled.reference, &seen, &pulled.of.sha) {
            Ok(note) => {
                note.into_iter().for_each(|note| log.line(&note));
                self.settle(&draft, &pulled.tag, log).await
            }
            Err(failure) => {
                self.untag(&draft).await?;
                Err(failure)
            }
        }
    }

    /// This machine's architecture, as images name it.
    async fn architecture(&self) -> Result<String, Failure> {
        let version = self.engine().await?.version().await;
        let version = version.map_err(|error| self.fail("asking for the engine's version", &error))?;
        Ok(version.arch.unwrap_or_default())
    }
}

fn check_platforms(reference: &str, platforms: &[OciPlatform], here: &str) -> Result<(), Failure> {
    let named =
        |platform: &OciPlatform| platform.architecture.clone().filter(|name| !matches!(&**name, "" | "unknown"));
    let mut all: Vec<String> = platforms.iter().filter_map(named).collect();
    all.sort();
    all.dedup();
    if all.is_empty() || here.is_empty() || all.iter().any(|one| one == here) {
        return Ok(());
    }
    Err(Failure::permanent(format!(
        "{reference} is for {}, and this machine is {here}; let CI build it for linux/{here}",
        all.join(" and ")
    )))
}

/// What the image says of the commit that it was built from. Answers a note for what is no commit.
fn check_revision(reference: &str, seen: &ImageInspect, sha: &Sha) -> Result<Option<String>, Failure> {
    let labels = seen.config.as_ref().and_then(|config| config.labels.as_ref());
    let Some(revision) = labels.and_then(|labels| labels.get(REVISION)).map(|text| text.trim().to_ascii_lowercase())
    else {
        return Ok(None);
    };
    let is_commit = (7..=40).contains(&revision.len()) && revision.chars().all(|c| c.is_ascii_hexdigit());
    if !is_commit {
        let shown: String = revision.chars().take(60).collect();
        return Ok(Some(format!("note: {REVISION} of {reference} is {shown:?}, which is no commit")));
    }
    if sha.to_string().starts_with(&revision) {
        return Ok(None);
    }
    Err(Failure::permanent(format!(
        "{reference} was built from another commit: its {REVISION} says {revision}, wanted is {sha}; let CI tag what it built"
    )))
}
