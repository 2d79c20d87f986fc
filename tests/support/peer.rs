//! Peers of our own, which keep the rules only as far as a test tells them to.
//!
//! Invariant: what they do depends on what the player sent them, not on the clock, but where a test asks for a rate; and all
//! of them end with their guard.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluicegate::torrent::Metainfo;
use sluicegate::units::PieceIndex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::torrent::Torrent;

pub const CHOKE: u8 = 0;
pub const UNCHOKE: u8 = 1;
pub const INTERESTED: u8 = 2;
pub const HAVE: u8 = 4;
pub const BITFIELD: u8 = 5;
pub const REQUEST: u8 = 6;
pub const PIECE: u8 = 7;
pub const CANCEL: u8 = 8;
pub const HAVE_ALL: u8 = 14;
pub const HAVE_NONE: u8 = 15;
pub const EXTENDED: u8 = 20;

/// A torrent of one file with its bytes, as a peer needs them.
#[derive(Debug, Clone)]
pub struct Content {
    pub meta: Arc<Metainfo>,
    pub bytes: Arc<Vec<u8>>,
}

impl Content {
    pub fn of(torrent: &Torrent) -> Content {
        let meta = Metainfo::parse(&std::fs::read(&torrent.path).unwrap()).unwrap();
        let bytes = std::fs::read(Path::new(&torrent.content_dir).join(&torrent.name)).unwrap();
        assert_eq!(bytes.len() as u64, meta.layout.total_len(), "a torrent of one file");
        Content { meta: Arc::new(meta), bytes: Arc::new(bytes) }
    }

    pub fn block(&self, w: Want) -> Vec<u8> {
        let at = self.meta.layout.piece_range(PieceIndex(w.piece)).start as usize + w.begin as usize;
        self.bytes[at..at + w.len as usize].to_vec()
    }

    pub fn pieces(&self) -> u32 {
        self.meta.layout.piece_count()
    }
}

/// What the player asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub piece: u32,
    pub begin: u32,
    pub len: u32,
}

/// What all links of one peer saw together.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections that came or were made, and that ended.
    pub links: AtomicU64,
    pub ended: AtomicU64,
    pub requests: AtomicU64,
    pub blocks: AtomicU64,
    /// For tests to count in what they wish.
    pub marks: AtomicU64,
}

impl Seen {
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// One connection with the player.
pub struct Link {
    pub stream: TcpStream,
    pub content: Content,
    pub seen: Arc<Seen>,
    /// Number of this connection among the peer's, from 0.
    pub number: u64,
}

impl Link {
    /// Sends and takes the handshake. The peer id is this link's own; fast and extended are spoken.
    pub async fn shake(&mut self) -> std::io::Result<()> {
        let mut id = *b"-XX0100-000000000000";
        // Distinct over all peers of a test too: the port is.
        let own = format!("{:05}{:07}", self.stream.local_addr()?.port(), self.number % 10_000_000);
        id[8..].copy_from_slice(own.as_bytes());
        self.shake_as(id).await
    }

    pub async fn shake_as(&mut self, id: [u8; 20]) -> std::io::Result<()> {
        let reserved = [0, 0, 0, 0, 0, 0x10, 0, 0x04];
        let hello = [b"\x13BitTorrent protocol", &reserved[..], &self.content.meta.info_hash.0, &id].concat();
        self.stream.write_all(&hello).await?;
        let mut theirs = [0; 68];
        self.stream.read_exact(&mut theirs).await?;
        Ok(())
    }

    /// The handshake, then: it has all and gives it.
    pub async fn open(&mut self) -> std::io::Result<()> {
        self.shake().await?;
        self.send(HAVE_ALL, &[]).await?;
        self.send(UNCHOKE, &[]).await
    }

    pub async fn send(&mut self, kind: u8, body: &[u8]) -> std::io::Result<()> {
        let head = (body.len() as u32 + 1).to_be_bytes();
        self.stream.write_all(&[&head[..], &[kind], body].concat()).await
    }

    pub async fn send_block(&mut self, w: Want, data: &[u8]) -> std::io::Result<()> {
        self.send(PIECE, &[&w.piece.to_be_bytes()[..], &w.begin.to_be_bytes(), data].concat()).await?;
        Seen::add(&self.seen.blocks, 1);
        Ok(())
    }

    /// The next message but for keep-alives.
    pub async fn next(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        loop {
            let len = self.stream.read_u32().await? as usize;
            assert!(len <= 1 << 20, "the player sent a message of {len} bytes");
            if len > 0 {
                let mut body = vec![0; len];
                self.stream.read_exact(&mut body).await?;
                return Ok((body.remove(0), body));
            }
        }
    }

