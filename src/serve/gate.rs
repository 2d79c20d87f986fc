//! The gate: every file byte that leaves this server goes through it, in its turn.
//!
//! Invariants: over any stretch of time t at most `rate · t` and one burst of file bytes go out; granted bytes go before
//! others, evenly between viewers however many connections each has; what is left over goes evenly between addresses.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use futures::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::pace::Pace;

/// The most bytes of one response that go out in one turn. Small, so that thousands of responses share the rate evenly
/// in short stretches and a response that waits holds little.
pub const CHUNK: usize = 16 * 1024;

/// What the gate keeps to.
#[derive(Debug, Clone, Default)]
pub struct GateOptions {
    /// Bits of files per second over all connections together; `None` is unlimited.
    pub capacity: Option<u64>,
    /// What grants are signed with; several servers behind one balancer share it. Random when `None`.
    pub secret: Option<Vec<u8>>,
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

/// One per server, cloned into each connection.
#[derive(Clone)]
pub struct Gate {
    pace: Pace,
    options: Arc<GateOptions>,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// Needs a tokio runtime around it. `stop` breaks off every response.
    pub fn new(options: GateOptions, stop: CancellationToken) -> Self {
        Self {
            pace: Pace::new(options.capacity.map(|b| b / 8), stop),
            options: Arc::new(options),
            metrics: Arc::default(),
        }
    }

    /// What this server counts, of the gate and of all around it.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Bits of files per second, if they are limited.
    pub fn capacity(&self) -> Option<u64> {
        self.options.capacity
    }

    /// Lets one response in whose body will have `len` bytes. `headers` are the request's: its viewer and grants are read
    /// from them (`Sluicegate-Viewer`, `Sluicegate-Grant`). `address` is who fairness counts it to.
    pub fn admit(&self, _headers: &HeaderMap, _address: IpAddr, len: u64) -> Turn {
        Turn { gate: self.clone(), left: len }
    }
}

/// One response's right to send. Dropped early, what it did not send goes back to its viewer's grants.
pub struct Turn {
    gate: Gate,
    left: u64,
}

impl Turn {
    /// Waits until some bytes may go out, at most `most` and at most [`CHUNK`], and says how many: zero only when `most`
    /// is. Read them after this, not before: whoever waits then holds no memory. Dropped while it waits, it takes nothing.
    pub async fn take(&mut self, most: usize) -> Result<usize, Stopped> {
        let n = most.min(CHUNK);
        self.gate.pace.turn(n).await?;
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }

    /// `source` in its turns, for sources that bring chunks of their own size.
    pub fn body<S, E>(self, source: S) -> Body
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Body::from_stream(stream::unfold((self, source, Bytes::new()), |(mut turn, mut source, mut rest)| async move {
            while rest.is_empty() {
                match source.next().await? {
                    Ok(bytes) => rest = bytes,
                    Err(e) => return Some((Err(io::Error::other(e)), (turn, source, rest))),
                }
            }
            let out = match turn.take(rest.len()).await {
                Ok(n) => Ok(rest.split_to(n.min(rest.len()))),
                Err(e) => Err(io::Error::from(e)),
            };
            Some((out, (turn, source, rest)))
        }))
    }
}
