//! The demo: a bundled clip, a small swarm on loopback that seeds it, and an origin beside it. No internet needed.
//!
//! Invariants: everything runs on a thread and a runtime of its own and touches nothing but loopback and one temporary
//! folder; dropping a [`Demo`] ends all of it within a second, from any thread, and removes the folder.
//!
//! The seeds are real `librqbit` sessions with limits such that the swarm is fast enough at first: the viewer
//! is to see it fall short, once a seed leaves, and the server fill in.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use librqbit::limits::LimitsConfig;
use librqbit::spawn_utils::BlockingSpawner;
use librqbit::{
    AddTorrent, AddTorrentOptions, CreateTorrentOptions, ListenerMode, ListenerOptions, PeerConnectionOptions, Session,
    SessionOptions, create_torrent,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::serve::serve;

/// About 88 KiB/s.
const CLIP: &[u8] = include_bytes!("../../assets/demo.mp4");
const CLIP_NAME: &str = "Sluicegate demo.mp4";
/// Small, so that the piece map has something to show: the clip is about a hundred pieces.
const PIECE_LEN: u32 = 64 * 1024;
/// Each seed's upload in KiB/s: together two thirds more than the clip needs, so that a buffer builds up, until the
/// fastest leaves. Below 16 a session could not send a block.
const UPLOAD_KIB: [u32; 4] = [30, 74, 25, 20];
/// This seed has only the first part of the clip, so that pieces differ in how many have them.
const PARTIAL: usize = 3;
const PARTIAL_SHARE: f64 = 0.6;
/// This seed leaves midway; from then on the swarm is slower than the clip.
const LEAVES: usize = 1;
const LEAVES_AFTER: Duration = Duration::from_secs(25);
/// Enough to fill any gap; little enough that its work can be seen.
const SERVER_BYTES_PER_S: u64 = 500 * 1024;

/// Seeds keep a silent peer this long: past the two minutes between customary keep-alives.
const PATIENCE: Duration = Duration::from_secs(180);
const WORKERS: usize = 2;
/// Far more than it takes; reached only where the machine is stuck.
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_millis(900);
const FOLDER_PREFIX: &str = "sluicegate-demo-seeds-";
/// Locked in the folder while its demo runs, so that the next one can tell what a killed one left behind.
const LOCK: &str = "lock";

/// Why the demo cannot start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DemoError {
    #[error("The demo's files could not be written to the temporary folder: {0}.")]
    Folder(Arc<io::Error>),
    #[error("The demo's network on this machine could not be set up: {0}.")]
    Network(String),
    #[error("The demo did not start in time.")]
    TooSlow,
}

impl From<io::Error> for DemoError {
    fn from(e: io::Error) -> Self {
        Self::Folder(Arc::new(e))
    }
}

/// A running demo.
pub struct Demo {
    ready: Ready,
    stop: CancellationToken,
    /// Closed once all has ended.
    ended: mpsc::Receiver<()>,
}

/// What a player needs to join.
struct Ready {
    torrent: Bytes,
    peers: Vec<SocketAddr>,
    web_seed: String,
    folder: PathBuf,
}

impl Demo {
    /// Starts swarm and server, and returns when they accept connections, well within a second. Blocks until then.
    /// They run beside `rt`, not on it: what they cost is not to slow the player.
    pub fn start(_rt: &Handle) -> Result<Demo, DemoError> {
        let (tell_ready, ready) = mpsc::sync_channel(1);
        let (ending, ended) = mpsc::sync_channel(1);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = move || {
            let _ending = ending;
            host(&tell_ready, &stopped);
        };
        std::thread::Builder::new().name("demo".into()).spawn(thread)?;
        let ready = match ready.recv_timeout(START_LIMIT) {
            Ok(ready) => ready,
            Err(_) => Err(DemoError::TooSlow),
        };
        match ready {
            Ok(ready) => Ok(Demo { ready, stop, ended }),
            Err(e) => {
                stop.cancel();
                Err(e)
            }
        }
    }