    /// The next request; all else is passed over.
    pub async fn wanted(&mut self) -> std::io::Result<Want> {
        loop {
            let (kind, body) = self.next().await?;
            if kind == REQUEST {
                Seen::add(&self.seen.requests, 1);
                let int = |i: usize| u32::from_be_bytes(body[i..i + 4].try_into().unwrap());
                return Ok(Want { piece: int(0), begin: int(4), len: int(8) });
            }
        }
    }

    /// Takes what comes until the player hangs up.
    pub async fn drain(&mut self) -> std::io::Result<()> {
        loop {
            self.next().await?;
        }
    }

    /// Gives each block asked for, `pace` apart, as `change` leaves it.
    pub async fn serve(&mut self, pace: Duration, change: impl Fn(Want, &mut [u8])) -> std::io::Result<()> {
        loop {
            let w = self.wanted().await?;
            let mut data = self.content.block(w);
            change(w, &mut data);
            self.send_block(w, &data).await?;
            if !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
        }
    }
}

/// A peer, or a crowd of them at one address.
pub struct Peer {
    pub addr: SocketAddr,
    pub seen: Arc<Seen>,
    rt: Option<Runtime>,
}

impl Peer {
    /// Listens; each connection is handed to `conduct`, which ends it by returning.
    pub fn listen<F, T>(content: &Content, conduct: F) -> Peer
    where
        F: Fn(Link) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        Peer::listen_at(Ipv4Addr::LOCALHOST, content, conduct)
    }

    /// So many peers, each at an address of its own on loopback.
    pub fn crowd<F, T>(count: u16, content: &Content, conduct: F) -> (Peer, Vec<SocketAddr>)
    where
        F: Fn(Link) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let peer = Peer::listen_at(Ipv4Addr::UNSPECIFIED, content, conduct);
        let [high, low] = [|i: u16| (i / 250) as u8, |i: u16| (i % 250) as u8 + 1];
        let addrs = (0..count).map(|i| ([127, 77, high(i), low(i)], peer.addr.port()).into()).collect();
        (peer, addrs)
    }

    fn listen_at<F, T>(ip: Ipv4Addr, content: &Content, conduct: F) -> Peer
    where
        F: Fn(Link) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let (rt, seen, content) = (runtime(), Arc::new(Seen::default()), content.clone());
        let socket = rt.block_on(TcpListener::bind((ip, 0))).unwrap();
        let addr = socket.local_addr().unwrap();
        let counts = seen.clone();
        rt.spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let number = counts.links.fetch_add(1, Ordering::Relaxed);
                let link = Link { stream, content: content.clone(), seen: counts.clone(), number };
                run(link, conduct.clone());
            }
        });
        Peer { addr, seen, rt: Some(rt) }
    }

    /// Dials `to` with `count` connections, each again a moment after it was hung up on.
    pub fn dial<F, T>(to: SocketAddr, count: u64, content: &Content, conduct: F) -> Peer
    where
        F: Fn(Link) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let (rt, seen) = (runtime(), Arc::new(Seen::default()));
        for _ in 0..count {
            let (counts, content, conduct) = (seen.clone(), content.clone(), conduct.clone());
            rt.spawn(async move {
                loop {
                    if let Ok(stream) = TcpStream::connect(to).await {
                        let number = counts.links.fetch_add(1, Ordering::Relaxed);
                        let link = Link { stream, content: content.clone(), seen: counts.clone(), number };
                        let _ = run(link, conduct.clone()).await;
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            });
        }
        Peer { addr: to, seen, rt: Some(rt) }
    }

    /// One that keeps all rules and gives a block each `pace`.
    pub fn honest(content: &Content, pace: Duration) -> Peer {
        Peer::listen(content, move |mut link| async move {
            link.open().await?;
            link.serve(pace, |_, _| ()).await
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(rt) = self.rt.take() {
            rt.shutdown_background();
        }
    }
}

fn run<T>(link: Link, conduct: impl Fn(Link) -> T) -> tokio::task::JoinHandle<()>
where
    T: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let seen = link.seen.clone();
    let conduct = conduct(link);
    tokio::spawn(async move {
        let _ = conduct.await;
        Seen::add(&seen.ended, 1);
    })
}

fn runtime() -> Runtime {
    raise_file_limit();
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Crowds need more than the customary 1024 files, several tests at a time.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills the struct it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max.min(65_536).max(limit.rlim_cur);
        // SAFETY: the call only reads the struct.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}
