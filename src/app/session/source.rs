//! From what was handed over to something that can be started: files read, names looked up, the demo's swarm up.
//!
//! Runs on the network's runtime; the session looks for the answer when it is woken.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::app::args::PeerAddr;
use crate::app::demo::Demo;
use crate::app::failure::Failure;
use crate::app::open::{self, Source};
use crate::app::session::{NetOptions, Opened};
use crate::app::signal::Signal;
use crate::net::{NetRoute, RouteError};
use crate::swarm::blocklist::{Blocklist, BlocklistError};
use crate::torrent::Metainfo;

/// Ready to start.
pub struct Resolved {
    pub source: Source,
    pub peers: Vec<SocketAddr>,
    pub blocklist: Option<Arc<Blocklist>>,
    /// Kept as long as the session: dropping it ends its swarm.
    pub demo: Option<Demo>,
}

/// An answer on its way; dropping it gives it up.
pub struct Resolving {
    slot: Arc<Mutex<Option<Result<Resolved, Failure>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Resolving {
    /// Begins; `done` is notified when [`Resolving::take`] has the answer.
    pub fn start(rt: &Handle, opened: Opened, net: &NetOptions, done: Arc<Signal>) -> Self {
        let slot = Arc::new(Mutex::new(None));
        let (to, handle, net) = (slot.clone(), rt.clone(), net.clone());
        let task = rt.spawn(async move {
            let resolved = resolve(handle, opened, &net).await;
            *to.lock() = Some(resolved);
            done.notify();
        });
        Self { slot, task }
    }

    /// The answer, once. A task that died (it was cancelled with the runtime) is an answer too.
    pub fn take(&self) -> Option<Result<Resolved, Failure>> {
        let answer = self.slot.lock().take();
        match answer {
            None if self.task.is_finished() && self.slot.lock().is_none() => {
                Some(Err(Failure::machine("Opening broke off", "Try again")))
            }
            other => other,
        }
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn resolve(rt: Handle, opened: Opened, net: &NetOptions) -> Result<Resolved, Failure> {
    let mut addrs = look_up(&net.route, &net.peers).await?;
    match opened {
        Opened::Wanted(wanted) => {
            // Beside the look at what was opened: a list of a million lines takes half a second.
            let list = net.blocklist.clone().filter(|_| net.use_swarm).map(|file| rt.spawn(blocklist(file)));
            let source = open::resolve(wanted, &net.route).await?;
            let blocklist = match list {
                Some(list) if !matches!(source, Source::Local(_)) => {
                    let read = list.await;
                    Some(read.map_err(|_| Failure::machine("Reading the blocklist broke off", "Try again"))??)
                }
                _ => None,
            };
            Ok(Resolved { source, peers: addrs, blocklist, demo: None })
        }
        Opened::Demo => {
            let failed = |e: String| Failure::machine(format!("The demo could not be started: {e}"), "Try again");
            let demo = tokio::task::spawn_blocking(move || Demo::start(&rt)).await;
            let demo = demo.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
            let meta = Metainfo::parse(demo.torrent()).map_err(|e| failed(e.to_string()))?;
            addrs.extend_from_slice(demo.peers());
            Ok(Resolved { source: Source::Torrent(Arc::new(meta)), peers: addrs, blocklist: None, demo: Some(demo) })
        }
    }
}

/// Reads the user's blocklist, or takes the one read last while the file is the same. One that cannot be read is no reason
/// to meet those it names.
async fn blocklist(file: PathBuf) -> Result<Arc<Blocklist>, Failure> {
    type Read = (PathBuf, u64, Option<SystemTime>, Arc<Blocklist>);
    static LAST: Mutex<Option<Read>> = Mutex::new(None);
    let load = move || {
        let meta = std::fs::metadata(&file).ok();
        let (len, changed) = (meta.as_ref().map_or(0, std::fs::Metadata::len), meta.and_then(|m| m.modified().ok()));
        let mut last = LAST.lock();
        if let Some((f, l, c, list)) = last.as_ref()
            && (f, *l, *c) == (&file, len, changed)
            && changed.is_some()
        {
            return Ok(list.clone());
        }
        let list = Arc::new(Blocklist::load(&file)?);
        *last = Some((file, len, changed, list.clone()));
        Ok::<_, BlocklistError>(list)
    };
    let read = tokio::task::spawn_blocking(load).await;
    let read = read.map_err(|_| Failure::machine("Reading the blocklist broke off", "Try again"))?;
    read.map_err(|e| {
        Failure::input(e.to_string(), "Check the file given with --blocklist or in the settings, or take it away there")
    })
}

async fn look_up(route: &NetRoute, peers: &[PeerAddr]) -> Result<Vec<SocketAddr>, Failure> {
    let mut addrs = Vec::new();
    for peer in peers {
        match peer {
            PeerAddr::Addr(a) => addrs.push(*a),
            PeerAddr::Host(host, port) => {
                let found = route.lookup(host, *port).await;
                let found = found.map_err(|e| e.get_ref().and_then(|e| e.downcast_ref::<RouteError>()).cloned());
                let what = match found.map(|a| a.into_iter().next()) {
                    Ok(Some(addr)) => {
                        addrs.push(addr);
                        continue;
                    }
                    Err(Some(e)) => e.to_string(),
                    _ => format!("The peer \"{host}\" was not found"),
                };
                return Err(Failure::input(what, "Check its name, or give its address"));
            }
        }
    }
    Ok(addrs)
}
