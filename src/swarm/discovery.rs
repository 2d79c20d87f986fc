//! Where addresses come from, besides peers themselves: trackers, DHT, LSD. All start at once and none waits for another.
//!
//! Invariant: a private torrent (BEP 27) asks its trackers and nobody else; one that turns out to be private stops asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use librqbit_core::hash_id::Id20;
use librqbit_dht::{DhtConfig, DhtState};
use librqbit_lsd::{LocalServiceDiscovery, LocalServiceDiscoveryOptions};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::api::LinkSource;
use super::shared::Shared;
use super::tracker;

/// Starts looking. Returns at once.
pub fn start(shared: &Arc<Shared>) {
    tracker::start(shared);
    if shared.is_private() {
        return;
    }
    if shared.config.dht {
        shared.post(2, "dht", "DHT · joining".into());
        let task = shared.clone();
        public(shared, (2, "dht"), "DHT", async move { dht(&task).await });
    }
    if shared.config.lsd {
        let task = shared.clone();
        public(shared, (3, "lsd"), "local network", async move { lsd(&task).await });
    }
}

/// Runs a way to find peers that a private torrent may not use; what goes wrong shows in its line of the status.
fn public(
    shared: &Arc<Shared>,
    (rank, key): (u8, &'static str),
    name: &'static str,
    way: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    let task = shared.clone();
    shared.spawn(async move {
        tokio::select! {
            r = way => if let Err(e) = r {
                tracing::debug!("{name}: {e:#}");
                task.post(rank, key, format!("{name} · not available"));
            },
            () = task.public_discovery.cancelled() => {
                if !task.cancel.is_cancelled() {
                    task.post(rank, key, format!("{name} · off, the torrent is private"));
                }
            }
        }
    });
}

/// Ends the crate's own tasks with ours, however ours ends.
fn ends_with(shared: &Shared) -> (CancellationToken, tokio_util::sync::DropGuard) {
    let token = shared.public_discovery.child_token();
    (token.clone(), token.drop_guard())
}

async fn dht(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let (token, _guard) = ends_with(shared);
    let dht = DhtState::with_config(DhtConfig { cancellation_token: Some(token), ..DhtConfig::default() }).await?;
    let mut peers = dht.get_peers(Id20::new(shared.config.info_hash.0), shared.local.map(|l| l.port()));
    let mut found = 0usize;
    loop {
        tokio::select! {
            addr = peers.next() => {
                let Some(addr) = addr else { anyhow::bail!("the DHT ended") };
                // Nobody out there knows who listens on this machine.
                if !addr.ip().to_canonical().is_loopback() {
                    found += 1;
                    shared.found([addr], LinkSource::Dht);
                }
            }
            () = sleep(Duration::from_secs(1)) => {}
        }
        let stats = dht.stats();
        let nodes = stats.routing_table_size + stats.routing_table_size_v6;
        let line = match nodes {
            0 => "DHT · joining".into(),
            n => format!("DHT · {n} nodes · {}", tracker::peers(found)),
        };
        shared.post(2, "dht", line);
    }
}

async fn lsd(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let (token, _guard) = ends_with(shared);
    let options = LocalServiceDiscoveryOptions { cancel_token: token, ..LocalServiceDiscoveryOptions::default() };
    let lsd = LocalServiceDiscovery::new(options).await?;
    let stream = lsd.announce(Id20::new(shared.config.info_hash.0), shared.local.map(|l| l.port()));
    follow(shared, stream).await;
    Ok(())
}

async fn follow(shared: &Arc<Shared>, stream: impl Stream<Item = SocketAddr>) {
    tokio::pin!(stream);
    let mut found = 0usize;
    shared.post(3, "lsd", "local network".into());
    while let Some(addr) = stream.next().await {
        found += 1;
        shared.found([addr], LinkSource::Lsd);
        shared.post(3, "lsd", format!("local network · {}", tracker::peers(found)));
    }
}
