//! A watch on what containers write to their own disk. Trusted code and companions have a writable root, which the engine
//! does not bound: who writes more than the operator allows is stopped, and stays so until the container is another one.

use std::time::{Duration, Instant};

use bollard::query_parameters::{
    InspectContainerOptionsBuilder, KillContainerOptions, ListContainersOptionsBuilder, StopContainerOptionsBuilder,
};
use planner::resource::{Failure, Kind, ResourceId};

use super::{Docker, is_absent, is_conflict, labels, lock};

/// How often all are looked at, at most.
const EVERY: Duration = Duration::from_secs(60);

/// Looking at one means that the engine walks through all files that it wrote: it may take this part of the time at most.
const SHARE: u32 = 10;

impl Docker {
    /// Watches for ever what containers write.
    pub async fn watch_disk(&self) {
        loop {
            let began = Instant::now();
            if let Err(failure) = self.look_at_disk().await {
                tracing::debug!(%failure, "could not look at what containers have written");
            }
            tokio::time::sleep(EVERY.max(began.elapsed() * SHARE)).await;
        }
    }

    /// Looks once, one after the other, at all containers of ours that run, and stops those that wrote too much.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn look_at_disk(&self) -> Result<(), Failure> {
        let mut filters =
            labels::filter([format!("{}={}", labels::INSTANCE, self.inner.instance), labels::KIND.to_owned()]);
        filters.insert("status".to_owned(), vec!["running".to_owned()]);
        let engine = self.engine().await?;
        let running = engine.list_containers(Some(ListContainersOptionsBuilder::default().filters(&filters).build()));
        let running = running.await.map_err(|error| self.fail("listing containers", &error))?;
        for container in running {
            let ours = container.labels.as_ref().and_then(|written| labels::read(&self.inner.instance, written));
            let (Some(ours), Some(engine_id)) = (ours, container.id) else { continue };
            let options = InspectContainerOptionsBuilder::default().size(true).build();
            let wrote = match engine.inspect_container(&engine_id, Some(options)).await {
                Err(error) if is_absent(&error) => continue,
                seen => seen.map_err(|error| self.fail("looking at what a container wrote", &error))?.size_rw,
            };
            let wrote = wrote.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
            if wrote > self.settings().disk {
                self.stop_full(&ours.id, ours.companion, &engine_id, wrote).await?;
            }
        }
        Ok(())
    }

    /// Why this one may not run any more, if it was stopped for what it wrote.
    pub(super) fn full(&self, id: &ResourceId) -> Option<Failure> {
        lock(&self.inner.full).get(id).map(|why| Failure::permanent(why.clone()))
    }

    async fn stop_full(&self, id: &ResourceId, companion: bool, engine_id: &str, wrote: u64) -> Result<(), Failure> {
        let why = reason(&id.name, companion, wrote, self.settings().disk);
        tracing::warn!(%id, %why, "stopping a container");
        // First the reason: who waits for the container hears of its end at once, and asks why.
        lock(&self.inner.full).insert(id.clone(), why);
        let engine = self.engine().await?;
        let done = if id.kind == Kind::Job {
            // It must not go on writing, and there is nobody to ask whether it obeys.
            engine.kill_container(engine_id, None::<KillContainerOptions>).await
        } else {
            lock(&self.inner.rested).insert(engine_id.to_owned());
            let seconds = i32::try_from(self.settings().stop_timeout.as_secs()).unwrap_or(i32::MAX);
            engine.stop_container(engine_id, Some(StopContainerOptionsBuilder::default().t(seconds).build())).await
        };
        match done {
            Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                Err(self.fail(&format!("stopping {}", id.name), &error))
            }
            _ => Ok(()),
        }
    }
}

fn reason(name: &str, companion: bool, wrote: u64, limit: u64) -> String {
    let remedy = if companion { "give it data" } else { "write to the bucket or set tmp" };
    format!("{name} wrote {} to its own disk; the limit is {}; {remedy}", spoken(wrote), spoken(limit))
}

/// Bytes for people, rounded up: `2.1 GB`, `2 GB`, `512 MB`.
fn spoken(bytes: u64) -> String {
    let (size, unit) = if bytes < 1 << 30 { (1 << 20, "MB") } else { (1 << 30, "GB") };
    let tenths = bytes.saturating_mul(10).div_ceil(size);
    let rest = if tenths.is_multiple_of(10) { String::new() } else { format!(".{}", tenths % 10) };
    format!("{}{rest} {unit}", tenths / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_both_sizes_and_the_remedy() {
        let wrote = (2 << 30) + 1;
        assert_eq!(
            reason("web", false, wrote, 2 << 30),
            "web wrote 2.1 GB to its own disk; the limit is 2 GB; write to the bucket or set tmp"
        );
        assert!(
            reason("cache", true, 513 << 20, 512 << 20)
                .ends_with("513 MB to its own disk; the limit is 512 MB; give it data")
        );
    }
}
