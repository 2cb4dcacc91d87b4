//! The routes put together, and the server's beginning and end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use planner::command::{Actor, Role};
use planner::identity::Time;
use planner::view::View;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::guard::Site;
use crate::sessions::Sessions;
use crate::{Ask, Doors, Error, Settings, api, guard, pages, webhooks};

/// The longest request body; a form or a command is far below.
const BODY: usize = 64 << 10;
/// How long the loop may think about a request before the person hears that it does not answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may take to send a request's head, or be idle.
const HEAD: Duration = Duration::from_secs(30);
/// Connections at once; the next ones wait.
const CONNECTIONS: usize = 512;
/// How long connections may finish what they are at when the server ends.
const GRACE: Duration = Duration::from_secs(2);

/// Who comes through a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Browsers, over TCP.
    People,
    /// Whoever may open the socket: the operator.
    Local,
}

/// What all handlers share.
pub(crate) struct App {
    pub(crate) door: Door,
    pub(crate) settings: Settings,
    pub(crate) site: Site,
    pub(crate) doors: Doors,
    pub(crate) sessions: Sessions,
    closing: watch::Receiver<bool>,
}

impl App {
    pub(crate) fn view(&self) -> Arc<View> {
        self.doors.view.borrow().clone()
    }

    pub(crate) fn now(&self) -> Time {
        (self.doors.now)()
    }

    /// Everybody who gets in is the admin; there are no other people yet.
    pub(crate) fn actor(&self) -> Actor {
        let name = if self.door == Door::Local { "cli" } else { "console" };
        Actor { name: name.to_owned(), role: Role::Admin }
    }

    /// Puts a request to the loop and waits for its answer.
    pub(crate) async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Silent> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.doors.ask.send(request(reply)).await.map_err(|_| Silent::Stopping)?;
            answer.await.map_err(|_| Silent::Stopping)
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| Silent::Busy)?
    }

    /// Done when the server ends.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.clone();
        async move {
            // An error means that the server is gone altogether.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }
}

/// The loop did not answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Silent {
    #[error("the controller is stopping; try again when it is up")]
    Stopping,
    #[error("the controller did not answer within a minute; look at its log, then try again")]
    Busy,
}

fn router(app: &Arc<App>) -> Router {
    let api = api::routes().layer(from_fn_with_state(app.clone(), guard::api));
    let router = Router::new().nest("/api/v1", api);
    let router = match app.door {
        Door::People => router.merge(pages::routes(app)),
        Door::Local => router.fallback(api::unknown),
    };
    let webhooks = if app.door == Door::People { webhooks::routes() } else { Router::new() };
    router
        .layer(DefaultBodyLimit::max(BODY))
        .merge(webhooks)
        .layer(from_fn_with_state(app.clone(), guard::host))
        .layer(from_fn(guard::headers))
        .with_state(app.clone())
}

pub(crate) async fn serve<L, F>(
    mut listener: L,
    door: Door,
    settings: Settings,
    doors: Doors,
    shutdown: F,
) -> Result<(), Error>
where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let (close, closing) = watch::channel(false);
    let site = Site::parse(&settings.url).ok_or_else(|| Error::Url(settings.url.clone()))?;
    let app = Arc::new(App { door, settings, site, doors, sessions: Sessions::default(), closing });
    let router = router(&app);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await.0)
        };
        let (place, io) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        let connection = server.serve_connection(TokioIo::new(io), TowerToHyperService::new(router.clone()));
        let (connection, closing) = (connection.with_upgrades(), app.closing());
        tokio::spawn(async move {
            tokio::pin!(connection);
            // Whoever hung up is told nothing any more.
            tokio::select! {
                _ = connection.as_mut() => {}
                () = closing => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
    let _ = close.send(true);
    // All places are free when no connection is open any more.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(GRACE, places.acquire_many(all)).await;
    Ok(())
}
