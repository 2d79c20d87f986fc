//! One server: its standing, its fetches, and what was learnt about reaching it.
//!
//! Invariant: `Up` and `Down` alternate, and each change of standing is told exactly once. A server that was refused
//! for good never comes up again; one that rests (unreachable, or busy and asked us to wait) does when it answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::api::{OriginEvent, OriginMap};
use super::bid::{BidOut, Bidder, Claim};
use super::check::{Told, check};
use super::client::{Clients, MAX_IDLE, Opened, open};
use super::error::Fault;
use super::{bid, fetch, map, probe};
use crate::net::NetRoute;
use crate::units::{ByteRange, FetchId, OriginId};

/// Requests at once to one server. The engine asks for far fewer; this only bounds sockets should it ever not.
const MAX_REQUESTS: usize = 16;
/// Fetches in a row that broke without a byte, until the server counts as unreachable.
const MAX_FAILURES: u32 = 3;
/// An unreachable server is probed again after this.
const REST: Duration = Duration::from_secs(5);

/// A server that holds the torrent's bytes. Dropping it ends all its fetches without a word.
pub struct Origin {
    shared: Arc<Shared>,
    rt: Handle,
}

impl Origin {
    /// Starts to reach the server at once: the probe is a ranged GET of one byte, on a connection that is kept.
    /// Answers with [`OriginEvent::Up`] or [`OriginEvent::Down`].
    pub fn start(
        rt: &Handle,
        id: OriginId,
        map: OriginMap,
        route: NetRoute,
        bidder: Arc<Bidder>,
        events: mpsc::Sender<OriginEvent>,
    ) -> Origin {
        let shared = Arc::new(Shared {
            id,
            map,
            route,
            bidder,
            events,
            root: CancellationToken::new(),
            down: CancellationToken::new(),
            rest: Notify::new(),
            permits: Semaphore::new(MAX_REQUESTS),
            clients: Mutex::new(Clients::common()),
            inner: Mutex::default(),
        });
        rt.spawn(probe::supervise(shared.clone()));
        Origin { shared, rt: rt.clone() }
    }

    /// GETs `range` of torrent space, file by file. Answered by [`OriginEvent::Bytes`] as they arrive, then by one
    /// [`OriginEvent::Done`] or [`OriginEvent::Failed`]. May be called before the server is up: the fetch is sent at
    /// once and serves as the probe. `grants` are the names of what it is counted against, at an origin that takes bids.
    pub fn fetch(&self, fetch: FetchId, range: ByteRange, grants: Vec<String>) {
        let cancel = self.shared.root.child_token();
        self.shared.inner.lock().fetches.insert(fetch, cancel.clone());
        self.rt.spawn(fetch::run(self.shared.clone(), fetch, range, grants.into(), cancel));
    }

    /// What is asked from here on goes over new connections; those that are kept are closed.
    pub fn renew(&self) {
        *self.shared.clients.lock() = Arc::default();
        self.shared.inner.lock().idle = 0;
    }

    /// Submits a bid. Answered by [`OriginEvent::Granted`] or [`OriginEvent::BidFailed`].
    pub fn bid(&self, bid: BidOut) {
        self.rt.spawn(bid::run(self.shared.clone(), bid));
    }

    /// Ends a fetch without an answer. Bytes already on their way through the event channel may still come out.
    pub fn abort(&self, fetch: FetchId) {
        if let Some(cancel) = self.shared.inner.lock().fetches.remove(&fetch) {
            cancel.cancel();
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.root.cancel();
    }
}

/// Where the server stands with us.
#[derive(Debug, Clone, Default)]
enum Standing {
    /// Not heard of yet.
    #[default]
    New,
    Up,
    /// To be asked again later.
    Resting(String),
    /// Refused for good.
    Down(String),
}

#[derive(Default)]
struct Inner {
    standing: Standing,
    fetches: HashMap<FetchId, CancellationToken>,
    /// Final URL of a part whose own URL redirects: saves a round trip per request.
    shortcuts: HashMap<usize, Url>,
    failures: u32,
    /// How long the supervisor is to wait before it probes again.
    rest: Option<Duration>,
    /// Estimate of open connections that no request uses (HTTP/1.1).
    idle: u32,
    warming: bool,
    /// Whether it takes bids, once it said.
    bids: Option<bool>,
}

pub(super) struct Shared {
    id: OriginId,
    pub map: OriginMap,
    route: NetRoute,
    bidder: Arc<Bidder>,
    events: mpsc::Sender<OriginEvent>,
    /// The owner is gone.
    pub root: CancellationToken,
    /// The server was refused for good.
    pub down: CancellationToken,
    pub rest: Notify,
    pub permits: Semaphore,
    clients: Mutex<Arc<Clients>>,
    inner: Mutex<Inner>,
}

impl Shared {
    /// Sends GET for bytes of one part and checks the head of its answer. `want` lies in torrent space, within the
    /// part, and is not empty; so is the answer's range.
    pub async fn ask(&self, part: usize, want: ByteRange, grants: &[String]) -> Result<(Opened, Told), Fault> {
        let Some(p) = self.map.parts.get(part) else { return Err(Fault::Refused("has no such file".into())) };
        let local = ByteRange::new(want.start.saturating_sub(p.range.start), want.end.saturating_sub(p.range.start));
        let url = map::parse(&p.url).map_err(|e| Fault::Refused(e.to_string()))?;
        let html = is_page_name(url.path());
        // A server that is known to take no bids need not know who asks.
        let claim = match self.inner.lock().bids {
            Some(false) => None,
            Some(true) | None => Claim::new(&url, &self.bidder.viewer, grants),
        };
        let clients = self.clients();
        let ask = async |url: &Url| {
            let opened = open(&clients, &self.route, url, Some(local), claim.as_ref()).await?;
            let told = check(opened.response.status(), opened.response.headers(), local, Some(p.range.len()), html)?;
            Ok::<_, Fault>((opened, told))
        };
        let shortcut = self.inner.lock().shortcuts.get(&part).cloned();
        let answer = match shortcut {
            None => ask(&url).await,
            Some(shortcut) => match ask(&shortcut).await {
                // A redirect's target may be valid for minutes only: whatever is wrong with it, the original decides.
                Err(Fault::Break(_) | Fault::Refused(_)) => {
                    self.inner.lock().shortcuts.remove(&part);
                    ask(&url).await
                }
                answer => answer,
            },
        };
        let (opened, told) = answer?;
        if opened.redirected {
            self.inner.lock().shortcuts.insert(part, opened.url.clone());
        }
        let body = ByteRange::new(told.body.start + p.range.start, told.body.end + p.range.start);
        Ok((opened, Told { body, ..told }))
    }

