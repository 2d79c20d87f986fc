//! HTTP: what is answered to whom.
//!
//! Invariant: file bytes leave through the gate alone, and only to those who may read them; whatever a request holds, it costs
//! a bounded amount of memory and time.

mod body;
mod conditional;
mod connections;
mod counts;
mod file;
mod listen;
mod log;
mod range;
mod types;
mod visitor;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use futures::StreamExt;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use connections::{ConnectionLimits, Connections};
pub use counts::HttpCounts;
pub use listen::{Listening, accept};
pub use visitor::{NotANetwork, Proxies};
#[cfg(any(test, fuzzing))]
pub(super) use {
    conditional::{Verdict, judge},
    range::{MAX_RANGES, Wanted, parse as parse_range},
    visitor::visitor,
};

use self::connections::InAnswer;
use self::log::Told;
use super::auth::{Auth, Denied};
use super::bids::{BIDS_PATH, Known, Visitor};
use super::gate::Gate;
use super::source::{Tree, path};

/// Says on every file's answer where the server takes bids.
const BIDS: &str = "sluicegate-bids";

/// The longest body of a request that is read at all: a bid.
const MAX_BODY: usize = 4096;

/// For which a bid may be on its way in.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What players in web pages may see and send.
const EXPOSED: &str =
    "accept-ranges, content-length, content-range, date, etag, last-modified, retry-after, sluicegate-bids";
const ALLOWED: &str = "authorization, content-type, if-match, if-modified-since, if-none-match, if-range, if-unmodified-since, \
                       range, sluicegate-grant, sluicegate-viewer";

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Files, bids, health; numbers too, unless they have a door of their own.
    Files { metrics: bool },
    /// Health and numbers, for those who watch the server.
    Metrics,
}

/// What all requests share.
pub struct Site {
    pub tree: Tree,
    pub gate: Gate,
    pub auth: Auth,
    pub proxies: Vec<Proxies>,
    bids: TowerToHyperService<axum::Router>,
    /// Answers that may have a file open.
    files: Arc<Semaphore>,
    /// Cancelled when the server begins to stop.
    ending: CancellationToken,
}

/// A request under way.
pub struct Visit {
    /// Who fairness counts it to.
    pub from: IpAddr,
    answer: InAnswer,
    told: Told,
}

impl Site {
    /// At most `files` answers have a file open at a time.
    pub fn new(
        tree: Tree,
        gate: Gate,
        auth: Auth,
        proxies: Vec<Proxies>,
        known: Known,
        files: usize,
        ending: CancellationToken,
    ) -> Self {
        let bids = TowerToHyperService::new(super::bids::router(gate.clone(), known));
        let files = Arc::new(Semaphore::new(files.min(Semaphore::MAX_PERMITS)));
        Self { tree, gate, auth, proxies, bids, files, ending }
    }

    /// Answers one request. `peer` is the other end of its connection.
    async fn answer(&self, request: Request<Body>, door: Door, peer: IpAddr, answer: InAnswer) -> Response<Body> {
        let from = visitor::visitor(&self.proxies, peer, request.headers());
        let told = Told::new(self.gate.clone(), from, request.method().clone(), request.uri().path().to_owned());
        let mut visit = Visit { from, answer, told };
        let outcome = match self.refusal(&request) {
            Some(why) => Err(why),
            None => self.route(request, door, &mut visit).await,
        };
        let (mut response, object) = match outcome {
            Ok(Routed::Done(response)) => (response, None),
            Ok(Routed::File(response, sending)) => (response, Some(sending)),
            Err(refused) => {
                self.gate.metrics().http.refused(refused.why);
                (refused.response(), None)
            }
        };
        visit.told.status(response.status());
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match object {
            Some(sending) => {
                let file::Sending { parts, object, turn, room } = *sending;
                *response.body_mut() = body::body(parts, object, turn, visit, room);
            }
            None => visit.told.whole(),
        }
        response
    }

    /// What is wrong with a request whatever it asks for.
    fn refusal(&self, request: &Request<Body>) -> Option<Refused> {
        let headers = request.headers();
        let hosts = headers.get_all(header::HOST).iter().count();
        // RFC 9112 §3.2.
        let hostless = request.version() == Version::HTTP_11 && hosts != 1;
        if hostless || hosts > 1 {
            return Some(Refused::new(StatusCode::BAD_REQUEST, "host", "A request names one host."));
        }
        let len = headers.get(header::CONTENT_LENGTH).map(|v| v.to_str().ok().and_then(|v| v.parse::<u64>().ok()));
        let bodied = headers.contains_key(header::TRANSFER_ENCODING) || len.is_some_and(|l| l != Some(0));
        // A body where none belongs is what requests are smuggled in: it is not read, and the connection ends.
        if bodied && request.method() != Method::POST {
            return Some(Refused::new(StatusCode::BAD_REQUEST, "body", "Such a request has no body."));
        }
        None
    }

