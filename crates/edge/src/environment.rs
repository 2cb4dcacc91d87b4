//! A request to an environment: through its open door, held at one that is being opened, or a page of ours.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use planner::tables::{Door, EnvRoute, Route, Upstream};

use crate::body::{self, Answer, Outgoing, Progress, Reply};
use crate::doorbell::is_held;
use crate::forward::{self, Failed};
use crate::headers::{self, Canonical};
use crate::pages::{self, Form, Trouble};
use crate::pool::Lease;
use crate::proxy::{Proxy, Side};
use crate::request::Asked;
use crate::tunnel;
use crate::visits::Visit;

/// How often a request is sent towards an application that cannot be reached.
const TRIES: usize = 3;

/// A request that has been made ready for an application, and what we keep of it.
struct Exchange {
    request: Request<Outgoing>,
    progress: Arc<Progress>,
    /// The visitor's side of a WebSocket to come.
    upgrade: Option<OnUpgrade>,
}

impl Proxy {
    /// Answers a request to the environment behind `host`, a canonical one.
    pub(crate) async fn environment(
        &self,
        host: String,
        request: Request<Incoming>,
        asked: &Asked,
        visitor: IpAddr,
    ) -> Response<Reply> {
        let form = Form::wanted(request.headers());
        let browser = *request.method() == Method::GET && !asked.upgrade && is_browser(&request);
        let path = request.uri().path().to_owned();
        let mut route = match self.route(&host) {
            Some(route) => route,
            None => return pages::unknown(form),
        };
        let mut exchange = exchange(request, asked);
        let mut visit = None;
        for _ in 0..TRIES {
            if let Some(page) = self.page(&route, &path, form) {
                return page;
            }
            visit = visit.take().or_else(|| self.visit(&route));
            if is_held(&route) && !self.wakes(&host, &route, browser).await {
                return pages::state(&route, form);
            }
            let Some(newest) = self.route(&host) else { return pages::unknown(form) };
            // While it was held, another trust may have taken the host over.
            if newest.env != route.env {
                visit = self.visit(&newest);
            }
            route = newest;
            if let Some(page) = self.page(&route, &path, form) {
                return page;
            }
            let Door::Open(upstream) = route.door.clone() else { return pages::state(&route, form) };
            let canonical = Canonical::of(&route.url, &host);
            headers::to_application(exchange.request.headers_mut(), &canonical, visitor);
            if exchange.upgrade.is_some() {
                headers::ask_upgrade(exchange.request.headers_mut());
            } else if asked.chunked {
                headers::chunk(exchange.request.headers_mut());
            }
            let Exchange { request, progress, upgrade } = exchange;
            let failed = match forward::send(&self.pool, &upstream, request, &progress, self.patience.first_byte).await
            {
                Ok((response, lease)) => return self.reply(&route, response, lease, upgrade, visit, form),
                Err(failed) => failed,
            };
            tracing::debug!(env = %route.env, %failed, "an application did not answer");
            let (request, same) = match failed {
                Failed::Unreachable(_, request) => (request, true),
                Failed::Lost(_, Some(request)) => (request, false),
                Failed::Lost(_, None) => return pages::trouble(&route, Trouble::Broken, form),
                Failed::Silent => return pages::trouble(&route, Trouble::Silent, form),
                Failed::Visitor => return pages::unreadable(form),
            };
            let moved = self.moved(&host, &upstream).await;
            if !moved && !same {
                return pages::trouble(&route, Trouble::Broken, form);
            }
            exchange = Exchange { request: *request, progress, upgrade };
            match self.route(&host) {
                Some(newest) => route = newest,
                None => return pages::unknown(form),
            }
        }
        pages::trouble(&route, Trouble::Unreachable, form)
    }

    fn route(&self, host: &str) -> Option<EnvRoute> {
        match self.doors.tables.borrow().routes.get(host) {
            Some(Route::Env(route)) => Some((**route).clone()),
            _ => None,
        }
    }

    /// A page of ours that needs no application: not for strangers, about itself, or nothing to forward to.
    fn page(&self, route: &EnvRoute, path: &str, form: Form) -> Option<Response<Reply>> {
        if self.side == Side::Outer && !route.public {
            return Some(pages::closed(route, form));
        }
        // Whoever could answer here could have a certificate made out to the host.
        if path.starts_with("/.well-known/acme-challenge/") {
            return Some(pages::unknown(form));
        }
        if path == "/.sidestage" || path.starts_with("/.sidestage/") {
            return Some(pages::about(route, form));
        }
        match (&route.door, self.side) {
            (Door::Open(_), _) => None,
            // An environment does not keep itself awake.
            (_, Side::Inner) => Some(pages::state(route, form)),
            _ if is_held(route) => None,
            _ => Some(pages::state(route, form)),
        }
    }