    /// The metainfo file.
    pub fn torrent(&self) -> &[u8] {
        &self.ready.torrent
    }

    /// The seeds, on loopback.
    pub fn peers(&self) -> &[SocketAddr] {
        &self.ready.peers
    }

    /// BEP 19 URL of the origin.
    pub fn web_seed(&self) -> &str {
        &self.ready.web_seed
    }

    /// Where a player may keep its pieces: goes with the demo, so that each one is played from the swarm.
    pub fn cache_folder(&self) -> PathBuf {
        self.ready.folder.join("played")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop.cancel();
        // Nothing is ever sent: this waits for the thread to let go of its end.
        let _ = self.ended.recv_timeout(STOP_LIMIT);
    }
}

/// The demo's thread: all that it starts ends before it returns.
fn host(tell_ready: &mpsc::SyncSender<Result<Ready, DemoError>>, stop: &CancellationToken) {
    let started = Folder::create().and_then(|folder| {
        let rt = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("demo-swarm")
            .enable_all()
            .build()?;
        Ok((folder, rt))
    });
    let (folder, rt) = match started {
        Ok(started) => started,
        Err(e) => {
            let _ = tell_ready.send(Err(e.into()));
            return;
        }
    };
    let run = async {
        let (ready, sessions) = match set_up(&folder.path, stop).await {
            Ok(up) => up,
            Err(e) => {
                let _ = tell_ready.send(Err(e));
                return;
            }
        };
        if tell_ready.send(Ok(ready)).is_err() {
            return;
        }
        lose_one(&sessions).await;
        std::future::pending().await
    };
    rt.block_on(async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = run => {}
        }
    });
    rt.shutdown_timeout(Duration::from_millis(300));
    drop(folder);
}

async fn set_up(folder: &Path, stop: &CancellationToken) -> Result<(Ready, Vec<Arc<Session>>), DemoError> {
    let (whole, partial) = (folder.join("whole"), folder.join("partial"));
    write_clips(&whole, &partial)?;
    let clip = whole.join(CLIP_NAME);
    let options = CreateTorrentOptions { name: Some(CLIP_NAME), piece_length: Some(PIECE_LEN), trackers: Vec::new() };
    let made = create_torrent(&clip, options, &BlockingSpawner::new(WORKERS)).await.map_err(network)?;
    let mut info = made.meta.info.data;
    // BEP 27: no DHT, and no PEX by which the seeds would find and busy each other.
    info.private = true;
    let mut torrent = b"d4:info".to_vec();
    librqbit_bencode::bencode_serialize_to_writer(&info, &mut torrent).map_err(network)?;
    torrent.push(b'e');
    let torrent = Bytes::from(torrent);

    let seeds = UPLOAD_KIB.iter().enumerate().map(|(i, &kib)| {
        let folder = if i == PARTIAL { &partial } else { &whole };
        seed(folder, torrent.clone(), kib, i == PARTIAL, stop.child_token())
    });
    let seeds = futures::future::try_join_all(seeds).await.map_err(network)?;
    let (peers, sessions) = seeds.into_iter().unzip();

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(network)?;
    let addr = listener.local_addr().map_err(network)?;
    tokio::spawn(serve(listener, whole, Some(SERVER_BYTES_PER_S), stop.clone().cancelled_owned()));
    // Ends in a slash: the name is the torrent's.
    let web_seed = format!("http://{addr}/");
    Ok((Ready { torrent, peers, web_seed, folder: folder.to_owned() }, sessions))
}

