//! A story, line by line, for whoever replays a seed.

use planner::event::{Event, Step};
use planner::resource::Action;

use super::{Sim, Violation};
use crate::simulation::oracle::commits;
use crate::simulation::world::Due;

impl Sim {
    /// A line of the story.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            let at = self.world.now.0 - 1_790_000_000_000;
            let line = format!("{:>9}.{:03} {}", at / 1000, at % 1000, line());
            self.trace.push(line);
        }
    }

    /// The lines of the story since they were taken last.
    pub fn take_trace(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }

    /// Ends the story with a broken rule.
    pub fn violation(&mut self, what: impl Into<String>) -> Violation {
        let what = what.into();
        self.say(|| format!("!!! {what}"));
        Violation { what, trace: std::mem::take(&mut self.trace) }
    }

    pub(super) fn say_due(&mut self, due: &Due) {
        if self.tracing && !matches!(due, Due::Errand(_) | Due::Reply { .. }) {
            let line = match due {
                Due::Land(number) => match self.world.calls.get(number) {
                    Some(call) => {
                        format!("  .. lands {} {:?} ({:?})", call.call.0, call.action.id().to_string(), call.trouble)
                    }
                    None => return,
                },
                other => format!("  .. {other:?}"),
            };
            self.say(|| line);
        }
    }

    pub(super) fn say_step(&mut self, step: &Step) {
        if !self.tracing {
            return;
        }
        for row in &step.persist {
            self.say(|| {
                format!("  == {} {} {}", row.table.as_str(), row.key, row.value.as_deref().unwrap_or("(deleted)"))
            });
        }
        for (call, action) in &step.start {
            let line = match action {
                Action::Ensure(resource) => format!("ensure {}", resource.id),
                Action::Rest(id, run) => format!("rest {id} {run:?}"),
                Action::Remove(id, reason) => format!("remove {id} {reason:?}"),
            };
            self.say(|| format!("  -> {} {line}", call.0));
        }
        for call in &step.cancel {
            self.say(|| format!("  -> cancel {}", call.0));
        }
        for (request, answer) in &step.replies {
            self.say(|| format!("  -> reply {} {answer:?}", request.0));
        }
        if let Some((_, view)) = &step.publish {
            let commits = commits(view);
            let line: Vec<String> = commits
                .map(|one| {
                    format!("{}/{}:{}:{}/{}", one.sha.short(), one.trust, one.env, one.state.as_str(), one.generation)
                })
                .collect();
            self.say(|| format!("  ## {}", line.join(" ")));
        }
    }
}

pub(super) fn brief(event: &Event) -> String {
    match event {
        Event::Refs { project, heads } => {
            let heads: Vec<String> = heads
                .iter()
                .map(|head| format!("{}={}{}", head.name, head.sha.short(), if head.foreign { "*" } else { "" }))
                .collect();
            format!("refs of {project}: {}", heads.join(" "))
        }
        Event::Listed { backend, began, seen } => {
            let seen = match seen {
                Ok(seen) => seen.iter().map(|(id, one)| format!("{id}:{:?}:{:?}", one.phase, one.run)).collect(),
                Err(failure) => vec![failure.to_string()],
            };
            format!("listed {backend:?} {}: {}", began.ticket, seen.join(" "))
        }
        Event::Returned { call, result } => match result {
            Ok(_) => format!("returned {}: ok", call.0),
            Err(failure) => format!("returned {}: {failure}", call.0),
        },
        Event::Read { sha, source, .. } => format!("read {}: {}", sha.short(), source.is_ok()),
        other => format!("{other:?}"),
    }
}
