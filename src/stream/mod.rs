//! Drives one engine with swarm, origin and store, and gives media a blocking [`reader::Reader`].
//!
//! Architecture invariant: nothing in here decides; it only carries out the engine's actions.

mod driver;
mod error;
mod origins;
mod ranges;
pub mod reader;
mod setup;
mod source;
mod status;
mod wanted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::mpsc::{self, UnboundedSender};

pub use error::StreamError;
pub use status::{StreamPeer, StreamStatus};

use crate::engine::{self, Event};
use crate::swarm::Network;
use crate::swarm::api::Encryption;
use crate::torrent::{InPlace, Magnet, Metainfo, Store};
use crate::units::MediaTime;
use reader::Reader;
use source::{Shelf, StreamFile};

/// How to reach a stream's bytes, and where to keep them.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// A folder per torrent is made in here.
    pub cache_dir: PathBuf,
    /// Listen for peers here; `None`: outgoing links only.
    pub listen: Option<SocketAddr>,
    pub dht: bool,
    pub lsd: bool,
    pub pex: bool,
    /// Peers given by the user.
    pub peers: Vec<SocketAddr>,
    /// Servers beyond those the torrent names.
    pub web_seeds: Vec<String>,
    pub use_server: bool,
    pub use_swarm: bool,
    pub max_links: usize,
    /// Whether links to peers are encrypted.
    pub encryption: Encryption,
    /// Links over uTP beside those over TCP.
    pub utp: bool,
    /// Bytes per second to peers, and from peers and servers together; `None` is unlimited.
    pub up_limit: Option<u64>,
    pub down_limit: Option<u64>,
    /// Whether peers are held back while server bytes are due; off only to measure what that gains.
    pub priority: bool,
    /// Which way packets leave, and who may not be met.
    pub network: Network,
}

/// What to stream.
#[derive(Debug, Clone)]
pub enum StreamSource {
    Torrent(Arc<Metainfo>),
    Magnet(Magnet),
    /// The user's own files, to be uploaded from where they lie.
    Seed(InPlace),
    /// A plain video behind http(s): one server, no peers, no hashes.
    Video {
        url: String,
    },
}

/// Told to the driver.
enum Order {
    Stop(std::sync::mpsc::Sender<()>),
}

/// What handle and driver share.
struct Shared {
    shelf: Arc<Shelf>,
    status: ArcSwap<StreamStatus>,
    known: ArcSwapOption<(Arc<Metainfo>, Arc<Store>)>,
    gate: AtomicBool,
    first_byte: std::sync::OnceLock<std::time::Instant>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Shared {
    /// The stream cannot go on.
    fn fail(&self, why: &str) {
        let mut status = StreamStatus::clone(&self.status.load());
        status.error.get_or_insert_with(|| why.to_owned());
        self.status.store(Arc::new(status));
        self.shelf.fail(why);
        (self.wake)();
    }
}

/// One torrent or video being streamed. Dropping it stops it without waiting.
pub struct Stream {
    shared: Arc<Shared>,
    events: UnboundedSender<Event>,
    orders: UnboundedSender<Order>,
}

impl Stream {
    /// Starts to look for peers, servers and metadata; returns at once. `wake` is called, from any thread, when the
    /// metainfo becomes known, the gate moves, the status is new, or the stream failed. It must do no work.
    pub fn start(
        rt: &tokio::runtime::Handle,
        source: StreamSource,
        config: StreamConfig,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, StreamError> {
        let shared = Arc::new(Shared {
            shelf: Arc::new(Shelf::new()),
            status: ArcSwap::default(),
            known: ArcSwapOption::empty(),
            gate: AtomicBool::new(false),
            first_byte: std::sync::OnceLock::new(),
            wake,
        });
        let (events, events_in) = mpsc::unbounded_channel();
        let (orders, orders_in) = mpsc::unbounded_channel();
        if config.up_limit.is_some() || config.down_limit.is_some() {
            let _ = events.send(Event::Limits { up: config.up_limit, down: config.down_limit });
        }
        let task = setup::run(rt.clone(), source, config, shared.clone(), events_in, orders_in);
        rt.spawn(task);
        Ok(Self { shared, events, orders })
    }

    /// What is streamed; `None` while a magnet's metadata, or a video's length, is on its way.
    pub fn metainfo(&self) -> Option<Arc<Metainfo>> {
        self.shared.known.load().as_ref().map(|k| k.0.clone())
    }

    /// Chooses the file to play; what is due is fetched from now on.
    pub fn open_file(&self, index: usize) -> Result<Reader, StreamError> {
        let known = self.shared.known.load_full().ok_or(StreamError::NotKnownYet)?;
        let file = known.0.files.get(index).ok_or(StreamError::NoSuchFile(index))?.range;
        self.tell(Event::FileChosen { range: file });
        Ok(Reader::new(Arc::new(StreamFile {
            shelf: self.shared.shelf.clone(),
            store: known.1.clone(),
            file,
            events: self.events.clone(),
        })))
    }

    /// Where the clock is and what the player does: on every change, and about ten times a second while it runs.
    pub fn playhead(&self, at: MediaTime, phase: engine::Phase) {
        self.tell(Event::Playhead { at, phase });
    }

    /// The chosen file's index.
    pub fn timeline(&self, timeline: Arc<engine::Timeline>) {
        self.tell(Event::Timeline(timeline));
    }

    /// Whether the player's clock may run (start and rebuffer rule).
    pub fn gate_open(&self) -> bool {
        self.shared.gate.load(Ordering::Acquire)
    }

    /// When the first payload byte came, from anyone.
    pub fn first_byte(&self) -> Option<std::time::Instant> {
        self.shared.first_byte.get().copied()
    }

    /// The latest status: four a second while anything happens.
    pub fn status(&self) -> Arc<StreamStatus> {
        self.shared.status.load_full()
    }

    /// Ends all reads, saves resume data and closes the links; waits for that at most a second.
    pub fn stop(&self) {
        self.shared.shelf.close();
        let (done, wait) = std::sync::mpsc::channel();
        if self.orders.send(Order::Stop(done)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_secs(1));
        }
    }

    fn tell(&self, event: Event) {
        // The driver is gone only after `stop`: nobody needs the event then.
        let _ = self.events.send(event);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.shelf.close();
        let (done, _) = std::sync::mpsc::channel();
        let _ = self.orders.send(Order::Stop(done));
    }
}