/// One seed: listens on a free port of loopback, finds nobody by itself and uploads at `kib` KiB/s.
async fn seed(
    folder: &Path,
    torrent: Bytes,
    kib: u32,
    partial: bool,
    stop: CancellationToken,
) -> anyhow::Result<(SocketAddr, Arc<Session>)> {
    let listen = ListenerOptions {
        mode: ListenerMode::TcpOnly,
        listen_addr: (Ipv4Addr::LOCALHOST, 0).into(),
        enable_upnp_port_forwarding: false,
        ipv4_only: true,
        ..Default::default()
    };
    let options = SessionOptions {
        dht: None,
        disable_trackers: true,
        disable_local_service_discovery: true,
        persistence: None,
        fastresume: false,
        listen: Some(listen),
        cancellation_token: Some(stop),
        runtime_worker_threads: Some(WORKERS),
        ratelimits: LimitsConfig { upload_bps: NonZeroU32::new(kib * 1024), download_bps: None },
        ipv4_only: true,
        ..Default::default()
    };
    let session = Session::new_with_opts(folder.to_owned(), options).await?;
    let options = AddTorrentOptions {
        // "Use the files that are there".
        overwrite: true,
        output_folder: Some(folder.to_string_lossy().into_owned()),
        disable_trackers: true,
        // The partial seed wants nothing more, or it would take the others' upload for itself.
        only_files: partial.then(Vec::new),
        // A player that is paused has nothing to say for long; a session's own limit is 10 s.
        peer_opts: Some(PeerConnectionOptions { read_write_timeout: Some(PATIENCE), ..Default::default() }),
        ..Default::default()
    };
    let added = session.add_torrent(AddTorrent::from_bytes(torrent), Some(options)).await?;
    let handle = added.into_handle().ok_or_else(|| anyhow::anyhow!("a seed did not take the clip"))?;
    handle.wait_until_initialized().await?;
    let addr = session.listen_addr().ok_or_else(|| anyhow::anyhow!("a seed does not listen"))?;
    Ok((addr, session))
}

async fn lose_one(sessions: &[Arc<Session>]) {
    tokio::time::sleep(LEAVES_AFTER).await;
    if let Some(session) = sessions.get(LEAVES) {
        session.stop().await;
    }
}

fn write_clips(whole: &Path, partial: &Path) -> io::Result<()> {
    std::fs::create_dir(whole)?;
    std::fs::create_dir(partial)?;
    std::fs::write(whole.join(CLIP_NAME), CLIP)?;
    let head = (CLIP.len() as f64 * PARTIAL_SHARE) as usize;
    let partial = partial.join(CLIP_NAME);
    std::fs::write(&partial, CLIP.get(..head).unwrap_or(CLIP))?;
    std::fs::OpenOptions::new().write(true).open(&partial)?.set_len(CLIP.len() as u64)
}

fn network(e: impl std::fmt::Display) -> DemoError {
    DemoError::Network(e.to_string())
}

