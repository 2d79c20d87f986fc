//! Where addresses come from, besides peers themselves: trackers, DHT, LSD. All start at once and none waits for another.
//!
//! Invariant: a private torrent (BEP 27) asks its trackers and nobody else; one that turns out to be private stops asking.
//! Behind a proxy nothing is asked but what the proxy can carry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use librqbit_core::hash_id::Id20;
use librqbit_lsd::{LocalServiceDiscovery, LocalServiceDiscoveryOptions};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::api::LinkSource;
use super::shared::Shared;
use super::{dht, portmap, tracker};

/// How often it is looked whether the chosen interface is there.
const LOOK: Duration = Duration::from_secs(2);

const LSD: (u8, &str) = (3, "lsd");

/// Starts looking. Returns at once.
pub fn start(shared: &Arc<Shared>) {
    let network = &shared.config.network;
    if network.route.words().is_some() {
        shared.spawn(show_route(shared.clone()));
    }
    if let Some(list) = &network.blocklist {
        shared.post(8, "blocklist", list.words());
    }
    portmap::start(shared);
    tracker::start(shared);
    if shared.is_private() {
        return;
    }
    if shared.config.dht {
        shared.spawn(dht::run(shared.clone()));
    }
    if shared.config.lsd {
        shared.spawn(lsd(shared.clone()));
    }
}

/// Ends the crate's own tasks with ours, however ours ends.
pub fn ends_with(shared: &Shared) -> (CancellationToken, tokio_util::sync::DropGuard) {
    let token = shared.public_discovery.child_token();
    (token.clone(), token.drop_guard())
}

/// Until the chosen interface is another one than that of this number: sockets tied to it are of no use then. For ever where
/// none was chosen.
pub async fn way_changed(shared: &Shared, index: Option<u32>) {
    if shared.config.network.route.bind.is_none() {
        return std::future::pending().await;
    }
    loop {
        sleep(LOOK).await;
        if shared.config.network.route.way().ok().flatten().map(|w| w.index) != index {
            return;
        }
    }
}

/// Says which way packets leave, and why they do not.
async fn show_route(shared: Arc<Shared>) {
    let route = &shared.config.network.route;
    loop {
        let line = match route.way() {
            Ok(_) => route.words().map(|w| format!("network · {w} only")),
            Err(e) => Some(format!("network · {e}")),
        };
        shared.post(0, "route", line.unwrap_or_default());
        tokio::select! {
            () = sleep(LOOK) => {}
            () = shared.cancel.cancelled() => return,
        }
    }
}

async fn lsd(shared: Arc<Shared>) {
    let (rank, key) = LSD;
    if !shared.config.network.route.free_datagrams() {
        return shared.post(rank, key, "local network · off behind a proxy".into());
    }
    loop {
        let index = shared.config.network.route.way().ok().flatten().map(|w| w.index);
        tokio::select! {
            r = lsd_once(&shared) => if let Err(e) = r {
                tracing::debug!("local network: {e:#}");
                shared.post(rank, key, "local network · not available".into());
                // Nothing changes here but what interfaces there are.
                tokio::select! {
                    () = way_changed(&shared, index) => {}
                    () = shared.public_discovery.cancelled() => {}
                }
            },
            () = way_changed(&shared, index) => {}
            () = shared.public_discovery.cancelled() => {}
        }
        if shared.public_discovery.is_cancelled() {
            break;
        }
    }
    if !shared.cancel.is_cancelled() {
        shared.post(rank, key, "local network · off, the torrent is private".into());
    }
}

async fn lsd_once(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let (token, _guard) = ends_with(shared);
    let route = &shared.config.network.route;
    let device = match route.way()? {
        None => None,
        // Where a socket cannot be tied to an interface, the group would be told on all of them.
        Some(way) => Some(way.device()?.ok_or_else(|| anyhow::anyhow!("no interface can be chosen"))?),
    };
    let options = LocalServiceDiscoveryOptions {
        cancel_token: token,
        bind_device: device.as_ref(),
        ..LocalServiceDiscoveryOptions::default()
    };
    let lsd = LocalServiceDiscovery::new(options).await?;
    let stream = lsd.announce(Id20::new(shared.config.info_hash.0), shared.local.map(|l| l.port()));
    follow(shared, stream).await;
    anyhow::bail!("it ended")
}

async fn follow(shared: &Arc<Shared>, stream: impl Stream<Item = SocketAddr>) {
    tokio::pin!(stream);
    let (rank, key) = LSD;
    let mut found = 0usize;
    shared.post(rank, key, "local network".into());
    while let Some(addr) = stream.next().await {
        found += 1;
        shared.found([addr], LinkSource::Lsd);
        shared.post(rank, key, format!("local network · {}", tracker::peers(found)));
    }
}
