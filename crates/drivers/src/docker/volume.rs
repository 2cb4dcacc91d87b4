//! Data of companions: a volume of the engine on a bounded disk, one for each generation and service.
//!
//! The volume is made first and removed last, and its listing tells of the disk: what a crash leaves is found by it.

use std::collections::HashMap;

use bollard::models::{Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptions};
use planner::identity::EnvId;
use planner::names;
use planner::resource::{Failure, Kind, Observed, Outputs, Phase, Resource, ResourceId, Run};
use planner::spec::Origin;

use super::disk::Disk;
use super::network::env_of;
use super::{Docker, is_absent, labels};

/// Where data is mounted in an image that declares no volume.
const ELSE: &str = "/data";

impl Docker {
    /// Makes the volume and the disk behind it, or finds them.
    pub(super) async fn ensure_volume(&self, resource: &Resource, of: &Origin, size: u64) -> Result<Observed, Failure> {
        let (env, name) = (env_of(&resource.id)?, name_of(&resource.id)?);
        let disk = self.disk(&resource.id)?;
        let options = [
            ("type", "ext4".to_owned()),
            ("device", disk.link().to_string_lossy().into_owned()),
            ("o", "nosuid,nodev".to_owned()),
        ];
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            driver: Some("local".to_owned()),
            driver_opts: Some(options.map(|(key, value)| (key.to_owned(), value)).into()),
            labels: Some(labels::write(&self.inner.instance, resource, env, of)),
            ..VolumeCreateRequest::default()
        };
        let made = self.engine().await?.create_volume(request).await;
        let made = made.map_err(|error| self.fail("making the volume", &error))?;
        // The engine answers with the one that there is.
        let ours = labels::read(&self.inner.instance, &made.labels).filter(|ours| ours.id == resource.id);
        let Some(ours) = ours else {
            return Err(Failure::transient(format!(
                "the name {name} is taken by a volume that is not ours; rename that"
            )));
        };
        disk.make(size).await?;
        Ok(observed(ours, Phase::Whole, made.name))
    }

    /// Our volumes, all or one environment's.
    pub(super) async fn volumes(&self, env: Option<&EnvId>) -> Result<Vec<(ResourceId, Observed)>, Failure> {
        let mut wanted = vec![format!("{}={}", labels::INSTANCE, self.inner.instance), labels::KIND.to_owned()];
        wanted.extend(env.map(|env| format!("{}={env}", labels::ENV)));
        let options = ListVolumesOptionsBuilder::default().filters(&labels::filter(wanted)).build();
        let seen = self.engine().await?.list_volumes(Some(options)).await;
        let seen = seen.map_err(|error| self.fail("listing volumes", &error))?.volumes.unwrap_or_default();
        let ours = seen.into_iter().filter_map(|volume| {
            let ours = labels::read(&self.inner.instance, &volume.labels)?;
            let there = self.disk(&ours.id).is_ok_and(|disk| disk.is_there());
            let phase = if there { Phase::Whole } else { Phase::Partial };
            Some((ours.id.clone(), observed(ours, phase, volume.name)))
        });
        Ok(ours.collect())
    }

    /// Makes sure that a container which is about to start finds its data: devices do not outlast the machine's boot.
    pub(super) async fn attach_data(&self, volume: Option<&ResourceId>) -> Result<(), Failure> {
        match volume {
            Some(volume) => self.disk(volume)?.attach().await,
            None => Ok(()),
        }
    }

    /// Removes the disk, then the volume. One that a container still has stays.
    pub(super) async fn remove_volume(&self, id: &ResourceId) -> Result<(), Failure> {
        let name = name_of(id)?;
        let filters = HashMap::from([("volume".to_owned(), vec![name.clone()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let users = self.engine().await?.list_containers(Some(options)).await;
        if !users.map_err(|error| self.fail("removing the volume", &error))?.is_empty() {
            return Err(Failure::transient(format!("the volume {name} is still in use")));
        }
        self.disk(id)?.remove().await?;
        match self.engine().await?.remove_volume(&name, None::<RemoveVolumeOptions>).await {
            Err(error) if !is_absent(&error) => Err(self.fail("removing the volume", &error)),
            _ => Ok(()),
        }
    }

    fn disk(&self, id: &ResourceId) -> Result<Disk, Failure> {
        Ok(Disk::new(&self.settings().disks, &name_of(id)?))
    }
}

/// Where the volume stands in a container: where its image keeps data, by its own word.
pub(super) fn mount(volume: &ResourceId, declared: &[String]) -> Result<Mount, Failure> {
    Ok(Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name_of(volume)?),
        target: Some(declared.iter().min().map_or(ELSE, String::as_str).to_owned()),
        ..Mount::default()
    })
}

/// The volume of a container of this identity.
pub(super) fn volume_of(id: &ResourceId) -> ResourceId {
    ResourceId { kind: Kind::Volume, ..id.clone() }
}

/// Volumes have names of their own, so that of a container serves.
fn name_of(id: &ResourceId) -> Result<String, Failure> {
    Ok(names::container(env_of(id)?, id.generation, &id.name))
}

fn observed(ours: labels::Ours, phase: Phase, name: String) -> Observed {
    Observed {
        fingerprint: ours.fingerprint,
        phase,
        run: Run::Running,
        uses: Vec::new(),
        outputs: Outputs { id: Some(name), commit: ours.commit, ..Outputs::default() },
    }
}
