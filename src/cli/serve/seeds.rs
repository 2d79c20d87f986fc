//! `--seed`: the served files in their swarms as well.
//!
//! A stream of each torrent that has all of it and plays none: it announces itself and answers requests by the player's own
//! rules of upload.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::app::Failure;
use sluicegate::stream::{Stream, StreamConfig, StreamSource};
use sluicegate::swarm::Network;
use sluicegate::swarm::api::Encryption;
use sluicegate::torrent::InPlace;

use super::ServeArgs;

/// Where peers are accepted unless told otherwise, as BitTorrent clients have done since the first.
const PORT: u16 = 6881;

/// Each has links and a port of its own.
const MOST: usize = 64;

/// Links to peers, all torrents together.
const LINKS: usize = 400;
/// Fewer for one torrent are no use to its swarm.
const LINKS_LEAST: usize = 40;

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The running seeds; they end when dropped.
pub struct Seeds {
    all: Vec<(String, Stream)>,
}

impl Seeds {
    pub fn start(rt: &tokio::runtime::Handle, args: &ServeArgs, places: Vec<InPlace>) -> Result<Self, Failure> {
        if places.len() > MOST {
            return Err(Failure::input(
                format!("{} torrents are too many to seed at once", places.len()),
                format!("Seed at most {MOST} with one server"),
            ));
        }
        let count = places.len().max(1);
        let listen = args.seed_listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT));
        let up_limit = args.up_limit.and_then(|l| l.0).map(|b| (b / count as u64).max(1));
        let mut all = Vec::new();
        for (nth, place) in places.into_iter().enumerate() {
            let port = match listen.port() {
                0 => 0,
                port => u16::try_from(nth).ok().and_then(|n| port.checked_add(n)).unwrap_or(0),
            };
            let config = StreamConfig {
                // Nothing is kept: the files lie where they are served from.
                cache_dir: PathBuf::new(),
                listen: Some(SocketAddr::new(listen.ip(), port)),
                dht: !args.no_dht,
                lsd: true,
                pex: true,
                peers: Vec::new(),
                web_seeds: Vec::new(),
                use_server: false,
                use_swarm: true,
                max_links: (LINKS / count).max(LINKS_LEAST),
                encryption: Encryption::Prefer,
                utp: true,
                up_limit,
                down_limit: None,
                priority: true,
                network: Network::default(),
            };
            let name = place.meta.name.clone();
            let stream = Stream::start(rt, StreamSource::Seed(place), config, Arc::new(|| {}));
            let stream = stream.map_err(|e| Failure::machine(format!("{name} cannot be seeded: {e}"), ""))?;
            tracing::info!(torrent = name, port, "seeding");
            all.push((name, stream));
        }
        Ok(Self { all })
    }

    /// Tells of each that fails, for ever.
    pub async fn watch(&self) {
        let mut told = vec![false; self.all.len()];
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for ((name, stream), told) in self.all.iter().zip(&mut told) {
                if let Some(error) = stream.status().error.as_ref().filter(|_| !*told) {
                    *told = true;
                    tracing::error!(torrent = name, "no longer seeded: {error}");
                }
            }
        }
    }

    /// Ends them all, side by side; about a second.
    pub fn stop(self) {
        std::thread::scope(|s| {
            for (_, stream) in &self.all {
                s.spawn(|| stream.stop());
            }
        });
    }
}
