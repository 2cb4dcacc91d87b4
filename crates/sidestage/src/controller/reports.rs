//! What forges are to show goes there, beside the loop; how that went comes back to it.

use planner::event::Event;
use planner::forge::Report;
use planner::identity::ProjectName;
use planner::resource::Failure;
use tracing::warn;

use super::{Controller, Input};

impl Controller {
    /// Shows a report.
    pub(super) fn tell(&self, project: ProjectName, report: Report) {
        let (forge, input) = (self.setup.forges.get(&project), self.input.clone());
        tokio::spawn(async move {
            let result = match forge {
                Some(forge) => forge.report(&report).await,
                None => Err(Failure::permanent(format!("no forge of {project}"))),
            };
            if let Err(failure) = &result {
                warn!(%project, place = ?report.place, %failure, "a report could not be shown");
            }
            let _ = input.send(Input::Event(Event::Told { project, place: report.place, result }));
        });
    }
}
