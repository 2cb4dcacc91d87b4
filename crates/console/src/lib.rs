//! Serves people: pages and JSON API over the view that it was last given.
//!
//! `app` puts the routes together, `guard` stands before them (hosts, origins, sign-in), `api` is `/api/v1`, `pages` are
//! the pages, `acts` what can be done in which state, `inside` is for
//! hands inside an environment, `links` and `sessions` the sign-in, `text` makes foreign text inert.
//! Nothing is decided here: what people ask for goes through [`Ask`] to the loop, and what they see is its [`View`].

mod acts;
mod api;
mod app;
mod baselines;
mod guard;
pub mod inside;
mod links;
mod pages;
mod secret;
mod secrets;
mod sessions;
pub mod text;
mod webhooks;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use planner::command::{Actor, Command};
use planner::identity::{EnvId, ProjectName, Sha, Time};
use planner::secrets::{Place, SecretView};
use planner::view::View;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};

pub use links::Links;

/// The doors between the console and the loop.
#[derive(Debug, Clone)]
pub struct Doors {
    /// What to show.
    pub view: watch::Receiver<Arc<View>>,
    /// Requests of people.
    pub ask: mpsc::Sender<Ask>,
    /// The clock.
    pub now: fn() -> Time,
}

/// One request to the loop, with the way back. An `Err` is one line for the person.
#[derive(Debug)]
pub enum Ask {
    /// Do something; answered when it is decided and stored and the view that shows it is published, not when it is done.
    Command(Actor, Command, oneshot::Sender<Result<String, String>>),
    /// The log of one container, job or `build` of an environment, as chunks of text. Ends at its present end unless `follow`.
    Logs {
        /// Whose.
        env: EnvId,
        /// One of `CommitView::logs`.
        name: String,
        /// Go on until the other side hangs up.
        follow: bool,
        /// The chunks.
        reply: oneshot::Sender<Result<mpsc::Receiver<String>, String>>,
    },
    /// The log of making a baseline's version, as chunks of text.
    BaselineLogs {
        /// Such as `shop@3`.
        version: String,
        /// One of `VersionView::logs`.
        name: String,
        /// Go on until the other side hangs up, or it is made.
        follow: bool,
        /// The chunks.
        reply: oneshot::Sender<Result<mpsc::Receiver<String>, String>>,
    },
    /// How databases of a baseline's version are cloned.
    Cloning(String, oneshot::Sender<Result<Cloning, String>>),
    /// What a pass would do now, one line a step, in order, with what waits and why.
    Plan(oneshot::Sender<Vec<String>>),
    /// Run something inside an environment.
    Run(Box<inside::Run>),
    /// Access to an environment's database.
    Database {
        /// Who asks.
        actor: Actor,
        /// The project.
        project: ProjectName,
        /// The commit.
        sha: Sha,
        /// For a copy of it.
        dump: bool,
        /// The access.
        reply: oneshot::Sender<Result<inside::Access, String>>,
    },
    /// Find a branch or tag of a project by name, whether it is watched or not, and stage the commit that it points to now;
    /// answered with that commit and the line of the decision.
    StageRef {
        /// Who asks.
        actor: Actor,
        /// The project's name.
        project: String,
        /// As a person calls it: `v5.2.1`, `branch/main`.
        name: String,
        /// The way back.
        reply: oneshot::Sender<Result<(Sha, String), String>>,
    },
    /// What secrets of a project are set, without their values.
    Secrets(ProjectName, oneshot::Sender<Result<Vec<SecretView>, String>>),
    /// Set a secret, or take it away.
    Secret {
        /// Who asks.
        actor: Actor,
        /// Which one.
        place: Place,
        /// Its new value; none takes it away.
        value: Option<Confidential>,
        /// The line that says what was decided.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// Read the configuration anew; answered with what that changed, a line each.
    Reload(Actor, oneshot::Sender<Result<String, String>>),
    /// What is sent to GitHub so that it makes an App for us, owned by this organisation or by the person.
    Connect {
        /// The organisation.
        organisation: Option<String>,
        /// The way back.
        reply: oneshot::Sender<Result<ConnectForm, String>>,
    },
    /// GitHub made the App and sent the browser back with this; answered with where it is installed.
    Connected {
        /// Good once, for the App.
        code: String,
        /// Of the form that was sent.
        state: String,
        /// The way back.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// What the connection to GitHub lacks: whether each line is good.
    CheckGitHub(oneshot::Sender<Result<Vec<(bool, String)>, String>>),
    /// A delivery of a forge's webhook: its headers and its body as they came. Answered when it is stored.
    Webhook {
        /// As they came.
        headers: HeaderMap,
        /// As it came: a signature is over these bytes.
        body: Bytes,
        /// The way back.
        reply: oneshot::Sender<Result<(), Turned>>,
    },
    /// Look at a project's forge now; answered when its refs have been listed and decided about.
    Look(String, oneshot::Sender<Result<(), String>>),
}

/// How databases of a baseline's version are cloned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloning {
    /// The way and why it is taken, one line.
    pub how: String,
    /// About how long one clone takes on a quiet machine.
    pub milliseconds: u64,
    /// Bytes of disk that one clone takes before anything is written to it.
    pub disk: u64,
    /// What the operator could do about it.
    pub better: Option<String>,
    /// What a server of the operator's cannot do, in words that go on after "it cannot".
    pub lacks: Vec<String>,
}

/// A form for GitHub, in two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectForm {
    /// Where it goes.
    pub url: String,
    /// The App's manifest.
    pub without_merge: String,
    /// The same with the right to merge.
    pub with_merge: String,
}

/// A delivery that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    /// Nobody expects any.
    Unexpected,
    /// Its signature is wrong or missing.
    Unsigned(String),
    /// It is not what it ought to be.
    Malformed(String),
}

/// A value that nobody may read: not in a log, not in an error.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Confidential(pub String);

impl std::fmt::Debug for Confidential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What the console knows about itself. The same value goes to [`serve`] and to [`serve_local`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where people reach it: scheme, host and port, without a path, such as `http://localhost:8081`. Other hosts are refused.
    pub url: String,
    /// The instance's name; its first 8 characters name the cookie, since cookies ignore ports.
    pub instance: String,
    /// Sidestage's version.
    pub version: &'static str,
    /// Links to sign in by.
    pub links: Links,
}

/// Why the console does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL in the settings does not name scheme and host.
    #[error("the console's url {0:?} must be http:// or https:// with a host and no path")]
    Url(String),
}

/// Serves people who sign in, until `shutdown` is done; streams are ended then.
///
/// # Errors
/// A URL that names no host.
pub async fn serve<F>(listener: TcpListener, settings: Settings, doors: Doors, shutdown: F) -> Result<(), Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    app::serve(listener, app::Door::People, settings, doors, shutdown).await
}

/// Serves the local socket: the API without sign-in, as admin. Whoever may open the socket is let in, so its folder guards it.
///
/// # Errors
/// As [`serve`].
pub async fn serve_local<F>(listener: UnixListener, settings: Settings, doors: Doors, shutdown: F) -> Result<(), Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    app::serve(listener, app::Door::Local, settings, doors, shutdown).await
}