    pub fn id(&self) -> OriginId {
        self.id
    }

    pub fn route(&self) -> &NetRoute {
        &self.route
    }

    pub fn clients(&self) -> Arc<Clients> {
        self.clients.lock().clone()
    }

    pub fn bidder(&self) -> &Bidder {
        &self.bidder
    }

    /// An answer to a bid showed whether it takes any.
    pub fn takes_bids(&self, takes: bool) {
        self.inner.lock().bids = Some(takes);
    }

    /// Why no fetch can succeed now, if so.
    pub fn unavailable(&self) -> Option<String> {
        match &self.inner.lock().standing {
            Standing::New | Standing::Up => None,
            Standing::Resting(reason) | Standing::Down(reason) => Some(reason.clone()),
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.inner.lock().standing, Standing::Up)
    }

    /// A useful answer came.
    pub async fn mark_up(&self, rtt: Option<Duration>) {
        let bidding = {
            let mut inner = self.inner.lock();
            inner.failures = 0;
            if matches!(inner.standing, Standing::Up | Standing::Down(_)) {
                return;
            }
            inner.standing = Standing::Up;
            inner.bids
        };
        self.tell(OriginEvent::Up { origin: self.id, bidding, rtt }).await;
    }

    /// The server is refused for good; its fetches fail.
    pub async fn mark_down(&self, reason: &str) {
        {
            let mut inner = self.inner.lock();
            if matches!(inner.standing, Standing::Down(_)) {
                return;
            }
            inner.standing = Standing::Down(reason.to_owned());
        }
        self.down.cancel();
        self.tell(OriginEvent::Down { origin: self.id, reason: reason.to_owned() }).await;
    }

    /// The server is left in peace for a while; `wake` asks the supervisor to probe it after `wait`.
    pub async fn mark_resting(&self, reason: &str, wait: Duration, wake: bool) {
        {
            let mut inner = self.inner.lock();
            if matches!(inner.standing, Standing::Resting(_) | Standing::Down(_)) {
                return;
            }
            inner.standing = Standing::Resting(reason.to_owned());
            inner.rest = wake.then_some(wait);
            inner.idle = 0;
        }
        if wake {
            self.rest.notify_one();
        }
        self.tell(OriginEvent::Down { origin: self.id, reason: reason.to_owned() }).await;
    }

    /// How long the supervisor is to wait, once [`Shared::rest`] notified it.
    pub fn take_rest(&self) -> Option<Duration> {
        self.inner.lock().rest.take()
    }

    /// A fetch broke. Several in a row that brought nothing, and the server counts as unreachable.
    pub async fn note_failure(&self, reason: &str, got_bytes: bool) {
        let unreachable = {
            let mut inner = self.inner.lock();
            inner.failures = if got_bytes { 0 } else { inner.failures + 1 };
            inner.failures >= MAX_FAILURES && matches!(inner.standing, Standing::Up)
        };
        if unreachable {
            self.mark_resting(reason, REST, true).await;
        }
    }

    /// The driver hears of it, or is gone and everything ends.
    pub async fn tell(&self, event: OriginEvent) {
        tokio::select! {
            biased;
            () = self.root.cancelled() => {}
            sent = self.events.send(event) => if sent.is_err() { self.root.cancel() },
        }
    }

    pub fn forget(&self, fetch: FetchId) {
        self.inner.lock().fetches.remove(&fetch);
    }

    /// A request is about to take a connection.
    pub fn connection_taken(&self) {
        let mut inner = self.inner.lock();
        inner.idle = inner.idle.saturating_sub(1);
    }

    /// A response was read to its end and left its connection open.
    pub fn connection_free(&self, kept_by: &Arc<Clients>) {
        if !Arc::ptr_eq(kept_by, &*self.clients.lock()) {
            return;
        }
        let mut inner = self.inner.lock();
        inner.idle = (inner.idle + 1).min(MAX_IDLE as u32);
    }

    /// Sees to it that an open connection lies ready: a seek aborts what runs, which over HTTP/1.1 costs its
    /// connection, and the new fetch must not wait for TCP and TLS first.
    pub fn keep_one_warm(self: &Arc<Self>) {
        {
            let mut inner = self.inner.lock();
            if inner.idle > 0 || inner.warming || !matches!(inner.standing, Standing::Up) {
                return;
            }
            inner.warming = true;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            let stop = shared.root.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                // What a spare connection says is no news: the next fetch will see for itself.
                _ = probe::first_byte(&shared) => {}
            }
            shared.inner.lock().warming = false;
        });
    }
}

/// Whether a URL's path names a web page, which is then no sign of trouble.
fn is_page_name(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".html", ".htm", ".xhtml"].iter().any(|e| lower.ends_with(e))
}
