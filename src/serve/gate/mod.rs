//! The gate: every file byte that leaves this server goes through it, in its turn.
//!
//! Invariants: over any stretch of time t at most `rate · t` and one burst of file bytes go out; granted bytes go before
//! others, evenly between viewers however many connections each has; what is left over goes evenly between addresses.
//! Nobody holds a lock while it waits, and who waits holds no bytes.
//!
//! [`Ledger`] says how much of a response is granted, [`queue`] whose chunk is next; here are the clock, the headers, and
//! the one task that wakes those who wait.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::allocate::{AddressKey, Allocation, Bidder, Ledger, Refusal, ViewerKey};
use super::metrics::Metrics;
use crate::engine::Bid;
use crate::units::Instant;
use queue::{Flow, Queue};
use sign::{Said, Signer};
use turn::Part;

mod counts;
mod queue;
mod sign;
mod turn;

#[cfg(test)]
mod tests;

pub use counts::{GateCounts, Reason};
pub use sign::viewer_key;
pub use turn::Turn;

/// Names the viewer of a GET: what it calls itself in its bids.
pub const VIEWER: HeaderName = HeaderName::from_static("sluicegate-viewer");
/// The grants that a GET spends, separated by commas, in the order in which they are spent.
pub const GRANT: HeaderName = HeaderName::from_static("sluicegate-grant");

/// Grants that one request may spend; a viewer has two or three at a time.
const GRANTS_MOST: usize = 8;
/// The most that goes at once where there is no rate to keep.
const CHUNK_FREE: usize = 64 * 1024;
/// The ledger is told of time at least so often, so that what lapses is seen to.
const TICK: Duration = Duration::from_secs(1);

/// What the gate keeps to.
#[derive(Debug, Clone)]
pub struct GateOptions {
    /// Bits of files per second over all connections together; `None` is unlimited.
    pub capacity: Option<u64>,
    /// What grants are signed with; several servers behind one balancer share it. Random when `None`.
    pub secret: Option<Vec<u8>>,
    /// Shares of the server that one address has at most; see [`Allocation::viewers_per_address`].
    pub viewers_per_address: Option<u32>,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { capacity: None, secret: None, viewers_per_address: Allocation::default().viewers_per_address }
    }
}

/// The server is stopping: no more bytes of this response go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server shuts down")]
pub struct Stopped;

impl From<Stopped> for io::Error {
    fn from(e: Stopped) -> Self {
        Self::new(io::ErrorKind::ConnectionAborted, e)
    }
}

/// What time it is for the ledger and the queue; it never goes back.
type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// One per server, cloned into each connection. The last clone ends its task.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
    _task: Arc<EndOnDrop>,
}

struct Shared {
    capacity: Option<u64>,
    clock: Clock,
    signer: Signer,
    ledger: Arc<Mutex<Ledger>>,
    /// `None` without a capacity: then nobody waits.
    line: Option<Mutex<Line>>,
    /// Somebody waits, and the task does not know yet.
    nudge: Notify,
    stop: CancellationToken,
    metrics: Metrics,
}

impl Shared {
    fn now(&self) -> Instant {
        (self.clock)()
    }
}

struct Line {
    queue: Queue<std::task::Waker>,
    /// The task will look at the queue by itself.
    armed: bool,
}

struct EndOnDrop(tokio::task::AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A bid's answer as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Granted {
    pub grant_bits: u64,
    /// Milliseconds from the answer on.
    pub expires_ms: u64,
    pub grant: String,
}

