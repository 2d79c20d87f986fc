//! The HTTP client of the whole process, and redirects followed by hand.
//!
//! Redirects are not left to reqwest because the final URL must be checked, remembered and its credentials dropped.
//! One set of clients for all servers: what was learnt of a URL on one connection is then fetched over the same, still warm one. A
//! server whose kept connections are of no use any more goes on with a set of its own.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT_ENCODING, LOCATION, RANGE};
use reqwest::{Client, Response, Version};
use tokio::sync::Mutex;
use url::{Host, Url};

use super::bid::Claim;
use super::check;
use super::error::{Fault, OriginError};
use super::map::host_of;
use crate::net::{HttpWay, NetRoute, RouteError, http_way, routed};
use crate::units::ByteRange;

/// Names, TCP and TLS together: longer than any usable server takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing at all for this long, and the connection counts as broken.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Browsers follow 20; a file server that needs more than these is not worth its round trips.
const MAX_REDIRECTS: usize = 5;
/// What one HTTP/2 stream may have on its way. All streams share one connection, and what an aborted one has in the
/// server's send buffer is sent before anything else: with hyper's 2 MiB a seek over 20 Mbit/s and 40 ms waited 0.7 s for
/// its first byte, with 256 KiB 0.09 s, with 512 KiB 0.16 s (hyper's adaptive window: up to 0.5 s). This carries 75 Mbit/s
/// per stream at 40 ms.
const STREAM_WINDOW: u32 = 384 * 1024;
/// Connections kept open per server: as many as may be busy at once with small ranges.
pub(super) const MAX_IDLE: usize = 8;
/// A redirect's own body is read, to keep its connection, only when this short.
const SMALL_BODY: u64 = 4 * 1024;
const SMALL_BODY_WAIT: Duration = Duration::from_millis(300);

/// Clients with the connections they keep: one of each kind; there are four at most unless the user changes the way while a tunnel
/// comes and goes. Dropping it closes the connections that carry nothing.
#[derive(Default)]
pub(super) struct Clients(Mutex<HashMap<Kind, Client>>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    way: HttpWay,
    /// With the system's certificates, whose hundreds of files take 25 ms to read: a first frame does not wait for them where
    /// no TLS is spoken.
    tls: bool,
}

static COMMON: LazyLock<Arc<Clients>> = LazyLock::new(Arc::default);
/// Kinds remembered; beyond, all are made anew.
const MAX_KINDS: usize = 8;

fn builder() -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("Sluicegate/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .tcp_keepalive(Duration::from_secs(15))
        .pool_idle_timeout(Duration::from_secs(90))
        .pool_max_idle_per_host(MAX_IDLE)
}

impl Clients {
    /// Those that all servers share to begin with.
    pub fn common() -> Arc<Clients> {
        COMMON.clone()
    }

    /// The client to reach `url` by. Fails where no TLS set-up is possible at all.
    ///
    /// Not kept where it fails: the interface may be there the next time.
    pub async fn reach(&self, route: &NetRoute, url: &Url) -> Result<Client, Fault> {
        let way = http_way(route, url).map_err(|e| Fault::Break(clause(&e)))?;
        let kind = Kind { way, tls: url.scheme() != "http" || tls_to_proxy() };
        // Held while one is made: a probe and the range beside it are to share a client, or they would not share connections.
        let mut clients = self.0.lock().await;
        if let Some(client) = clients.get(&kind) {
            return Ok(client.clone());
        }
        let client = kind.clone().make().await?;
        if clients.len() >= MAX_KINDS {
            clients.clear();
        }
        clients.insert(kind, client.clone());
        Ok(client)
    }
}

impl Kind {
    async fn make(self) -> Result<Client, Fault> {
        let builder = routed(builder(), &self.way).map_err(|e| Fault::Break(clause(&e)))?;
        let built = if self.tls {
            // The certificates are read by a thread that may wait for the disk.
            let built = tokio::task::spawn_blocking(|| builder.build()).await;
            built.map_err(|_| Fault::Break("cannot be asked just now".into()))?
        } else {
            builder.tls_certs_only([]).build()
        };
        built.map_err(|e| Fault::Refused(format!("cannot be reached from this machine: {}", root_cause(&e))))
    }
}

/// Whether the environment names a proxy that is itself spoken to over TLS: a plain address then needs certificates as well.
fn tls_to_proxy() -> bool {
    let names = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    names.into_iter().filter_map(std::env::var_os).any(|v| v.to_string_lossy().starts_with("https"))
}

/// A sentence, to go on after the server's name.
fn clause(e: &RouteError) -> String {
    let said = e.to_string();
    let said = said.trim_end_matches('.');
    format!(
        "cannot be asked: {}{}",
        said.get(..1).unwrap_or_default().to_lowercase(),
        said.get(1..).unwrap_or_default()
    )
}

/// A response whose redirects are followed.
pub(super) struct Opened {
    pub response: Response,
    /// Where it came from in the end.
    pub url: Url,
    pub redirected: bool,
    /// Who keeps its connection.
    pub clients: Arc<Clients>,
    /// It came over a connection that was, most likely, made for it.
    pub fresh: bool,
    /// From sending the last request to its headers; over a connection that may have been made for it.
    pub took: Duration,
}

impl Opened {
    /// Without multiplexing a response that is not wanted any more costs its connection.
    pub fn owns_connection(&self) -> bool {
        self.response.version() < Version::HTTP_2
    }