/// A temporary folder of our own, removed when dropped.
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    fn create() -> io::Result<Self> {
        let base = std::env::temp_dir();
        sweep(&base);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        loop {
            let path = base.join(format!("{FOLDER_PREFIX}{:016x}", rand::random::<u64>()));
            match builder.create(&path) {
                Ok(()) => {
                    // Locked before it has its name: nobody finds it unlocked.
                    let made = path.join("new");
                    let lock = File::create(&made)?;
                    lock.lock()?;
                    std::fs::rename(made, path.join(LOCK))?;
                    return Ok(Self { path, _lock: lock });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes what demos that were killed left behind. Failing is no matter.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|n| n.starts_with(FOLDER_PREFIX));
        // Of the entry itself: a link is not followed.
        if !ours || !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let abandoned = File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// A plain BitTorrent handshake and a request for the first block, which must come; gives the pieces the peer says
    /// it has.
    fn pieces_of(peer: SocketAddr, info_hash: [u8; 20]) -> u32 {
        let mut tcp = TcpStream::connect(peer).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
        hello.extend(info_hash);
        hello.extend(b"-TE0001-abcdefghijkl");
        tcp.write_all(&hello).unwrap();
        let mut answer = [0; 68];
        tcp.read_exact(&mut answer).unwrap();
        assert_eq!(answer[28..48], info_hash);
        tcp.write_all(&[0, 0, 0, 1, 2]).unwrap();
        let mut pieces = None;
        loop {
            let mut len = [0; 4];
            tcp.read_exact(&mut len).unwrap();
            let mut message = vec![0; u32::from_be_bytes(len) as usize];
            tcp.read_exact(&mut message).unwrap();
            match message.first() {
                // Unchoked: ask for 16 KiB at the start of piece 0.
                Some(1) => tcp.write_all(&[0, 0, 0, 13, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0]).unwrap(),
                Some(5) => pieces = Some(message[1..].iter().map(|b| b.count_ones()).sum()),
                Some(7) => {
                    assert_eq!(message[9..], CLIP[..16 * 1024]);
                    return pieces.expect("a bitfield before any piece");
                }
                _ => {}
            }
        }
    }

    fn get(url: &str, range: &str) -> Vec<u8> {
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut tcp = TcpStream::connect(host).unwrap();
        write!(tcp, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={range}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut all = Vec::new();
        tcp.read_to_end(&mut all).unwrap();
        let head = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        assert!(all.starts_with(b"HTTP/1.1 206"));
        all.split_off(head + 4)
    }

    /// Seconds, from the clip's own movie header.
    fn clip_duration() -> f64 {
        let at = CLIP.windows(4).position(|w| w == b"mvhd").unwrap() + 4;
        assert_eq!(CLIP[at], 0, "a version 0 header");
        let field = |n: usize| f64::from(u32::from_be_bytes(CLIP[at + n..at + n + 4].try_into().unwrap()));
        field(16) / field(12)
    }

    #[test]
    fn the_swarm_suffices_until_a_seed_leaves() {
        assert!(clip_duration() >= 60.0);
        let needs = CLIP.len() as f64 / clip_duration() / 1024.0;
        let all: u32 = UPLOAD_KIB.iter().sum();
        assert!((1.3..1.8).contains(&(f64::from(all) / needs)), "the clip takes {needs:.0} KiB/s");
        assert!(f64::from(all - UPLOAD_KIB[LEAVES]) < needs);
        assert!(UPLOAD_KIB.iter().all(|&kib| kib >= 16));
        assert!(LEAVES_AFTER.as_secs_f64() < clip_duration() / 2.0);
    }

    #[test]
    fn what_a_killed_demo_left_is_swept_and_a_living_one_is_not() {
        let base = tempfile::tempdir().unwrap();
        let [dead, living] = ["dead", "living"].map(|n| base.path().join(format!("{FOLDER_PREFIX}{n}")));
        for folder in [&dead, &living] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join(LOCK), b"").unwrap();
        }
        let lock = File::open(living.join(LOCK)).unwrap();
        lock.lock().unwrap();
        std::fs::create_dir(base.path().join("other")).unwrap();
        sweep(base.path());
        assert!(!dead.exists() && living.exists() && base.path().join("other").exists());
    }

    // Also from within a runtime, where blocking in the wrong way would panic.
    #[tokio::test]
    async fn a_demo_seeds_serves_and_leaves_nothing() {
        let demo = Demo::start(&Handle::current()).unwrap();
        let meta = librqbit::torrent_from_bytes(demo.torrent()).unwrap();
        assert!(meta.info.data.private);
        let pieces = (CLIP.len() as u32).div_ceil(PIECE_LEN);
        let have: Vec<u32> = demo.peers().iter().map(|&p| pieces_of(p, meta.info_hash.0)).collect();
        assert!(have.len() >= 4);
        for (i, have) in have.into_iter().enumerate() {
            let expected = if i == PARTIAL { (CLIP.len() as f64 * PARTIAL_SHARE) as u32 / PIECE_LEN } else { pieces };
            assert_eq!(have, expected, "seed {i}");
        }
        let url = format!("{}{}", demo.web_seed(), CLIP_NAME.replace(' ', "%20"));
        assert_eq!(get(&url, "100000-100099"), &CLIP[100_000..100_100]);
        // Two at once do not meet.
        let second = Demo::start(&Handle::current()).unwrap();
        assert!(second.peers().iter().all(|p| !demo.peers().contains(p)));

        let ours = vec![demo.ready.folder.clone(), second.ready.folder.clone()];
        assert!(ours.iter().all(|f| f.exists()));
        drop(second);
        drop(demo);
        assert!(ours.iter().all(|f| !f.exists()), "{ours:?}");
    }
}
