//! A librqbit session, in this process: TCP and uTP.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use librqbit::limits::LimitsConfig;
use librqbit::{
    AddTorrent, AddTorrentOptions, ConnectionOptions, ListenerMode, ListenerOptions, ManagedTorrent, Session,
    SessionOptions,
};
use tokio::runtime::Runtime;

use crate::content::Content;
use crate::foreign::{FETCH_RATE, Foreign, Given, PATIENCE, Via};
use crate::support::{TempDir, free_port, temp_dir, text, wait_for};

pub struct Rqbit {
    addr: SocketAddr,
    dir: TempDir,
    session: Arc<Session>,
    torrent: tokio::task::JoinHandle<anyhow::Result<Arc<ManagedTorrent>>>,
    known: Option<Arc<ManagedTorrent>>,
    rt: Option<Runtime>,
}

impl Rqbit {
    /// Has all of it.
    pub fn seed(content: &Content, via: Via) -> Rqbit {
        let dir = temp_dir();
        content.lay(dir.path());
        let mut seed = Rqbit::start(dir, content, Given::Torrent, via, Vec::new());
        wait_for("librqbit to check its files", PATIENCE, || seed.is_complete().then_some(()));
        seed
    }

    /// Fetches it from us, whom it dials.
    pub fn fetch(content: &Content, given: Given, via: Via, from: SocketAddr) -> Rqbit {
        Rqbit::start(temp_dir(), content, given, via, vec![from])
    }

    fn start(dir: TempDir, content: &Content, given: Given, via: Via, dial: Vec<SocketAddr>) -> Rqbit {
        let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        assert!(!via.is_encrypted(), "librqbit encrypts nothing");
        let mode = if via.is_utp() { ListenerMode::UtpOnly } else { ListenerMode::TcpOnly };
        let options = SessionOptions {
            dht: None,
            disable_local_service_discovery: true,
            persistence: None,
            connect: Some(ConnectionOptions { enable_tcp: !via.is_utp(), ..Default::default() }),
            listen: Some(ListenerOptions { mode, listen_addr: addr, ipv4_only: true, ..Default::default() }),
            ..Default::default()
        };
        let session = rt.block_on(Session::new_with_opts(dir.path().to_owned(), options)).unwrap();
        let what = match given {
            Given::Torrent => AddTorrent::from_bytes(std::fs::read(&content.torrent.path).unwrap()),
            Given::Magnet => AddTorrent::from_url(content.torrent.magnet()),
        };
        // It would put a folder's files straight into the folder given.
        let folder =
            if content.files.len() > 1 { dir.path().join(&content.torrent.name) } else { dir.path().to_owned() };
        let options = AddTorrentOptions {
            overwrite: true,
            output_folder: Some(text(&folder).to_owned()),
            initial_peers: Some(dial),
            disable_trackers: true,
            ratelimits: LimitsConfig { download_bps: std::num::NonZeroU32::new(FETCH_RATE), ..Default::default() },
            ..Default::default()
        };
        let adding = session.clone();
        // A magnet link is not added before its metadata is there.
        let torrent = rt.spawn(async move {
            let added = adding.add_torrent(what, Some(options)).await?;
            added.into_handle().ok_or_else(|| anyhow::anyhow!("librqbit did not add the torrent"))
        });
        Rqbit { addr, dir, session, torrent, known: None, rt: Some(rt) }
    }
}

impl Foreign for Rqbit {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn is_complete(&mut self) -> bool {
        if self.known.is_none() && self.torrent.is_finished() {
            let added = self.rt.as_ref().unwrap().block_on(&mut self.torrent).unwrap();
            self.known = Some(added.unwrap_or_else(|e| panic!("librqbit: {e:#}")));
        }
        self.known.as_ref().is_some_and(|t| {
            let stats = t.stats();
            assert_eq!(stats.error, None);
            stats.finished && matches!(stats.state, librqbit::TorrentStatsState::Live)
        })
    }

    fn log(&mut self) -> String {
        self.known.as_ref().map_or("librqbit has no metadata".into(), |t| format!("{:?}", t.stats()))
    }
}

impl Drop for Rqbit {
    fn drop(&mut self) {
        if let Some(rt) = self.rt.take() {
            let _ = rt.block_on(async { tokio::time::timeout(Duration::from_secs(2), self.session.stop()).await });
            rt.shutdown_timeout(Duration::from_millis(500));
        }
    }
}
