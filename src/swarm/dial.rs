//! Dialling: takes addresses from the book as fast as they come, many at once.
//!
//! Invariant: at most [`MAX_DIALS`] half-open connections; no address is dialled twice at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::api::LinkSource;
use super::handshake::{self, Handshake};
use super::link::{self, LinkEnd, Shaken};
use super::shared::{NoPlace, Shared};
use super::wire::{Message, WireError};
use crate::units::PieceSet;

/// Half-open connections at once: all that a tracker names at the start, little enough for a home router.
const MAX_DIALS: usize = 40;

/// Dials beyond the links that are wanted: most addresses of a swarm are dead.
const SPARE_DIALS: usize = 20;

/// Connections that stand and wait for the peer's handshake: no burden on a router any more, so that many who accept and
/// say nothing do not keep us from those who would.
const MAX_SHAKING: usize = 500;

/// Places are looked through this often where others wait for them, and at most one in so many is taken back at a time.
const TURNOVER: Duration = Duration::from_secs(1);
const TURNED_SHARE: usize = 3;

/// A peer farther than this is of no use to a player.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Pieces whose bitfield still fits a connection's first flight of packets.
const MAX_EARLY_PIECES: u32 = 64 * 1024;

/// Dials until the swarm ends.
pub async fn run(shared: Arc<Shared>) {
    let mut turned = Instant::now();
    loop {
        if turned.elapsed() >= TURNOVER && turn_over(&shared) {
            turned = Instant::now();
        }
        while let Some((addr, source)) = next(&shared) {
            let task = shared.clone();
            shared.spawn(async move { dial(&task, addr, source).await });
        }
        let retry = shared.book.lock().next_at().unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        // Not sooner than this, or a full house with addresses waiting would spin.
        let retry = retry.max(Instant::now() + Duration::from_millis(250));
        tokio::select! {
            () = shared.dial.notified() => {}
            () = sleep_until(retry) => {}
            () = shared.cancel.cancelled() => return,
        }
    }
}

/// Where addresses wait and all places are taken, those make room that are of no use. False when nobody waits.
fn turn_over(shared: &Shared) -> bool {
    let now = Instant::now();
    if shared.book.lock().next_at().is_none_or(|at| at > now) {
        return false;
    }
    if !shared.has_room_for_strangers() {
        shared.make_room_for_strangers();
    }
    let want = shared.want.load(Ordering::Relaxed).min(shared.max_links());
    if shared.link_count() >= want {
        shared.make_room(want.div_ceil(TURNED_SHARE));
    }
    true
}

fn next(shared: &Shared) -> Option<(SocketAddr, LinkSource)> {
    let links = shared.link_count();
    let strangers = shared.has_room_for_strangers();
    let want = shared.want.load(Ordering::Relaxed).min(shared.max_links());
    let mut book = shared.book.lock();
    let dialling = book.dialling();
    let room = strangers && links < want && dialling < MAX_DIALS && links + dialling < want + SPARE_DIALS;
    let room = room && book.shaking() < MAX_SHAKING;
    if room { book.next(Instant::now()) } else { None }
}

async fn dial(shared: &Arc<Shared>, addr: SocketAddr, source: LinkSource) {
    let shaken = tokio::select! {
        s = connect(shared, addr, source) => s,
        () = shared.cancel.cancelled() => return,
    };
    match shaken {
        Ok(shaken) => match link::run(shared, shaken).await {
            Ok(()) => {}
            Err(NoPlace::Ourselves) => shared.book.lock().is_self(addr),
            Err(NoPlace::Twice | NoPlace::Full | NoPlace::Banned) => shared.book.lock().failed(addr, Instant::now()),
        },
        Err(e) => {
            tracing::trace!(%addr, %e, "dial failed");
            shared.book.lock().failed(addr, Instant::now());
        }
    }
    shared.dial.notify_one();
}

async fn connect(shared: &Shared, addr: SocketAddr, source: LinkSource) -> Result<Shaken, LinkEnd> {
    let started = Instant::now();
    let timed_out = || LinkEnd::Io(std::io::ErrorKind::TimedOut.into());
    let mut stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await.map_err(|_| timed_out())??;
    let rtt = Some(started.elapsed());
    link::tune(&stream);
    shared.book.lock().connected(addr);
    shared.dial.notify_one();
    let (first, told) = first_bytes(shared);
    let shaken = timeout(handshake::TIMEOUT, shake(shared, &mut stream, &first)).await;
    let peer = shaken.map_err(|_| timed_out())??;
    Ok(Shaken { stream, peer, addr, source, outgoing: true, rtt, told })
}

/// Our handshake and, without waiting for theirs, what we have and that we want something: a peer that unchokes the
/// interested then does so a round trip earlier. A bitfield is what peers with and without BEP 6 both take first, even
/// an empty one. Gives the pieces it told of.
fn first_bytes(shared: &Shared) -> (BytesMut, Option<PieceSet>) {
    let mut out = BytesMut::from(&Handshake::ours(shared.config.info_hash, shared.peer_id).encode()[..]);
    let told = shared.have().filter(|h| !h.is_full() && h.universe() <= MAX_EARLY_PIECES);
    if let Some(have) = &told {
        Message::Bitfield(Bytes::from(have.to_wire())).put(&mut out);
        Message::Interested.put(&mut out);
    }
    (out, told)
}

async fn shake(shared: &Shared, stream: &mut TcpStream, first: &[u8]) -> Result<Handshake, LinkEnd> {
    stream.write_all(first).await?;
    let mut bytes = [0; handshake::LEN];
    stream.read_exact(&mut bytes).await?;
    link::count(shared, first.len() + handshake::LEN);
    let peer = Handshake::decode(&bytes)?;
    if peer.info_hash != shared.config.info_hash {
        return Err(WireError::WrongInfoHash.into());
    }
    Ok(peer)
}
