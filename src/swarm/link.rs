//! One link: its task, from the handshake to the end.
//!
//! Invariant: a link says `Up` first and `Down` last, exactly once each, whatever happens between, a panic included.
//! Reading and writing go on side by side: a driver that is slow to take events does not keep requests from going out.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::api::{LinkInfo, LinkSource, SwarmEvent};
use super::client;
use super::conn::{Conn, WriteHalf};
use super::handshake::{self, Handshake};
use super::mse::MseError;
use super::pex;
use super::queue::{Batch, Queue};
use super::reader::Reader;
use super::shake::Shake;
use super::shared::{Known, NoPlace, Place, Shared};
use super::wire::{Message, WireError};
use crate::units::{LinkId, PieceSet};

/// Silence after which we say that we are still there (BEP 3: peers wait two minutes).
const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// The same for rqbit, which by default hangs up on ten silent seconds, however alive the link.
const KEEP_ALIVE_RQBIT: Duration = Duration::from_secs(7);

/// Transmission (3.00), dialling over uTP, looks at what comes behind the handshake in one packet only once more comes: the first
/// keep-alive follows this soon there, and another.
const NUDGE: Duration = Duration::from_millis(200);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer closed the connection without a word")]
    Mute,
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the peer was dropped: {0}")]
    Wire(#[from] WireError),
    #[error("the peer was dropped: {0}")]
    Mse(#[from] MseError),
    #[error("the peer was dropped: {0}")]
    Breach(&'static str),
    #[error("the peer was silent for {} s", super::reader::IDLE.as_secs())]
    Idle,
    #[error("the peer takes nothing from us")]
    TooSlow,
    #[error("closed by us")]
    ByUs,
    #[error("something went wrong inside this program")]
    Panicked,
}

/// A connection whose handshakes are done.
#[derive(Debug)]
pub struct Shaken {
    pub conn: Conn,
    pub shake: Shake,
    pub addr: SocketAddr,
    pub source: LinkSource,
    pub outgoing: bool,
    pub rtt: Option<Duration>,
    /// Pieces it was told of together with our handshake, and that we are interested.
    pub told: Option<PieceSet>,
}

/// Settings every TCP socket to a peer gets; a kernel that refuses one still carries the link.
pub fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    // Little unsent data in the kernel: a request must not wait behind a megabyte of uploads.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(64 * 1024);
}

/// Runs the link to its end. `Err` when it gets no place in the swarm.
pub async fn run(shared: &Arc<Shared>, shaken: Shaken) -> Result<(), NoPlace> {
    let Shaken { conn, shake, addr, source, outgoing, rtt, told } = shaken;
    let place = shared.place(&shake, addr, outgoing)?;
    let link = place.link;
    if outgoing {
        shared.book.lock().dialled(addr, link);
    }
    let info = LinkInfo {
        addr,
        peer_id: shake.peer.peer_id,
        client: client::from_peer_id(&shake.peer.peer_id),
        source,
        outgoing,
        rtt,
        encrypted: shake.ciphers.is_some(),
        utp: conn.is_utp(),
    };
    let (mut up, early) = (false, told.is_some());
    let end = AssertUnwindSafe(live(shared, place, conn, shake, told, info, &mut up)).catch_unwind().await;
    let end = end.unwrap_or(LinkEnd::Panicked);
    let reason = end.to_string();
    shared.metadata.lock().refused(link, None);
    shared.leave(link);
    if outgoing && early && matches!(end, LinkEnd::Mute) {
        shared.book.lock().choked_on_early_bytes(addr, Instant::now());
    }
    tracing::debug!(%addr, %reason, "link down");
    if up {
        let _ = shared.tell(SwarmEvent::Down { link, reason }).await;
    }
    Ok(())
}

async fn live(
    shared: &Arc<Shared>,
    place: Place,
    conn: Conn,
    shake: Shake,
    told: Option<PieceSet>,
    info: LinkInfo,
    up: &mut bool,
) -> LinkEnd {
    let Place { link, queue, close } = place;
    let addr = info.addr;
    let Shake { peer, ciphers, early, .. } = shake;
    let nudge = conn.is_utp() && !info.outgoing;
    let (rd, mut wr) = conn.split(ciphers);
    // Before the driver hears of the link: these bytes are what the peer waits for.
    let mut torrent = shared.torrent.subscribe();
    let known = torrent.borrow_and_update().clone();
    if told.is_some() || known.is_none() {
        queue.was_told_interested();
    }
    let mut first = greeting(shared, &peer, addr, known.as_deref(), told);
    let len = first.len();
    match timeout(handshake::TIMEOUT, wr.write(&mut first, Bytes::new())).await {
        Ok(Ok(())) => count(shared, len),
        Ok(Err(e)) => return e.into(),
        Err(_) => return LinkEnd::TooSlow,
    }
    if info.utp {
        shared.flag(link, pex::UTP);
    }
    if shared.tell(SwarmEvent::Up { link, info }).await.is_err() {
        return LinkEnd::ByUs;
    }
    *up = true;
    let keep_alive = if peer.peer_id.starts_with(b"-rQ") { KEEP_ALIVE_RQBIT } else { KEEP_ALIVE };
    let mut reader = Reader::new(shared, link, addr, queue.clone(), peer.fast, known);
    let end = tokio::select! {
        end = reader.run(rd, early, torrent) => end,
        end = write(shared, link, &queue, wr, (keep_alive, nudge)) => end,
        () = close.cancelled() => LinkEnd::ByUs,
    };
    match end {
        LinkEnd::Closed | LinkEnd::Io(_) if !reader.spoke => LinkEnd::Mute,
        end => end,
    }
}

/// What follows our handshake at once: what we have (BEP 3 and 6 want it first), then the extended handshake. Before
/// the torrent is known there is nothing to have, but already something to want.
fn greeting(
    shared: &Shared,
    peer: &Handshake,
    addr: SocketAddr,
    known: Option<&Known>,
    told: Option<PieceSet>,
) -> BytesMut {
    let mut out = BytesMut::new();
    match (shared.have(), told) {
        (Some(have), Some(told)) => {
            have.iter().filter(|p| !told.contains(*p)).for_each(|p| Message::Have(p.0).put(&mut out));
        }
        (Some(have), None) if peer.fast && have.is_full() => Message::HaveAll.put(&mut out),
        (Some(have), None) if have.count() > 0 => Message::Bitfield(Bytes::from(have.to_wire())).put(&mut out),
        (_, None) if peer.fast => Message::HaveNone.put(&mut out),
        _ => {}
    }
    if known.is_none() {
        Message::Interested.put(&mut out);
    }
    if peer.extended {
        extended(shared, addr, known).put(&mut out);
    }
    out
}

/// Our extended handshake as of now.
pub fn extended(shared: &Shared, addr: SocketAddr, known: Option<&Known>) -> Message {
    let port = shared.local.map(|l| l.port());
    let size = known.map(|k| k.info_bytes.len()).filter(|n| *n > 0);
    Message::Extended { id: 0, payload: handshake::our_extended(shared.uses_pex(), port, size, addr) }
}

pub fn count(shared: &Shared, bytes: usize) {
    shared.traffic.total.fetch_add(bytes as u64, Ordering::Relaxed);
}

async fn write(
    shared: &Shared,
    link: LinkId,
    queue: &Queue,
    mut wr: WriteHalf,
    (keep_alive, nudge): (Duration, bool),
) -> LinkEnd {
    let mut silence = if nudge { NUDGE } else { keep_alive };
    let mut batch = Batch::default();
    loop {
        if queue.overflowed() {
            return LinkEnd::TooSlow;
        }
        if !queue.take(&mut batch) {
            if timeout(silence, queue.changed()).await.is_err() {
                queue.push(Message::KeepAlive);
                silence = keep_alive;
            }
            // The driver sends its commands one by one: let a burst gather, so that it leaves in one packet.
            tokio::task::yield_now().await;
            continue;
        }
        let (len, block) = (batch.head.len() + batch.block.len(), batch.block.len());
        if let Err(e) = wr.write(&mut batch.head, std::mem::take(&mut batch.block)).await {
            return e.into();
        }
        count(shared, len);
        if block > 0 {
            shared.traffic.payload_out.fetch_add(block as u64, Ordering::Relaxed);
            queue.merit.lock().sent(tokio::time::Instant::now());
            if shared.tell(SwarmEvent::Sent { link, len: block as u32 }).await.is_err() {
                return LinkEnd::ByUs;
            }
        }
    }
}
