//! The origin server: files by range, at a rate that the whole server keeps to. Bids and their allocation join it here.
//!
//! Invariants: nothing outside the root is served, whatever links lie in it; the server as a whole never sends file
//! bytes faster than its limit; after shutdown nothing of it is left.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio_util::sync::CancellationToken;

pub mod allocate;
pub mod bids;
mod files;
pub mod gate;
pub mod metrics;
mod pace;

use gate::{Gate, GateOptions};

#[cfg(test)]
mod tests;

/// After shutdown is asked for, responses under way may take this long to end by themselves.
const GRACE: Duration = Duration::from_millis(250);

/// What the server as a whole may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServeLimits {
    /// File bytes per second over all connections together; `None` is unlimited.
    pub bytes_per_s: Option<u64>,
}

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("The folder or file to serve cannot be read: {}: {source}.", path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error("The server's socket failed: {0}.")]
    Socket(#[from] io::Error),
}

/// Serves a folder's files, or one file at `/` and `/its-name`, to GET and HEAD with ranges and ETag, until `shutdown`
/// ends. Responses still under way are broken off after a short grace.
pub async fn serve(
    listener: tokio::net::TcpListener,
    root: PathBuf,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let stop = CancellationToken::new();
    let gate = Gate::new(
        GateOptions { capacity: limits.bytes_per_s.map(|b| b.saturating_mul(8)), ..GateOptions::default() },
        stop.clone(),
    );
    let files = files::router(&root, gate).map_err(|source| ServeError::Root { path: root, source })?;
    // Small ranges are the rule here, and each would wait for an ACK otherwise.
    let listener = listener.tap_io(|tcp| {
        let _ = tcp.set_nodelay(true);
    });
    let asked = CancellationToken::new();
    let _stop_if_dropped = stop.clone().drop_guard();
    let watch = {
        let asked = asked.clone();
        async move {
            shutdown.await;
            asked.cancel();
        }
    };
    let server = axum::serve(listener, files).with_graceful_shutdown(watch).into_future();
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = async { asked.cancelled().await; tokio::time::sleep(GRACE).await } => stop.cancel(),
    }
    // Broken bodies end their connections; one that stalls elsewhere is not waited for.
    match tokio::time::timeout(GRACE, server).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Ok(()),
    }
}
