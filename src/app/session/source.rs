//! From what was handed over to something that can be started: files read, names looked up, the demo's swarm up.
//!
//! Runs on the network's runtime; the session looks for the answer when it is woken.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::app::args::PeerAddr;
use crate::app::demo::Demo;
use crate::app::failure::Failure;
use crate::app::open::{self, Source};
use crate::app::session::Opened;
use crate::app::signal::Signal;
use crate::torrent::Metainfo;

/// Ready to start.
pub struct Resolved {
    pub source: Source,
    pub peers: Vec<SocketAddr>,
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
    pub fn start(rt: &Handle, opened: Opened, peers: Vec<PeerAddr>, done: Arc<Signal>) -> Self {
        let slot = Arc::new(Mutex::new(None));
        let (to, handle) = (slot.clone(), rt.clone());
        let task = rt.spawn(async move {
            let resolved = resolve(handle, opened, peers).await;
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

async fn resolve(rt: Handle, opened: Opened, peers: Vec<PeerAddr>) -> Result<Resolved, Failure> {
    let mut addrs = look_up(peers).await?;
    match opened {
        Opened::Wanted(wanted) => Ok(Resolved { source: open::resolve(wanted).await?, peers: addrs, demo: None }),
        Opened::Demo => {
            let failed = |e: String| Failure::machine(format!("The demo could not be started: {e}"), "Try again");
            let demo = tokio::task::spawn_blocking(move || Demo::start(&rt)).await;
            let demo = demo.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
            let meta = Metainfo::parse(demo.torrent()).map_err(|e| failed(e.to_string()))?;
            addrs.extend_from_slice(demo.peers());
            Ok(Resolved { source: Source::Torrent(Arc::new(meta)), peers: addrs, demo: Some(demo) })
        }
    }
}

async fn look_up(peers: Vec<PeerAddr>) -> Result<Vec<SocketAddr>, Failure> {
    let mut addrs = Vec::new();
    for peer in peers {
        match peer {
            PeerAddr::Addr(a) => addrs.push(a),
            PeerAddr::Host(host, port) => {
                let found = tokio::net::lookup_host((host.as_str(), port)).await.ok().and_then(|mut a| a.next());
                addrs.push(found.ok_or_else(|| {
                    Failure::input(format!("The peer \"{host}\" was not found"), "Check its name, or give its address")
                })?);
            }
        }
    }
    Ok(addrs)
}
