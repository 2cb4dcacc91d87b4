//! One-time links to sign in by: issued over the local socket, used once, valid for ten minutes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use planner::identity::Time;

use crate::secret::{Digest, Secret};

/// How long a link may be used.
const VALID: Duration = Duration::from_secs(600);

/// The links that are open, in memory: after a restart a new one is asked for. Clones share them.
#[derive(Clone)]
pub struct Links {
    now: fn() -> Time,
    open: Arc<Mutex<HashMap<Digest, Time>>>,
}

impl Links {
    /// No links yet, on this clock.
    #[must_use]
    pub fn new(now: fn() -> Time) -> Self {
        Links { now, open: Arc::default() }
    }

    /// A new token, for `<console>/login?token=…`. Valid once, for ten minutes.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn issue(&self) -> Result<String, getrandom::Error> {
        let secret = Secret::random()?;
        let now = (self.now)();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, until| *until > now);
        open.insert(secret.digest(), now.after(VALID));
        Ok(secret.reveal())
    }

    /// Whether the token could be used now; using it is [`Links::redeem`].
    pub(crate) fn is_open(&self, token: &str) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&Digest::of(token)).is_some_and(|until| *until > (self.now)())
    }

    /// Uses the token up.
    pub(crate) fn redeem(&self, token: &str) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&Digest::of(token)).is_some_and(|until| until > (self.now)())
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links(…)")
    }
}
