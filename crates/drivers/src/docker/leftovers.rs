//! What builds leave, and one-off containers of a controller that was killed: the engine stops a cut build by itself, and what is then without a tag is ours to clear away.

use std::time::Duration;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use planner::resource::Failure;
use tokio::sync::OwnedRwLockReadGuard;

use super::{Docker, image, is_absent, is_conflict, labels};

/// Stands in the hosts file of every container of our builds and in no other: no image carries it, so what a build left
/// behind is told from what a person started.
pub(super) const MARK: &str = "build.sidestage.invalid";

/// How often, and how long apart, what a cut build leaves is looked for: the engine takes about two seconds to stop.
const SWEEPS: u32 = 20;
const SWEEP_EVERY: Duration = Duration::from_millis(500);

impl Docker {
    /// Clears away what builds of ours left: stopped build containers and images without a tag. Only while no build runs.
    async fn sweep(&self) -> Result<(), Failure> {
        let instance = format!("{}={}", labels::INSTANCE, self.inner.instance);
        self.sweep_containers(&instance).await?;
        for (draft, _) in self.references(&image::draft(&format!("sst-{}/*:*", self.inner.instance))).await? {
            self.untag(&draft).await?;
        }
        let mut filters = labels::filter([instance]);
        filters.insert("dangling".to_owned(), vec!["true".to_owned()]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = self.engine().await?.list_images(Some(options)).await;
        for image in images.map_err(|error| self.fail("listing what builds left", &error))? {
            let options = RemoveImageOptionsBuilder::default().build();
            match self.engine().await?.remove_image(&image.id, Some(options), None).await {
                Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                    return Err(self.fail("removing what builds left", &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn sweep_containers(&self, instance: &str) -> Result<(), Failure> {
        let options =
            ListContainersOptionsBuilder::default().all(true).filters(&labels::filter([instance.to_owned()])).build();
        let seen = self.engine().await?.list_containers(Some(options)).await;
        for container in seen.map_err(|error| self.fail("listing what builds left", &error))? {
            let kind = container.labels.as_ref().and_then(|labels| labels.get(labels::KIND));
            let lost = self.is_lost_oneoff(kind, container.names.as_deref().unwrap_or_default());
            let probe = kind.is_none_or(|kind| kind == labels::PROBE);
            let (Some(id), true) = (container.id, probe || lost) else { continue };
            if kind.is_none() && !self.is_marked(&id).await? {
                continue;
            }
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            match self.engine().await?.remove_container(&id, Some(options)).await {
                Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                    return Err(self.fail("removing what a build left", &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn is_marked(&self, container: &str) -> Result<bool, Failure> {
        match self.engine().await?.inspect_container(container, None).await {
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(self.fail("looking at what a build left", &error)),
            Ok(seen) => {
                let hosts = seen.host_config.and_then(|host| host.extra_hosts).unwrap_or_default();
                Ok(hosts.iter().any(|host| host.starts_with(MARK)))
            }
        }
    }

    /// Clears away what an earlier run of Sidestage left half built.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn tidy(&self) -> Result<(), Failure> {
        if let Ok(_alone) = self.inner.builds.clone().try_write_owned() {
            self.sweep().await?;
        }
        Ok(())
    }
}

/// A build in progress. However it ends, also by being dropped, what it left is cleared away.
pub(super) struct UnderWay {
    docker: Docker,
    holds: Option<OwnedRwLockReadGuard<()>>,
}

impl UnderWay {
    pub(super) async fn begin(docker: &Docker) -> UnderWay {
        let holds = Some(docker.inner.builds.clone().read_owned().await);
        UnderWay { docker: docker.clone(), holds }
    }

    /// The engine has answered: what it left, it has left by now.
    pub(super) async fn end(mut self) {
        self.holds = None;
        if let Err(failure) = self.docker.tidy().await {
            tracing::debug!(%failure, "could not clear away what a build left");
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.holds.take().is_none() {
            return;
        }
        let docker = self.docker.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            for _ in 0..SWEEPS {
                // While another build runs nothing can be told apart; its end will look again.
                if let Err(failure) = docker.tidy().await {
                    tracing::debug!(%failure, "could not clear away what a build left");
                }
                tokio::time::sleep(SWEEP_EVERY).await;
            }
        });
    }
}