    /// The round trip, roughly: a first request pays one for TCP and one for TLS before its own.
    pub fn round_trip(&self) -> Duration {
        match (self.fresh, self.url.scheme()) {
            (false, _) => self.took,
            (true, "https") => self.took / 3,
            (true, _) => self.took / 2,
        }
    }
}

/// GETs `url`, ranged where a range is given, following redirects. Returns on headers; their sense is not checked.
pub(super) async fn open(
    clients: &Arc<Clients>,
    route: &NetRoute,
    url: &Url,
    range: Option<ByteRange>,
    claim: Option<&Claim>,
) -> Result<Opened, Fault> {
    let mut at = url.clone();
    let mut fresh = true;
    let mut seen = vec![at.clone()];
    loop {
        let client = clients.reach(route, &at).await?;
        // What a response's bytes mean depends on their offsets: never a compressed form of them.
        let mut request = client.get(at.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(r) = range {
            request = request.header(RANGE, format!("bytes={}-{}", r.start, r.end.saturating_sub(1)));
        }
        if let Some(claim) = claim {
            request = claim.on(request, &at);
        }
        let sent = Instant::now();
        let response = match tokio::time::timeout(STALL_TIMEOUT, request.send()).await {
            Err(_) => return Err(Fault::Break("did not answer".into())),
            Ok(Err(e)) => return Err(Fault::Break(describe(&e))),
            Ok(Ok(response)) => response,
        };
        if !is_redirect(&response) {
            let redirected = seen.len() > 1;
            return Ok(Opened { response, url: at, redirected, clients: clients.clone(), fresh, took: sent.elapsed() });
        }
        let next = target(&at, &response)?;
        if seen.contains(&next) {
            return Err(Fault::Refused("redirects in a circle".into()));
        }
        if seen.len() > MAX_REDIRECTS {
            return Err(Fault::Refused(format!("redirects more than {MAX_REDIRECTS} times")));
        }
        fresh = next.origin() != at.origin();
        if !fresh {
            keep_connection(response).await;
        }
        seen.push(next.clone());
        at = next;
    }
}

fn is_redirect(response: &Response) -> bool {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) && response.headers().contains_key(LOCATION)
}

/// Where a redirect leads. Credentials go along only within the same origin.
fn target(from: &Url, response: &Response) -> Result<Url, Fault> {
    let bad = || Fault::Refused("redirects to an address that is none".into());
    let location = response.headers().get(LOCATION).map(|v| v.as_bytes()).unwrap_or_default();
    let location = std::str::from_utf8(location).map_err(|_| bad())?;
    let mut next = from.join(location).map_err(|_| bad())?;
    if !matches!(next.scheme(), "http" | "https") {
        return Err(bad());
    }
    // A server out in the world has no business sending us to services of this machine.
    if is_loopback(&next) && !is_loopback(from) {
        return Err(Fault::Refused("redirects to this machine itself".into()));
    }
    next.set_fragment(None);
    if next.origin() == from.origin() && next.username().is_empty() && next.password().is_none() {
        // Neither fails: `from` is http(s), which may carry both.
        let _ = next.set_username(from.username());
        let _ = next.set_password(from.password());
    }
    Ok(next)
}

/// Reads a short body to its end, so that the next request finds the connection free.
async fn keep_connection(mut response: Response) {
    let short = matches!(check::content_length(response.headers()), Ok(Some(n)) if n <= SMALL_BODY);
    if short {
        let _ =
            tokio::time::timeout(SMALL_BODY_WAIT, async { while let Ok(Some(_)) = response.chunk().await {} }).await;
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(d)) => d == "localhost" || d.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).to_canonical().is_loopback(),
        None => false,
    }
}

/// What went wrong on the network, reading on after the server's name. Never contains the URL.
pub(super) fn describe(e: &reqwest::Error) -> String {
    let mut source = e.source();
    while let Some(s) = source {
        if let Some(io) = s.downcast_ref::<io::Error>().filter(|io| io.get_ref().is_none()) {
            return match io.kind() {
                io::ErrorKind::ConnectionRefused => "refuses connections".into(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                    "closed the connection".into()
                }
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                    "is not reachable from this network".into()
                }
                io::ErrorKind::TimedOut => "did not answer".into(),
                io::ErrorKind::UnexpectedEof => "closed the connection".into(),
                _ => format!("failed: {io}"),
            };
        }
        source = s.source();
    }
    if e.is_timeout() {
        return "did not answer".into();
    }
    let cause = root_cause(e);
    if let Some(e) = route_error(e) {
        return clause(&e);
    }
    if cause.contains("failed to lookup address") {
        return "has a name that does not exist, or there is no network".into();
    }
    if e.is_connect() {
        return format!("cannot be connected to: {cause}");
    }
    format!("broke off: {cause}")
}

/// The reason a name was not looked up, or no socket was made, the way the user chose.
fn route_error(e: &reqwest::Error) -> Option<RouteError> {
    let mut source = e.source();
    while let Some(s) = source {
        let io = s.downcast_ref::<io::Error>().and_then(|io| io.get_ref()?.downcast_ref());
        if let Some(e) = s.downcast_ref::<RouteError>().or(io) {
            return Some(e.clone());
        }
        source = s.source();
    }
    None
}

fn root_cause(e: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = match e.source() {
        Some(s) => s,
        None => return "the request failed".into(),
    };
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string().chars().filter(|c| !c.is_control()).take(120).collect()
}

/// `fault`, told about the host of `url`.
pub(super) fn blame(url: &Url, fault: Fault) -> OriginError {
    fault.into_error(host_of(url))
}
