//! Requests to the object store. Both edges pass them through as they are.

use http::{Request, Response};
use hyper::body::Incoming;
use planner::tables::Upstream;

use crate::body::{Answer, Reply};
use crate::forward::{self, Exchange, Failed};
use crate::headers;
use crate::pages::{self, Form};
use crate::proxy::Proxy;
use crate::request::Asked;

impl Proxy {
    /// A request to the object store goes through as it is: its signature covers host, path, query and headers.
    pub(crate) async fn objects(&self, request: Request<Incoming>, asked: &Asked) -> Response<Reply> {
        let form = Form::Json;
        let Exchange { mut request, progress, .. } = Exchange::of(request, &Asked { upgrade: false, ..asked.clone() });
        headers::strip_hop_by_hop(request.headers_mut());
        if asked.chunked {
            headers::chunk(request.headers_mut());
        }
        match forward::send(&self.pool, &self.store(), request, &progress, self.patience.first_byte).await {
            Ok((mut response, lease)) if !response.status().is_informational() => {
                headers::to_visitor(&mut response);
                response.map(|body| Reply::new(Answer::new(body, lease, None, self.patience.body, None)))
            }
            Err(Failed::Visitor) => pages::unreadable(form),
            Ok(_) => pages::no_store(form),
            Err(error) => {
                tracing::warn!(%error, "the object store did not answer");
                pages::no_store(form)
            }
        }
    }

    /// The object store as an upstream.
    pub(crate) fn store(&self) -> Upstream {
        Upstream { container: "objects".to_owned(), generation: 0, address: self.doors.objects }
    }
}
