//! Several projects that are asked for at about the same time are listed by one query.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use planner::event::Head;
use planner::identity::{ProjectName, Ref};
use planner::resource::Failure;
use tokio::sync::oneshot;

use super::GitHub;

/// So long others may join.
const WINDOW: Duration = Duration::from_millis(50);

type Answer = oneshot::Sender<Result<Vec<Head>, Failure>>;

/// Who waits for the next listing.
pub(super) type Gathering = Mutex<Vec<(ProjectName, BTreeSet<Ref>, Answer)>>;

impl GitHub {
    /// The heads of one project, listed together with those of others that are asked for now.
    pub(super) async fn gathered(
        self: Arc<Self>,
        project: ProjectName,
        also: BTreeSet<Ref>,
    ) -> Result<Vec<Head>, Failure> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((project, also, answer));
            waiting.len() == 1
        };
        if first {
            // A task of its own: whoever asked first may go away, and the others still wait.
            tokio::spawn(self.list());
        }
        answered.await.unwrap_or_else(|_| Err(Failure::transient("the listing was given up")))
    }

    async fn list(self: Arc<Self>) {
        tokio::time::sleep(WINDOW).await;
        let waiting = std::mem::take(&mut *self.gathering.lock().unwrap_or_else(PoisonError::into_inner));
        let mut asked: BTreeMap<ProjectName, BTreeSet<Ref>> = BTreeMap::new();
        for (project, also, _) in &waiting {
            asked.entry(project.clone()).or_default().extend(also.iter().cloned());
        }
        let answers = self.heads(&asked).await;
        for (project, _, answer) in waiting {
            let gone = || Err(Failure::transient("the project is not configured any more"));
            let _ = answer.send(answers.get(&project).cloned().unwrap_or_else(gone));
        }
    }
}
