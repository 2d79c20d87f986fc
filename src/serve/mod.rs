//! The origin server: files by range over HTTP, at a rate that the whole server keeps to, first to those whose bids it granted.
//!
//! Invariants: nothing outside what was named is served, whatever links lie in it; the server as a whole never sends file
//! bytes faster than its capacity; after shutdown nothing of it is left.

pub mod allocate;
mod auth;
pub mod bids;
pub mod descriptors;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod gate;
mod http;
pub mod metrics;
pub mod source;
mod tls;
pub mod torrents;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use bids::Known;
use gate::{Gate, GateOptions};
use http::{Connections, Door, Listening, Site};
use source::{SourceError, SourceSpec, Tree};

pub use auth::Auth;
pub use http::{ConnectionLimits, NotANetwork, Proxies};
pub use tls::{Tls, TlsError};

#[cfg(test)]
mod tests;

/// After the grace bodies break off at once; this is for sockets that do not even take that.
const BREAK: Duration = Duration::from_millis(500);

/// What a server serves, to whom, and what it may spend.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    pub sources: Vec<SourceSpec>,
    /// File bytes per second over all connections together; `None` is unlimited.
    pub bytes_per_s: Option<u64>,
    /// Viewers must present it, or an address signed with it. Several servers behind one balancer share it.
    pub token: Option<String>,
    /// What bids may name.
    pub known: Known,
    pub connections: ConnectionLimits,
    /// Answers that may have a file open at a time.
    pub files: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: Vec<Proxies>,
    /// Shares of the capacity that one address has at most; `None` is no limit. See [`allocate::Allocation`].
    pub viewers_per_address: Option<u32>,
    /// `/metrics` is answered where files are; otherwise only at [`Origin::run`]'s second listener.
    pub metrics: bool,
    /// How long answers under way may go on after shutdown is asked for.
    pub grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            bytes_per_s: None,
            token: None,
            known: Known::Any,
            connections: ConnectionLimits::default(),
            files: 4096,
            proxies: Vec::new(),
            viewers_per_address: GateOptions::default().viewers_per_address,
            metrics: true,
            grace: Duration::from_millis(250),
        }
    }
}

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("The server's socket failed: {0}.")]
    Socket(#[from] io::Error),
}

/// A server that has looked at what it serves, and does not listen yet.
pub struct Origin {
    site: Arc<Site>,
    connections: Arc<Connections>,
    ending: CancellationToken,
    stop: CancellationToken,
    metrics: bool,
    grace: Duration,
}

impl Origin {
    /// Looks at each source.
    pub async fn open(options: ServeOptions) -> Result<Self, ServeError> {
        let tree = Tree::open(&options.sources).await?;
        Ok(Self::of(tree, options))
    }

    fn of(tree: Tree, options: ServeOptions) -> Self {
        let (ending, stop) = (CancellationToken::new(), CancellationToken::new());
        let gate = GateOptions {
            capacity: options.bytes_per_s.map(|b| b.saturating_mul(8)),
            secret: options.token.as_ref().map(|t| t.as_bytes().to_vec()),
            viewers_per_address: options.viewers_per_address,
        };
        let auth = Auth::new(options.token.as_deref());
        let gate = Gate::new(gate, stop.clone());
        let site = Site::new(tree, gate, auth, options.proxies, options.known, options.files, ending.clone());
        Self {
            site: Arc::new(site),
            connections: Connections::new(options.connections),
            ending,
            stop,
            metrics: options.metrics,
            grace: options.grace,
        }
    }

    /// Serves `files`, and health and numbers at `metrics` too where that is given, until `shutdown` ends; then accepts nothing
    /// more, and breaks off what is still under way after the grace.
    pub async fn run(
        &self,
        files: TcpListener,
        tls: Option<Arc<Tls>>,
        metrics: Option<TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) {
        // Whoever drops this future in the middle leaves no connection behind either.
        let _ended = (self.ending.clone().drop_guard(), self.stop.clone().drop_guard());
        let door = Door::Files { metrics: self.metrics };
        let served = http::accept(files, self.listening(door, tls, self.connections.clone(), self.ending.clone()));
        let watched = async {
            if let Some(listener) = metrics {
                // Its own connections, so that a full house can still be watched; and as long as there is anything to watch.
                let limits = ConnectionLimits { total: 64, ..ConnectionLimits::default() };
                let stop = self.stop.clone();
                http::accept(listener, self.listening(Door::Metrics, None, Connections::new(limits), stop)).await;
            }
        };
        let ending = async {
            shutdown.await;
            self.ending.cancel();
            tokio::time::sleep(self.grace).await;
            self.stop.cancel();
            tokio::time::sleep(BREAK).await;
        };
        let served = async {
            served.await;
            self.stop.cancel();
        };
        tokio::select! {
            _ = async { tokio::join!(served, watched) } => {}
            () = ending => {}
        }
    }

    fn listening(
        &self,
        door: Door,
        tls: Option<Arc<Tls>>,
        connections: Arc<Connections>,
        ending: CancellationToken,
    ) -> Listening {
        Listening { site: self.site.clone(), door, connections, tls, ending, stop: self.stop.clone() }
    }

    /// What it counts.
    pub fn metrics(&self) -> &metrics::Metrics {
        self.site.gate.metrics()
    }

    /// The address of `url_path` as it may be given away until `expires`; `None` without a token.
    pub fn sign(&self, url_path: &str, expires: SystemTime) -> Option<String> {
        self.site.auth.sign(url_path, expires)
    }
}

/// Serves one folder or file without TLS or token, until `shutdown` ends.
pub async fn serve(
    listener: TcpListener,
    root: PathBuf,
    bytes_per_s: Option<u64>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let options = ServeOptions { sources: vec![SourceSpec::Path(root)], bytes_per_s, ..ServeOptions::default() };
    Origin::open(options).await?.run(listener, None, None, shutdown).await;
    Ok(())
}
