//! Sockets to peers: wire, link, metadata exchange, discovery, listener.
//!
//! ```text
//! discovery (trackers, DHT, LSD) ─┐
//! PEX, the user's peers ──────────┴► book ─► dial ─┐
//!                                  listener ───────┴► shake ─► link: reader ─► SwarmEvent ─► driver
//!                                                                    writer ◄─ queue ◄─ LinkCommand ┘
//!                                 over a conn: TCP or uTP, plain or encrypted (mse)
//! ```
//!
//! Invariant: nothing in here decides what to ask of whom. Everything a stranger can make us hold is bounded: messages by
//! kind, queues by bytes, addresses and links by number; and a slow driver slows the sockets, never memory.

pub mod api;

mod benc;
pub mod blocklist;
mod book;
mod budget;
mod chatter;
mod client;
mod conn;
mod dht;
mod dial;
mod discovery;
mod fast;
mod handshake;
mod http_tracker;
mod link;
mod listener;
mod lookup;
mod merit;
mod metadata;
mod mse;
mod mse_crypto;
mod pex;
mod portmap;
mod queue;
mod reader;
mod shake;
mod shared;
mod tracker;
mod udp_tracker;
mod utp;
// For the benches and the fuzzers.
pub mod wire;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod mse_tests;
#[cfg(test)]
mod reach_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transmission;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::api::{
    DiscoveryStatus, Encryption, KnownTorrent, LinkCommand, LinkInfo, LinkSource, Network, SwarmConfig, SwarmEvent,
};
use self::shared::Shared;
use self::wire::{Message, Span};
use crate::units::{LinkId, PieceIndex};

/// A swarm cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    #[error("No port can be opened for peers on {addr}: {source}.")]
    Listen { addr: SocketAddr, source: std::io::Error },
}

/// Longest wait at [`Swarm::shutdown`] for trackers to hear that we leave.
const GOODBYE: Duration = Duration::from_millis(900);

/// One torrent's peers. Dropping it closes every link.
#[derive(Debug)]
pub struct Swarm {
    shared: Arc<Shared>,
}

impl Swarm {
    /// Joins the swarm and returns at once; links come as events.
    ///
    /// Fails only when a port is wanted and none at all can be had; a busy one is replaced by a free one.
    pub fn start(
        rt: &tokio::runtime::Handle,
        config: SwarmConfig,
        torrent: Option<KnownTorrent>,
        events: mpsc::Sender<SwarmEvent>,
    ) -> Result<Self, SwarmError> {
        // Sockets register with the runtime they are made in.
        let _in_runtime = rt.enter();
        let route = &config.network.route;
        let mut listening = match config.listen.filter(|_| route.takes_incoming()) {
            Some(addr) => match listener::bind(route, addr, config.utp) {
                Ok(listening) => Some(listening),
                // The interface may come up yet: until then peers are only dialled, and that fails for the same reason.
                Err(_) if route.bind.is_some() => None,
                Err(source) => return Err(SwarmError::Listen { addr, source }),
            },
            None => None,
        };
        let utp = start_utp(&config, listening.as_mut().and_then(|l| l.utp.take()));
        let shared = Arc::new(Shared::new(config, events, listening.as_ref().map(|l| l.local), utp));
        if let Some(t) = torrent {
            shared.set_torrent(t);
        }
        if let Some(l) = listening {
            listener::run(&shared, l);
        }
        shared.found(shared.config.peers.iter().copied(), LinkSource::User);
        shared.spawn(dial::run(shared.clone()));
        discovery::start(&shared);
        Ok(Self { shared })
    }

    /// Tells one link something; swallowed when the link is gone. Never blocks.
    pub fn send(&self, link: LinkId, command: LinkCommand) {
        let Some(queue) = self.shared.queue(link) else { return };
        match command {
            LinkCommand::Request { piece, begin, len } => {
                queue.push(Message::Request(Span { piece: piece.0, begin, len }));
            }
            LinkCommand::Cancel { piece, begin, len } => queue.cancel(Span { piece: piece.0, begin, len }),
            LinkCommand::Interested(yes) => queue.set_interested(yes),
            LinkCommand::Choke(yes) => queue.set_choking(yes),
            LinkCommand::Have(piece) => {
                self.shared.got(piece);
                queue.push(Message::Have(piece.0));
            }
            LinkCommand::Send { piece, begin, data } => queue.send(piece.0, begin, data),
            LinkCommand::Reject { piece, begin, len } => queue.reject(Span { piece: piece.0, begin, len }),
            LinkCommand::Close { ban } => self.shared.close(link, ban),
        }
    }

    /// We have a piece now: tells every link, and each that comes later. Preferred over [`LinkCommand::Have`], which a
    /// swarm without links cannot carry.
    pub fn announce(&self, piece: PieceIndex) {
        self.shared.got(piece);
        for queue in self.shared.queues() {
            queue.push(Message::Have(piece.0));
        }
    }

    /// A piece of ours is gone, from the disk for instance: nobody is served it any more, and those who understand
    /// (lt_donthave, BEP 54) hear of it.
    pub fn retract(&self, piece: PieceIndex) {
        if self.shared.lost(piece) {
            self.shared.queues().iter().for_each(|q| q.retract(piece.0));
        }
    }

    /// The torrent is known now. What the links said before is said to the driver then.
    pub fn set_torrent(&self, torrent: KnownTorrent) {
        self.shared.set_torrent(torrent);
    }

    /// Keep dialling up to this many links, never more than the configured most.
    pub fn want(&self, count: usize) {
        self.shared.want.store(count, Ordering::Relaxed);
        self.shared.dial.notify_one();
    }

    /// How fast all peers together may be read, in bytes per second; `None` is unlimited.
    pub fn set_receive_budget(&self, bytes_per_s: Option<u64>) {
        self.shared.budget.set(bytes_per_s);
    }

    /// Where peers are looked for and what came of it.
    pub fn status(&self) -> DiscoveryStatus {
        self.shared.status()
    }

    /// Where we listen; `None` without a listener. The port is the real one, also where a free one was asked for.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.local
    }

    /// Leaves: tells the trackers, closes every link. Under a second.
    pub async fn shutdown(&self) {
        self.shared.cancel.cancel();
        let deadline = Instant::now() + GOODBYE;
        // Links end first, then what they ran over.
        while self.shared.tasks.load(Ordering::Acquire) > 0 {
            let ended = self.shared.task_ended.notified();
            if self.shared.tasks.load(Ordering::Acquire) == 0 || tokio::time::timeout_at(deadline, ended).await.is_err()
            {
                break;
            }
        }
        if let Some(utp) = &self.shared.utp {
            let _ = tokio::time::timeout_at(deadline, utp.close()).await;
        }
    }
}

/// uTP on the sockets it listens on, or for dialling only. Without UDP at all there is TCP still.
fn start_utp(config: &SwarmConfig, listening: Option<utp::Sockets>) -> Option<utp::Utp> {
    let route = &config.network.route;
    // A proxy relays datagrams to one address at a time, if at all.
    if !config.utp || route.proxy.is_some() {
        return None;
    }
    let sockets = match listening {
        Some(sockets) => Ok(sockets),
        None => utp::Sockets::outgoing(route, config.listen.map(|l| l.ip())),
    };
    // Links, and who has not shaken hands yet, from either side.
    let most = config.max_links.min(shared::MAX_LINKS) + listener::MAX_PENDING + dial::MAX_DIALS;
    let started = sockets.and_then(|s| utp::Utp::start(s, most));
    started.inspect_err(|e| tracing::debug!("no uTP: {e}")).ok()
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}
