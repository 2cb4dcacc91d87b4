//! A request to an environment: through its open door, held at one that is being opened, or a page of ours.

use std::net::IpAddr;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use planner::tables::{Door, EnvRoute, Route, Tables, Upstream};

use crate::body::{self, Answer, Outgoing, Reply};
use crate::doorbell::is_held;
use crate::forward::{self, Exchange, Failed};
use crate::headers::{self, Canonical};
use crate::pages::{self, Form, Trouble};
use crate::pool::Lease;
use crate::proxy::{ACME, Proxy, Side};
use crate::request::Asked;
use crate::tls::Tls;
use crate::tunnel;
use crate::visits::Visit;

/// How often a request looks at the newest route: woken, moved to another upstream, tried once more.
const ROUNDS: usize = 5;

impl Proxy {
    /// Answers a request to the environment behind `host`, a canonical one.
    pub(crate) async fn environment(
        &self,
        host: &str,
        request: Request<Incoming>,
        asked: &Asked,
        visitor: IpAddr,
    ) -> Response<Reply> {
        let form = Form::wanted(request.headers());
        let browser = *request.method() == Method::GET && !asked.upgrade && is_browser(&request);
        let path = request.uri().path().to_owned();
        let mut exchange = Exchange::of(request, asked);
        let (mut visit, mut retried) = (None, false);
        for _ in 0..ROUNDS {
            let tables = self.doors.tables();
            let Some(route) = env_route(&tables, host) else { return pages::unknown(form) };
            if let Some(page) = self.page(route, &path, form) {
                return page;
            }
            self.note(&mut visit, route);
            let Door::Open(upstream) = &route.door else {
                if self.wakes(host, route, browser).await {
                    continue;
                }
                let newest = self.doors.tables();
                return pages::state(env_route(&newest, host).unwrap_or(route), form);
            };
            let asking = self.doors.visits.ask(&upstream.container);
            if !names(&self.doors.tables(), host, upstream) {
                // Moved just now, and the old container may be on its way out.
                continue;
            }
            exchange.direct(&Canonical::of(&route.url, host), asked, visitor);
            let Exchange { request, progress, upgrade } = exchange;
            let failed = match forward::send(&self.pool, upstream, request, &progress, self.patience.first_byte).await {
                Ok((response, lease)) => {
                    return self.reply(route, response, lease.holding(asking), upgrade, visit, form);
                }
                Err(failed) => failed,
            };
            tracing::debug!(env = %route.env, %failed, "an application did not answer");
            match self.again(host, upstream, failed, &mut retried).await {
                Ok(request) => exchange = Exchange { request: *request, progress, upgrade },
                Err(Some(trouble)) => return pages::trouble(route, trouble, form),
                Err(None) => return pages::unreadable(form),
            }
        }
        pages::later(form)
    }

    /// A page of ours that needs no application: not for strangers, about itself, or nothing to forward to.
    fn page(&self, route: &EnvRoute, path: &str, form: Form) -> Option<Response<Reply>> {
        if self.side == Side::Outer && !route.public {
            return Some(pages::closed(route, form));
        }
        // Whoever could answer here could have a certificate made out to the host.
        if path.starts_with(ACME) {
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

    /// Counts the visit. While a request is held, another trust's environment may take the host over.
    fn note(&self, visit: &mut Option<Visit>, route: &EnvRoute) {
        if self.side == Side::Outer && visit.as_ref().is_none_or(|visit| *visit.env() != route.env) {
            *visit = Some(self.doors.visits.begin(&route.env));
        }
    }

    /// Holds the request until the environment is awake. A person sees a page before long, an API client waits.
    async fn wakes(&self, host: &str, route: &EnvRoute, browser: bool) -> bool {
        let wait = if browser { self.patience.wake_browser } else { self.patience.wake };
        self.doorbell.hold(&self.doors, host, &route.env, wait).await
    }

    /// The request to send once more, or what to tell the visitor: none if it is the visitor's own body.
    async fn again(
        &self,
        host: &str,
        upstream: &Upstream,
        failed: Failed,
        retried: &mut bool,
    ) -> Result<Box<Request<Outgoing>>, Option<Trouble>> {
        let (request, trouble) = match failed {
            Failed::Unreachable(_, request) => (request, Trouble::Unreachable),
            Failed::Lost(_, Some(request)) => (request, Trouble::Broken),
            Failed::Lost(_, None) => return Err(Some(Trouble::Broken)),
            Failed::Silent => return Err(Some(Trouble::Silent)),
            Failed::Visitor => return Err(None),
        };
        // A worker that is just restarting accepts again in a moment; one that broke off would do so again.
        let same = trouble == Trouble::Unreachable && !std::mem::replace(retried, true);
        if self.moved(host, upstream).await || same { Ok(request) } else { Err(Some(trouble)) }
    }

    /// Waits a moment for a route to another upstream: what could not be reached may have been replaced just now.
    async fn moved(&self, host: &str, from: &Upstream) -> bool {
        let mut tables = self.doors.tables.clone();
        let newer = tables.wait_for(|tables| !names(tables, host, from));
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
        if self.has_objects_in_clear(route) {
            headers::upgrade_objects(response.headers_mut());
        }
        // Nobody waits for the end of an event stream, so it ends when the proxy does.
        let (silence, stop) = match is_event_stream(&response) {
            true => (self.patience.stream, Some(self.shutdown.clone())),
            false => (self.patience.body, None),
        };
        response.map(|body| Reply::new(Answer::new(body, lease, visit, silence, stop)))
    }

    /// Whether the application was told an endpoint of the object store in clear, while its own pages are https: its SDK
    /// trusts no certificate of ours, and none of a proxy's is there inside.
    fn has_objects_in_clear(&self, route: &EnvRoute) -> bool {
        route.url.starts_with("https:") && !self.tls.as_ref().is_some_and(Tls::is_public)
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
        self.tasks.spawn(tunnel::run(visitor, upstream, visit, self.patience.stream, self.shutdown.clone()));
        headers::to_visitor(&mut response);
        headers::mark(response.headers_mut(), route);
        headers::ask_upgrade(response.headers_mut());
        response.map(|_| body::empty())
    }
}

fn env_route<'a>(tables: &'a Tables, host: &str) -> Option<&'a EnvRoute> {
    match tables.routes.get(host) {
        Some(Route::Env(route)) => Some(route),
        _ => None,
    }
}

/// Whether requests to this host go to that upstream.
fn names(tables: &Tables, host: &str, to: &Upstream) -> bool {
    env_route(tables, host).is_some_and(|route| matches!(&route.door, Door::Open(upstream) if upstream == to))
}

fn is_browser(request: &Request<Incoming>) -> bool {
    request.headers().get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|text| text.contains("text/html")))
}

fn is_event_stream(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}
