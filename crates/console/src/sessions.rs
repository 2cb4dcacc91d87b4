//! Who is signed in: sessions in memory, 12 hours at most and one hour without a request of the person's own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use planner::identity::Time;

use crate::secret::{Digest, Secret};

const LONGEST: Duration = Duration::from_secs(12 * 3600);
const IDLE: Duration = Duration::from_secs(3600);

/// The sessions by digest of their cookie's value.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Digest, Session>>);

struct Session {
    begun: Time,
    used: Time,
    form: String,
    said: Option<Said>,
}

impl Session {
    fn is_over(&self, now: Time) -> bool {
        now.since(self.begun) >= LONGEST || now.since(self.used) >= IDLE
    }
}

/// What the last form was answered, to be shown once.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) good: bool,
    pub(crate) line: String,
}

/// A signed-in person.
#[derive(Clone)]
pub(crate) struct SignedIn {
    pub(crate) key: Digest,
    /// Stands in every form of the session.
    pub(crate) form: String,
}

impl Sessions {
    /// Begins a session; returns the cookie's value.
    pub(crate) fn begin(&self, now: Time) -> Result<String, getrandom::Error> {
        let (cookie, form) = (Secret::random()?, Secret::random()?.reveal());
        let mut all = self.lock();
        all.retain(|_, session| !session.is_over(now));
        all.insert(cookie.digest(), Session { begun: now, used: now, form, said: None });
        Ok(cookie.reveal())
    }

    /// The session of a cookie's value. What a page fetches by itself does not count as use (`touch` is false then).
    pub(crate) fn find(&self, cookie: &str, now: Time, touch: bool) -> Option<SignedIn> {
        let key = Digest::of(cookie);
        let mut all = self.lock();
        let session = all.get_mut(&key).filter(|session| !session.is_over(now))?;
        if touch {
            session.used = now;
        }
        Some(SignedIn { key, form: session.form.clone() })
    }

    /// Whether the session still holds.
    pub(crate) fn holds(&self, key: Digest, now: Time) -> bool {
        self.lock().get(&key).is_some_and(|session| !session.is_over(now))
    }

    pub(crate) fn end(&self, key: Digest) {
        self.lock().remove(&key);
    }

    pub(crate) fn say(&self, key: Digest, said: Said) {
        if let Some(session) = self.lock().get_mut(&key) {
            session.said = Some(said);
        }
    }

    pub(crate) fn take_said(&self, key: Digest) -> Option<Said> {
        self.lock().get_mut(&key)?.said.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of the one cookie of that name. A second one was set by another host of the same site
/// (an environment can do that), and there is no telling which is ours, so then there is none.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut found = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}
