//! Waking: however many requests wait for an environment, the loop hears one knock a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use planner::identity::EnvId;
use planner::tables::{Door, EnvRoute, Route, Tables};
use planner::view::State;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::doors::Doors;

/// When each environment was last knocked for.
#[derive(Debug)]
pub(crate) struct Doorbell {
    every: Duration,
    rung: Mutex<BTreeMap<EnvId, Instant>>,
}

impl Doorbell {
    pub(crate) fn new(every: Duration) -> Self {
        Doorbell { every, rung: Mutex::default() }
    }

    /// Holds the caller until the host no longer waits for its environment to wake. `false`: this long was not enough.
    pub(crate) async fn hold(&self, doors: &Doors, host: &str, env: &EnvId, wait: Duration) -> bool {
        let mut tables = doors.tables.clone();
        let deadline = sleep(wait);
        tokio::pin!(deadline);
        loop {
            self.ring(&doors.knock, env);
            tokio::select! {
                // An error means that the loop is gone: nobody will wake anything.
                come = tables.wait_for(|tables| !is_waking(tables, host)) => {
                    let come = come.is_ok();
                    // It was heard. Should the environment fall asleep again at once, the next knock must not wait.
                    self.lock().remove(env);
                    return come;
                }
                () = &mut deadline => return false,
                () = sleep(self.every) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EnvId, Instant>> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, knock: &mpsc::Sender<EnvId>, env: &EnvId) {
        let now = Instant::now();
        let mut rung = self.lock();
        rung.retain(|_, last| now - *last < self.every);
        if rung.contains_key(env) {
            return;
        }
        match knock.try_send(env.clone()) {
            Ok(()) => {
                rung.insert(env.clone(), now);
            }
            Err(error) => tracing::debug!(%env, %error, "knocked in vain"),
        }
    }
}

/// Whether the environment of this host sleeps, or is on its way.
fn is_waking(tables: &Tables, host: &str) -> bool {
    matches!(tables.routes.get(host), Some(Route::Env(route)) if is_held(route))
}

/// Whether a request to this route is held rather than answered.
pub(crate) fn is_held(route: &EnvRoute) -> bool {
    match route.door {
        Door::Wake => true,
        Door::Shut => route.page.state == State::Waking,
        Door::Open(_) => false,
    }
}
