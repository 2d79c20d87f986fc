//! Our side: a stream as the player runs it, without the player.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::stream::{Stream, StreamConfig, StreamSource, StreamStatus};
use sluicegate::swarm::api::{Encryption, Network};
use sluicegate::torrent::{Magnet, Metainfo};
use tokio::runtime::Runtime;

use crate::content::Content;
use crate::foreign::{Foreign, Given, PATIENCE, Via};
use crate::support::{TempDir, free_port, temp_dir};

/// Our own settings for one way to travel: what the other side must not do is left to it to refuse.
pub fn by(via: Via) -> impl Fn(&mut StreamConfig) {
    move |c| c.encryption = if via.is_encrypted() { Encryption::Require } else { Encryption::Off }
}

/// A running stream.
pub struct Ours {
    // Before the runtime, so that it says goodbye.
    stream: Stream,
    rt: Option<Runtime>,
    pub addr: SocketAddr,
    _cache: TempDir,
}

impl Ours {
    /// One that knows `peers`, and has `content` on its disk if `complete`.
    pub fn start(
        content: &Content,
        given: Given,
        peers: &[SocketAddr],
        complete: bool,
        change: impl Fn(&mut StreamConfig),
    ) -> Ours {
        // SLUICEGATE_LOG says what to log, as it does for the player.
        let _ = std::env::var("SLUICEGATE_LOG").map(|f| tracing_subscriber::fmt().with_env_filter(f).try_init());
        let cache = temp_dir();
        let meta = Metainfo::parse(&std::fs::read(&content.torrent.path).unwrap()).unwrap();
        if complete {
            let files = cache.path().join(meta.info_hash.to_string()).join("files");
            for (index, bytes) in content.files_in_torrent(&meta) {
                let path = files.join(&meta.files[index].path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
        let source = match given {
            Given::Torrent => StreamSource::Torrent(Arc::new(meta)),
            Given::Magnet => StreamSource::Magnet(Magnet::parse(&content.torrent.magnet()).unwrap()),
        };
        let mut config = StreamConfig {
            cache_dir: cache.path().to_owned(),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], free_port()))),
            dht: false,
            lsd: false,
            pex: false,
            peers: peers.to_vec(),
            web_seeds: Vec::new(),
            use_server: false,
            use_swarm: true,
            max_links: 50,
            encryption: Encryption::Prefer,
            utp: true,
            up_limit: None,
            down_limit: None,
            priority: true,
            network: Network::default(),
        };
        change(&mut config);
        let addr = config.listen.unwrap();
        let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stream = Stream::start(rt.handle(), source, config, Arc::new(|| ())).unwrap();
        Ours { stream, rt: Some(rt), addr, _cache: cache }
    }

    /// One that has all and has checked it.
    pub fn seed(content: &Content, via: Via) -> Ours {
        Ours::seed_for(content, via, &[])
    }

    /// The same, dialling these peers.
    pub fn seed_for(content: &Content, via: Via, peers: &[SocketAddr]) -> Ours {
        let ours = Ours::start(content, Given::Torrent, peers, true, by(via));
        ours.is_whole();
        ours
    }

    /// Waits until all pieces are here and checked.
    pub fn is_whole(&self) {
        self.wait("all pieces to be checked", |s| {
            let e = &s.engine;
            (!e.pieces.is_empty() && e.pieces_here as usize == e.pieces.len()).then_some(())
        });
    }

    /// Waits for something in the status.
    pub fn wait<T>(&self, what: &str, look: impl Fn(&StreamStatus) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            assert_eq!(status.error, None);
            if let Some(v) = look(&status) {
                return v;
            }
            assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn status(&self) -> Arc<StreamStatus> {
        self.stream.status()
    }

    /// Waits until the torrent is known; fails with what the other side said.
    fn metainfo(&self, from: &mut dyn Foreign) -> Arc<Metainfo> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(meta) = self.stream.metainfo() {
                return meta;
            }
            assert!(Instant::now() < end, "no metadata: {}\n{}", self.said(), from.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads the largest file to its end, as a player would, and checks each byte.
    pub fn fetches(&self, content: &Content, from: &mut dyn Foreign) {
        let meta = self.metainfo(from);
        let files = content.files_in_torrent(&meta);
        let (index, bytes) = files.into_iter().max_by_key(|f| f.1.len()).unwrap();
        self.reads(index, bytes, from);
    }

    /// The same with every file, one after the other. What peers give us they are not asked for after each, so they may choke us
    /// in between.
    pub fn fetches_all(&self, content: &Content, from: &mut dyn Foreign) {
        let meta = self.metainfo(from);
        for (index, bytes) in content.files_in_torrent(&meta) {
            self.reads(index, bytes, from);
        }
    }

    fn reads(&self, index: usize, bytes: &[u8], from: &mut dyn Foreign) {
        let end = Instant::now() + PATIENCE;
        let mut reader = self.stream.open_file(index).unwrap();
        let cancel = reader.cancel();
        let done = std::thread::scope(|scope| {
            // By hand: `read_to_end` takes an interruption for a reason to go on.
            let read = scope.spawn(move || {
                let (mut got, mut buf) = (Vec::new(), vec![0; 64 * 1024]);
                loop {
                    match reader.read(&mut buf) {
                        Ok(0) => return Ok(got),
                        Ok(n) => got.extend_from_slice(&buf[..n]),
                        Err(e) => return Err(e),
                    }
                }
            });
            while !read.is_finished() {
                if Instant::now() >= end {
                    cancel.set();
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            read.join().unwrap()
        });
        let got = done.unwrap_or_else(|e| panic!("file {index}: {e}: {}\n{}", self.said(), from.log()));
        assert!(got == bytes, "file {index} is not as it should be");
    }

    /// How it stands, for a failed test.
    fn said(&self) -> String {
        let s = self.status();
        let e = &s.engine;
        let links: Vec<_> = s.peers.iter().map(|p| (p.info.addr, &p.info.client, &p.view)).collect();
        format!("{}/{} pieces, {:?}, {:?}, {links:?}", e.pieces_here, e.pieces.len(), e.totals, s.discovery)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.stream.stop();
        if let Some(rt) = self.rt.take() {
            rt.shutdown_timeout(Duration::from_millis(500));
        }
    }
}

impl Content {
    /// Index and bytes of each file of the torrent that is no padding, in the torrent's order.
    pub fn files_in_torrent(&self, meta: &Metainfo) -> Vec<(usize, &[u8])> {
        let bytes = |path: &Path| {
            let found = self.files.iter().find(|(p, _)| self.files.len() == 1 || p.ends_with(path));
            found.unwrap_or_else(|| panic!("no {} among the content", path.display())).1.as_slice()
        };
        let files = meta.files.iter().enumerate().filter(|(_, f)| !f.padding);
        files.map(|(index, f)| (index, bytes(&f.path))).collect()
    }
}
