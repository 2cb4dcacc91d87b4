//! Containers that run once: started, followed into the log, and judged by how they ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{KillContainerOptions, LogsOptionsBuilder};
use futures_util::StreamExt;
use planner::resource::{Failure, Observed, Phase, Resource};
use planner::spec::Container;

use super::container::Found;
use super::output::lines;
use super::{Docker, is_absent, is_conflict, spoken};
use crate::{Listing, Log};

/// How long output may still come after the end.
const DRAIN: Duration = Duration::from_secs(5);

impl Docker {
    /// Runs a job to its end; takes up the one that runs, and reads the result of the one that ended. Being dropped
    /// leaves it running: the next call takes it up.
    pub(super) async fn ensure_job(
        &self,
        resource: &Resource,
        container: &Container,
        needs: &Listing,
        log: &Log,
    ) -> Result<Observed, Failure> {
        if let Some(failure) = self.full(&resource.id) {
            return Err(failure);
        }
        let found = self.fresh(resource, container, needs, log).await?;
        if found.status() != ContainerStateStatusEnum::EXITED {
            self.start(&resource.id, &found).await?;
        }
        let run = async {
            let (ended, ()) = tokio::join!(self.wait_for_end(&found.id), self.follow(&found.id, log));
            ended
        };
        match tokio::time::timeout(container.start_timeout, run).await {
            Ok(ended) => ended?,
            Err(_) => return Err(self.overdue(resource, container, &found).await),
        }
        self.judge(resource, container, &found).await
    }

    /// The job's container, unless it was cut off: then a new one.
    async fn fresh(
        &self,
        resource: &Resource,
        container: &Container,
        needs: &Listing,
        log: &Log,
    ) -> Result<Found, Failure> {
        let found = self.obtain(resource, container, needs, log).await?;
        if found.status() != ContainerStateStatusEnum::EXITED || !self.how_it_ended(&found.seen).await.lost {
            return Ok(found);
        }
        log.line(&format!("{} was cut off; running it again", resource.id.name));
        self.delete(&found.id).await?;
        self.obtain(resource, container, needs, log).await
    }

    /// Writes what the job prints, from its beginning until its end.
    async fn follow(&self, engine_id: &str, log: &Log) {
        let written = AtomicUsize::new(0);
        let copy = self.copy(engine_id, true, &written, log);
        tokio::pin!(copy);
        tokio::select! {
            () = &mut copy => {}
            _ = self.wait_for_end(engine_id) => { let _ = tokio::time::timeout(DRAIN, copy).await; }
        }
        // Whoever follows a container that ends at once may miss its last lines: those are read again.
        let _ = self.wait_for_end(engine_id).await;
        let _ = tokio::time::timeout(DRAIN, self.copy(engine_id, false, &written, log)).await;
    }

    /// Writes what was printed and has not been `written` yet: bytes of the engine's.
    async fn copy(&self, engine_id: &str, follow: bool, written: &AtomicUsize, log: &Log) {
        let Ok(engine) = self.engine().await else { return };
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(follow).build();
        let mut pieces = engine.logs(engine_id, Some(options));
        let mut read = 0;
        while let Some(Ok(piece)) = pieces.next().await {
            let bytes: &[u8] = piece.as_ref();
            let known = written.load(Ordering::Relaxed).saturating_sub(read).min(bytes.len());
            read += bytes.len();
            written.fetch_max(read, Ordering::Relaxed);
            log.write(&lines(&String::from_utf8_lossy(&bytes[known..])));
        }
    }

    /// Its time is up: it must not go on writing to the database that a later attempt uses.
    async fn overdue(&self, resource: &Resource, container: &Container, found: &Found) -> Failure {
        let name = &resource.id.name;
        let killed = match self.engine().await {
            Ok(engine) => engine.kill_container(&found.id, None::<KillContainerOptions>).await,
            Err(failure) => return failure,
        };
        if let Err(error) = killed
            && !is_absent(&error)
            && !is_conflict(&error)
        {
            return self.fail(&format!("killing {name}, whose time is up"), &error);
        }
        let said = self.last_words(&found.id, &container.of).await;
        let limit = spoken(container.start_timeout);
        Failure::permanent(format!("{name} did not end within {limit} and was killed{said}"))
    }

    async fn judge(&self, resource: &Resource, container: &Container, found: &Found) -> Result<Observed, Failure> {
        if let Some(failure) = self.full(&resource.id) {
            return Err(failure);
        }
        let name = &resource.id.name;
        let seen = self.find(&resource.id).await?.filter(|now| now.id == found.id);
        let seen = seen.ok_or_else(|| Failure::transient(format!("{name} was removed while it ran")))?;
        let ended = self.how_it_ended(&seen.seen).await;
        if ended.lost {
            return Err(Failure::transient(format!("{name} was cut off before it ended; it runs again")));
        }
        if ended.code != 0 {
            let said = self.last_words(&found.id, &container.of).await;
            return Err(Failure::permanent(format!("{}{said}", ended.text(name, container.memory))));
        }
        let vanished = || Failure::transient(format!("{name} vanished after it ended"));
        let observed = self.look(&resource.id).await?.ok_or_else(vanished)?;
        debug_assert!(matches!(observed.phase, Phase::Exited { code: 0, .. }));
        Ok(observed)
    }
}