    async fn route(&self, request: Request<Body>, door: Door, visit: &mut Visit) -> Result<Routed, Refused> {
        let (method, url_path) = (request.method().clone(), request.uri().path().to_owned());
        let reads = matches!(method, Method::GET | Method::HEAD);
        let watched = match door {
            Door::Metrics => true,
            Door::Files { metrics } => metrics,
        };
        match url_path.as_str() {
            _ if method == Method::OPTIONS => Ok(Routed::Done(preflight())),
            "/healthz" if reads => Ok(Routed::Done(self.health())),
            "/metrics" if reads && watched => {
                if door != Door::Metrics {
                    self.permit(request.headers(), &request)?;
                }
                let text = self.gate.metrics().render();
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Ok(Routed::Done(plain(StatusCode::OK, kind, text)))
            }
            _ if door == Door::Metrics => Err(Refused::not_found()),
            BIDS_PATH if method == Method::POST => self.bid(request, visit.from).await.map(Routed::Done),
            BIDS_PATH => Err(Refused::method("POST, OPTIONS")),
            _ if !reads => Err(Refused::method("GET, HEAD, OPTIONS")),
            _ => {
                self.permit(request.headers(), &request)?;
                let Some(names) = path::names(&url_path) else {
                    return Err(Refused { why: "path", ..Refused::not_found() });
                };
                self.file(request.headers(), method == Method::HEAD, &names, visit).await
            }
        }
    }

    fn permit(&self, headers: &HeaderMap, request: &Request<Body>) -> Result<(), Refused> {
        let uri = request.uri();
        self.auth.check(headers, uri.path(), uri.query(), SystemTime::now()).map_err(Refused::denied)
    }

    /// A bid is permitted by the token, or by the signed address of the file that it is for, in its field `path`.
    async fn bid(&self, mut request: Request<Body>, from: IpAddr) -> Result<Response<Body>, Refused> {
        request.extensions_mut().insert(Visitor(from));
        let permitted = self.auth.check(request.headers(), BIDS_PATH, request.uri().query(), SystemTime::now());
        if let Err(denied) = permitted {
            // Without credentials in its head the bid itself may have them.
            if denied != Denied::Missing {
                return Err(Refused::denied(denied));
            }
            let (head, body) = request.into_parts();
            let read = tokio::time::timeout(BODY_TIME, limited(body)).await;
            let body =
                read.map_err(|_| Refused::new(StatusCode::REQUEST_TIMEOUT, "slow", "The bid took too long."))??;
            let named = serde_json::from_slice::<NamedPath>(&body).ok().and_then(|n| n.path).unwrap_or_default();
            let (path, query) = named.split_once('?').ok_or_else(|| Refused::denied(Denied::Missing))?;
            self.auth.check(&HeaderMap::new(), path, Some(query), SystemTime::now()).map_err(Refused::denied)?;
            request = Request::from_parts(head, Body::from(body));
        }
        let answered = hyper::service::Service::call(&self.bids, request);
        match tokio::time::timeout(BODY_TIME, answered).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(never)) => match never {},
            Err(_) => Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "slow", "The bid took too long.")),
        }
    }

    fn health(&self) -> Response<Body> {
        match self.ending.is_cancelled() {
            false => plain(StatusCode::OK, TEXT, "ok\n"),
            true => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n"),
        }
    }
}

#[derive(serde::Deserialize)]
struct NamedPath {
    path: Option<String>,
}

async fn limited(body: Body) -> Result<Vec<u8>, Refused> {
    let (mut chunks, mut all) = (body.into_data_stream(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "body", "The bid broke off."))?;
        if all.len() + chunk.len() > MAX_BODY {
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "body", "The bid is too long."));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// What a request led to.
enum Routed {
    Done(Response<Body>),
    /// The head, and what its body is to be made of.
    File(Response<Body>, Box<file::Sending>),
}

/// A request that is not answered with what it asked for.
struct Refused {
    status: StatusCode,
    /// For the numbers.
    why: &'static str,
    /// One sentence.
    text: &'static str,
    header: Option<(header::HeaderName, &'static str)>,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Refused {
    fn new(status: StatusCode, why: &'static str, text: &'static str) -> Self {
        Self { status, why, text, header: None }
    }

    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here.")
    }

    fn method(allow: &'static str) -> Self {
        let header = Some((header::ALLOW, allow));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "That cannot be done here.") }
    }

    fn busy() -> Self {
        let header = Some((header::RETRY_AFTER, "1"));
        Self { header, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "The server is busy; try again soon.") }
    }

    fn denied(denied: Denied) -> Self {
        let text = match denied {
            Denied::Missing => "This needs a token, or a signed address.",
            Denied::Wrong => "The token or the signature is not the right one.",
            Denied::Expired => "This address is no longer good; ask for a new one.",
        };
        match denied {
            Denied::Expired => Self::new(StatusCode::FORBIDDEN, "expired", text),
            _ => {
                let header = Some((header::WWW_AUTHENTICATE, "Bearer realm=\"sluicegate\""));
                Self { header, ..Self::new(StatusCode::UNAUTHORIZED, "unauthorized", text) }
            }
        }
    }

    fn response(self) -> Response<Body> {
        let mut response = plain(self.status, TEXT, format!("{}\n", self.text));
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if matches!(self.why, "body" | "slow" | "host") {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn plain(status: StatusCode, kind: &'static str, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// To OPTIONS, for browsers that ask before they ask (the Fetch standard's preflight).
fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    for (name, value) in [
        (header::ALLOW, "GET, HEAD, POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