    fn visit(&self, route: &EnvRoute) -> Option<Visit> {
        (self.side == Side::Outer).then(|| self.doors.visits.begin(&route.env))
    }

    /// Holds the request until the environment is awake. A person sees a page before long, an API client waits.
    async fn wakes(&self, host: &str, route: &EnvRoute, browser: bool) -> bool {
        let wait = if browser { self.patience.wake_browser } else { self.patience.wake };
        self.doorbell.hold(&self.doors, host, &route.env, wait).await
    }

    /// Waits a moment for a route to another upstream: what could not be reached may have been replaced just now.
    async fn moved(&self, host: &str, from: &Upstream) -> bool {
        let mut tables = self.doors.tables.clone();
        let newer = tables.wait_for(|tables| match tables.routes.get(host) {
            Some(Route::Env(route)) => !matches!(&route.door, Door::Open(upstream) if upstream == from),
            _ => true,
        });
        matches!(tokio::time::timeout(self.patience.reroute, newer).await, Ok(Ok(_)))
    }

    fn reply(
        &self,
        route: &EnvRoute,
        mut response: Response<Incoming>,
        lease: Lease,
        upgrade: Option<OnUpgrade>,
        visit: Option<Visit>,
        form: Form,
    ) -> Response<Reply> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(visitor) = upgrade else { return pages::trouble(route, Trouble::Malformed, form) };
            return self.switch(route, response, visitor, visit);
        }
        if response.status().as_u16() >= 600 {
            return pages::trouble(route, Trouble::Malformed, form);
        }
        headers::to_visitor(&mut response);
        headers::mark(response.headers_mut(), route);
        let silence = if is_event_stream(&response) { self.patience.stream } else { self.patience.body };
        response.map(|body| Reply::new(Answer::new(body, lease, visit, silence)))
    }

    /// The application agreed to a WebSocket: its 101 goes to the visitor, and both connections become one.
    fn switch(
        &self,
        route: &EnvRoute,
        mut response: Response<Incoming>,
        visitor: OnUpgrade,
        visit: Option<Visit>,
    ) -> Response<Reply> {
        let upstream = hyper::upgrade::on(&mut response);
        self.tasks.spawn(tunnel::run(visitor, upstream, visit, self.patience.stream, self.stop.clone()));
        headers::to_visitor(&mut response);
        headers::mark(response.headers_mut(), route);
        headers::ask_upgrade(response.headers_mut());
        response.map(|_| body::empty())
    }

    /// A request to the object store goes through as it is: its signature covers host, path, query and headers.
    pub(crate) async fn objects(&self, request: Request<Incoming>, asked: &Asked) -> Response<Reply> {
        let form = Form::Json;
        let Exchange { mut request, progress, .. } = exchange(request, &Asked { upgrade: false, ..asked.clone() });
        headers::strip_hop_by_hop(request.headers_mut());
        if asked.chunked {
            headers::chunk(request.headers_mut());
        }
        match forward::send(&self.pool, &self.store(), request, &progress, self.patience.first_byte).await {
            Ok((mut response, lease)) if !response.status().is_informational() => {
                headers::to_visitor(&mut response);
                response.map(|body| Reply::new(Answer::new(body, lease, None, self.patience.body)))
            }
            Err(Failed::Visitor) => pages::unreadable(form),
            Ok(_) => pages::no_store(form),
            Err(error) => {
                tracing::warn!(%error, "the object store did not answer");
                pages::no_store(form)
            }
        }
    }
}

/// Makes a request of a visitor's one that can be sent on: path and query only, HTTP/1.1, its body watched.
fn exchange(mut request: Request<Incoming>, asked: &Asked) -> Exchange {
    let upgrade = asked.upgrade.then(|| hyper::upgrade::on(&mut request));
    let progress = Progress::new();
    let target = request.uri().path_and_query().cloned();
    let mut request = request.map(|body| Outgoing::new(body, &progress));
    *request.uri_mut() = target.map_or_else(Uri::default, Uri::from);
    *request.version_mut() = Version::HTTP_11;
    request.extensions_mut().clear();
    Exchange { request, progress, upgrade }
}

fn is_browser(request: &Request<Incoming>) -> bool {
    request.headers().get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|text| text.contains("text/html")))
}

fn is_event_stream(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}
