//! One open stream or file, from what was handed over to the last picture: a thread of its own that drives
//! [`Stream`](crate::stream::Stream) and [`Player`](crate::media::Player) and publishes one [`SessionView`].
//!
//! Invariant: the owner never waits for a session. Commands go into a queue, views come out, and closing only says so:
//! the thread takes everything down by itself, player first, then the stream (which saves its resume data), then the lock
//! on the cache, and then says that it is closed.

mod choose;
mod drive;
mod facts;
mod film;
mod source;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::app::args::PeerAddr;
use crate::app::failure::Failure;
use crate::app::open::Wanted;
use crate::app::signal::Signal;
use crate::app::snapshot::{FileChoice, Opening, Playing};
use crate::media::api::PlayerOptions;
use crate::net::NetRoute;
use crate::swarm::api::Encryption;
use crate::units::MediaTime;

pub use facts::{Facts, PeerFacts};

/// How to reach peers and servers.
#[derive(Debug, Clone)]
pub struct NetOptions {
    pub cache_dir: PathBuf,
    /// Incoming links; `None` takes none.
    pub listen: Option<std::net::SocketAddr>,
    pub dht: bool,
    pub lsd: bool,
    pub pex: bool,
    pub peers: Vec<PeerAddr>,
    pub web_seeds: Vec<String>,
    pub use_server: bool,
    pub use_swarm: bool,
    pub max_links: usize,
    pub encryption: Encryption,
    pub utp: bool,
    /// Which way packets leave.
    pub route: NetRoute,
    /// A file of addresses that are neither dialled nor accepted.
    pub blocklist: Option<PathBuf>,
    /// Ask the router to let peers in.
    pub map_port: bool,
    /// Where nodes of the DHT are remembered.
    pub dht_nodes: Option<PathBuf>,
}

/// What to open.
#[derive(Debug, Clone)]
pub enum Opened {
    Wanted(Wanted),
    /// The embedded swarm; keeps its pieces in a folder that goes with it, so that it plays from the swarm each time.
    Demo,
}

/// What to do about a torrent with several videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Several {
    /// Show a list; also where there is no video.
    Ask,
    /// Play the largest, or this file of the torrent; without any video, fail.
    Take(Option<usize>),
}

#[derive(Debug, Clone)]
pub struct SessionOptions {
    pub net: NetOptions,
    pub player: PlayerOptions,
    pub several: Several,
    /// Where to go on, by film.
    pub resume: HashMap<String, MediaTime>,
    /// The session before this one: it still has the port and the cache until it is closed.
    pub after: Option<Closed>,
}

/// Says when a session has taken everything down.
#[derive(Debug, Clone, Default)]
pub struct Closed(Arc<AtomicBool>);

impl Closed {
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SessionCommand {
    /// A file of the torrent, by its index.
    PlayFile(usize),
    TogglePause,
    SeekTo(MediaTime),
    /// Seconds.
    SeekBy(f64),
    SetVolume(f32),
    SetMuted(bool),
}

/// Where a session is.
#[derive(Debug, Clone)]
pub enum Stage {
    Opening(Opening),
    Choose { name: String, files: Vec<FileChoice>, suggested: Option<usize> },
    Playing(Box<Playing>),
    Failed(Failure),
}

/// Which film it is and where the viewer is in it, for the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Film {
    pub key: String,
    pub title: String,
    pub magnet: Option<String>,
    pub at: MediaTime,
    pub duration: Option<MediaTime>,
    pub ended: bool,
}

/// All the owner sees of a session.
#[derive(Debug, Clone)]
pub struct SessionView {
    pub stage: Stage,
    /// One plain sentence that needs no answer.
    pub note: Option<String>,
    pub film: Option<Film>,
}

struct Shared {
    view: ArcSwap<SessionView>,
    facts: Mutex<Facts>,
    commands: Mutex<VecDeque<SessionCommand>>,
    closing: AtomicBool,
    closed: Closed,
    signal: Arc<Signal>,
}

/// Commands kept for a thread that is busy; a storm of seeks coalesces in the player anyway.
const COMMANDS_MAX: usize = 256;

/// The owner's end. Dropping it closes the session without waiting.
pub struct Session {
    shared: Arc<Shared>,
}

impl Session {
    /// Starts a session; returns at once. `wake` is called, from any thread, when the view or the facts changed, and
    /// when the session is closed.
    ///
    /// Fails only when the system gives no thread.
    pub fn start(
        rt: &tokio::runtime::Handle,
        opened: Opened,
        options: SessionOptions,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<Self> {
        let first = SessionView { stage: Stage::Opening(Opening::default()), note: None, film: None };
        let shared = Arc::new(Shared {
            view: ArcSwap::from_pointee(first),
            facts: Mutex::default(),
            commands: Mutex::default(),
            closing: AtomicBool::new(false),
            closed: Closed::default(),
            signal: Arc::default(),
        });
        let (rt, for_thread) = (rt.clone(), shared.clone());
        let body = move || {
            // Said whatever happens in there: the next session and the end of the program wait for it.
            struct SayClosed(Arc<Shared>, Arc<dyn Fn() + Send + Sync>);
            impl Drop for SayClosed {
                fn drop(&mut self) {
                    self.0.closed.0.store(true, Ordering::Release);
                    (self.1)();
                }
            }
            let _say = SayClosed(for_thread.clone(), wake.clone());
            drive::Driver::new(rt, opened, options, for_thread, wake).run();
        };
        std::thread::Builder::new().name("sluicegate-session".into()).spawn(body)?;
        Ok(Self { shared })
    }

    pub fn view(&self) -> Arc<SessionView> {
        self.shared.view.load_full()
    }

    /// What a report needs; copied.
    pub fn facts(&self) -> Facts {
        self.shared.facts.lock().clone()
    }

    /// Looks at the facts without copying them. Keep it short: the session waits meanwhile.
    pub fn with_facts<T>(&self, look: impl FnOnce(&Facts) -> T) -> T {
        look(&self.shared.facts.lock())
    }

    pub fn send(&self, command: SessionCommand) {
        let mut queue = self.shared.commands.lock();
        if queue.len() < COMMANDS_MAX {
            queue.push_back(command);
        }
        drop(queue);
        self.shared.signal.notify();
    }

    /// Begins to take everything down; returns at once.
    pub fn close(&self) -> Closed {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.signal.notify();
        self.shared.closed.clone()
    }

    /// Closes and waits until all is down, at most `limit`. False when it was not down by then.
    pub fn close_and_wait(&self, limit: Duration) -> bool {
        let closed = self.close();
        let until = Instant::now() + limit;
        while !closed.is_closed() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        closed.is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}
