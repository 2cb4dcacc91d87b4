//! A person with a browser: opens pages, presses buttons, follows links. Cookies go back to where they came from.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;

/// Redirects that are followed one after the other.
const HOPS: usize = 5;

/// See the file.
#[derive(Default)]
pub(super) struct Person {
    cookies: BTreeMap<String, String>,
}

/// What a person looks at.
pub(super) struct Page {
    url: String,
    pub(super) body: String,
}

impl Person {
    pub(super) async fn open(&mut self, url: &str) -> anyhow::Result<Page> {
        self.send(Method::GET, url, None).await
    }

    /// Presses the button with these words, which sends the form that it stands in.
    pub(super) async fn press(&mut self, page: &Page, words: &str) -> anyhow::Result<Page> {
        let mut forms = page.body.split("<form").skip(1).filter_map(|form| form.split("</form>").next());
        let form = forms.find(|form| form.contains(&format!(">{words}</button>")));
        let form = form.with_context(|| format!("{} has no button {words:?}: {}", page.url, page.body))?;
        let action = attribute(form.split('>').next().unwrap_or_default(), "action").unwrap_or(page.url.clone());
        let inputs = form.split("<input").skip(1).filter_map(|input| input.split('>').next());
        let fields = inputs.filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)));
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let sent: Vec<String> = fields.map(|(name, value)| format!("{name}={}", encode(&value))).collect();
        let url = absolute(&page.url, &action)?;
        self.send(Method::POST, &url, Some((origin(&page.url)?, sent.join("&")))).await
    }

    /// Follows the link with these words.
    pub(super) async fn follow(&mut self, page: &Page, words: &str) -> anyhow::Result<Page> {
        let mut links = page.body.split("<a ").skip(1).filter_map(|link| link.split("</a>").next());
        let link = links.find(|link| link.ends_with(&format!(">{words}")));
        let target = link.and_then(|link| attribute(link, "href"));
        let target = target.with_context(|| format!("{} has no link {words:?}: {}", page.url, page.body))?;
        self.open(&absolute(&page.url, &target)?).await
    }

    async fn send(&mut self, method: Method, url: &str, form: Option<(String, String)>) -> anyhow::Result<Page> {
        let (mut method, mut url, mut form) = (method, url.to_owned(), form);
        for _ in 0..HOPS {
            let (status, location, body) = self.exchange(&method, &url, form.take()).await?;
            let Some(location) = location.filter(|_| (300..400).contains(&status)) else {
                ensure!(status == 200, "{method} {url}: {status} {body}");
                return Ok(Page { url, body });
            };
            (method, url) = (Method::GET, absolute(&url, &location)?);
        }
        bail!("{url}: redirected without end")
    }

    async fn exchange(
        &mut self,
        method: &Method,
        url: &str,
        form: Option<(String, String)>,
    ) -> anyhow::Result<(u16, Option<String>, String)> {
        let uri: Uri = url.parse().with_context(|| url.to_owned())?;
        let host = uri.authority().with_context(|| format!("no host in {url}"))?.to_string();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(method.clone()).uri(path).header(HOST, &host);
        if let Some(cookie) = self.cookies.get(&host) {
            request = request.header(COOKIE, cookie);
        }
        let mut body = String::new();
        if let Some((origin, sent)) = form {
            request = request.header(ORIGIN, origin).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            body = sent;
        }
        let stream = TcpStream::connect(&host).await.with_context(|| host.clone())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (status, location, cookie) = (answer.status().as_u16(), header(LOCATION), header(SET_COOKIE));
        if let Some(cookie) = cookie.as_ref().and_then(|cookie| cookie.split(';').next()) {
            self.cookies.insert(host, cookie.to_owned());
        }
        let body = answer.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok((status, location, String::from_utf8_lossy(&body).into_owned()))
    }
}

fn origin(url: &str) -> anyhow::Result<String> {
    let uri: Uri = url.parse()?;
    Ok(format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().context("no host")?))
}

fn absolute(page: &str, target: &str) -> anyhow::Result<String> {
    if target.starts_with('/') { Ok(format!("{}{target}", origin(page)?)) } else { Ok(target.to_owned()) }
}

/// The value of an attribute, as the page means it.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split(&format!("{name}=\"")).nth(1)?.split('"').next()?;
    let plain = [("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    Some(plain.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to)))
}