impl Gate {
    /// Needs a tokio runtime around it. `stop` breaks off every response.
    pub fn new(options: GateOptions, stop: CancellationToken) -> Self {
        let made = std::time::Instant::now();
        let clock = move || Instant(u64::try_from(made.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Self::by_clock(options, stop, Box::new(clock))
    }

    fn by_clock(options: GateOptions, stop: CancellationToken, clock: Clock) -> Self {
        let secret = options.secret.unwrap_or_else(|| rand::random::<[u8; 32]>().to_vec());
        let allocation = Allocation {
            capacity: options.capacity,
            viewers_per_address: options.viewers_per_address,
            instance: rand::random(),
            ..Allocation::default()
        };
        let line = options.capacity.map(|bits| {
            let queue = Queue::new(bits as f64 / 8.0, clock());
            Mutex::new(Line { queue, armed: false })
        });
        let shared = Arc::new(Shared {
            capacity: options.capacity,
            clock,
            signer: Signer::new(&secret),
            ledger: Arc::new(Mutex::new(Ledger::new(allocation))),
            line,
            nudge: Notify::new(),
            stop,
            metrics: Metrics::default(),
        });
        shared.metrics.gate.watch(&shared.ledger);
        let task = tokio::spawn(attend(shared.clone())).abort_handle();
        Self { shared, _task: Arc::new(EndOnDrop(task)) }
    }

    /// What this server counts, of the gate and of all around it.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Bits of files per second, if they are limited.
    pub fn capacity(&self) -> Option<u64> {
        self.shared.capacity
    }

    /// Answers the bid of a viewer that calls itself `viewer`, at `address`.
    pub fn bid(&self, viewer: ViewerKey, address: IpAddr, bid: &Bid) -> Result<Granted, Refusal> {
        let now = self.shared.now();
        let who = Bidder { viewer, address: address_key(address) };
        let grant = self.shared.ledger.lock().bid(now, who, bid)?;
        let life = grant.expires.since(now).as_millis() as u64;
        let said = Said { id: grant.id, viewer, bits: grant.bits, expires_ms: unix_ms().saturating_add(life) };
        Ok(Granted { grant_bits: grant.bits, expires_ms: life, grant: self.shared.signer.sign(&said) })
    }

    /// Lets one response in whose body will have `len` bytes. `headers` are the request's: its viewer and grants are read
    /// from them ([`VIEWER`], [`GRANT`]); what its grants do not cover is bid for on the spot. `address` is who fairness counts
    /// it to.
    pub fn admit(&self, headers: &HeaderMap, address: IpAddr, len: u64) -> Turn {
        let shared = &self.shared;
        let now = shared.now();
        let address = address_key(address);
        let named = headers.get(VIEWER).and_then(|v| v.to_str().ok()).and_then(viewer_key);
        let shown = headers.get_all(GRANT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
        let shown: Vec<&str> = shown.map(str::trim).filter(|g| !g.is_empty()).take(GRANTS_MOST).collect();
        let grants: Vec<Said> = shown.iter().filter_map(|g| shared.signer.read(g)).collect();
        for _ in grants.len()..shown.len() {
            shared.metrics.gate.refused(Reason::Forged);
        }
        let Some(viewer) = named.or(grants.first().map(|g| g.viewer)) else {
            return Turn::new(self.clone(), None, Flow::Address(address.0), Vec::new(), len);
        };
        let mut left = len.saturating_mul(8);
        let mut parts = Vec::new();
        let unix = unix_ms();
        let mut ledger = shared.ledger.lock();
        for said in grants.iter().filter(|g| g.bits > 0) {
            if left == 0 {
                break;
            }
            let expires = now + Duration::from_millis(said.expires_ms.saturating_sub(unix));
            let spent = match said.viewer == viewer {
                true => ledger.spend(now, said.id, said.bits, expires, viewer, left),
                false => 0,
            };
            match spent {
                0 => shared.metrics.gate.refused(Reason::Void),
                bits => {
                    left -= bits;
                    parts.push(Part::Grant { id: said.id, bits });
                }
            }
        }
        if left > 0
            && let Ok(bits @ 1..) = ledger.bid_and_spend(now, Bidder { viewer, address }, left)
        {
            parts.push(Part::Asked { viewer, bits });
        }
        drop(ledger);
        Turn::new(self.clone(), Some(Flow::Viewer(viewer.0)), Flow::Address(address.0), parts, len)
    }

    /// Of what `parts` were given, in this order, the last `bits` were not sent.
    fn give_back(&self, parts: &[Part], mut bits: u64) {
        let mut ledger = self.shared.ledger.lock();
        for part in parts.iter().rev() {
            let back = bits.min(part.bits());
            bits -= back;
            match *part {
                Part::Grant { id, .. } => ledger.give_back(id, back),
                Part::Asked { viewer, .. } => ledger.unbid(self.shared.now(), viewer, back),
            }
        }
    }
}

/// Serves those who wait as the rate allows, and lets the ledger see time pass.
async fn attend(shared: Arc<Shared>) {
    let mut woken = Vec::new();
    let mut ticked = shared.now();
    loop {
        let now = shared.now();
        let due = shared.line.as_ref().and_then(|line| {
            let mut line = line.lock();
            line.queue.pump(now, &mut woken);
            let due = line.queue.due();
            line.armed = due.is_some();
            due
        });
        woken.drain(..).for_each(std::task::Waker::wake);
        if now.since(ticked) >= TICK {
            shared.ledger.lock().tick(now);
            ticked = now;
        }
        let wait = due.map_or(TICK, |at| at.since(now)).min(TICK);
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
            () = shared.nudge.notified(), if due.is_none() => {}
        }
    }
    if let Some(line) = &shared.line {
        line.lock().queue.close(&mut woken);
    }
    woken.into_iter().for_each(std::task::Waker::wake);
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// One per IPv4 address, and per /56 of IPv6: what one customer is given (RFC 6177).
fn address_key(address: IpAddr) -> AddressKey {
    AddressKey(match address.to_canonical() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits() >> 72 << 72,
    })
}
