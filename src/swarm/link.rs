//! One link: its task, from the handshake to the end.
//!
//! Invariant: a link says `Up` first and `Down` last, exactly once each, whatever happens between, a panic included.
//! Reading and writing go on side by side: a driver that is slow to take events does not keep requests from going out.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;

use super::api::{LinkInfo, LinkSource, SwarmEvent};
use super::client;
use super::handshake::{self, Handshake};
use super::queue::{Batch, Queue};
use super::reader::Reader;
use super::shared::{Known, NoPlace, Place, Shared};
use super::wire::{Message, WireError};
use crate::units::{LinkId, PieceSet};

/// Silence after which we say that we are still there (BEP 3: peers wait two minutes).
const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// The same for rqbit, which by default hangs up on ten silent seconds, however alive the link.
const KEEP_ALIVE_RQBIT: Duration = Duration::from_secs(7);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the peer was dropped: {0}")]
    Wire(#[from] WireError),
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
    pub stream: TcpStream,
    pub peer: Handshake,
    pub addr: SocketAddr,
    pub source: LinkSource,
    pub outgoing: bool,
    pub rtt: Option<Duration>,
    /// Pieces it was told of together with our handshake, and that we are interested.
    pub told: Option<PieceSet>,
}

/// Settings every peer socket gets; a kernel that refuses one still carries the link.
pub fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    // Little unsent data in the kernel: a request must not wait behind a megabyte of uploads.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(64 * 1024);
}

/// Runs the link to its end. `Err` when it gets no place in the swarm.
pub async fn run(shared: &Arc<Shared>, shaken: Shaken) -> Result<(), NoPlace> {
    let Shaken { stream, peer, addr, source, outgoing, rtt, told } = shaken;
    let place = shared.place(&peer, addr, outgoing)?;
    let link = place.link;
    if outgoing {
        shared.book.lock().dialled(addr, link);
    }
    let info =
        LinkInfo { addr, peer_id: peer.peer_id, client: client::from_peer_id(&peer.peer_id), source, outgoing, rtt };
    let mut up = false;
    let end = AssertUnwindSafe(live(shared, place, stream, (&peer, told), info, &mut up)).catch_unwind().await;
    let reason = end.unwrap_or(LinkEnd::Panicked).to_string();
    shared.metadata.lock().refused(link, None);
    shared.leave(link);
    tracing::debug!(%addr, %reason, "link down");
    if up {
        let _ = shared.tell(SwarmEvent::Down { link, reason }).await;
    }
    Ok(())
}

async fn live(
    shared: &Arc<Shared>,
    place: Place,
    stream: TcpStream,
    (peer, told): (&Handshake, Option<PieceSet>),
    info: LinkInfo,
    up: &mut bool,
) -> LinkEnd {
    let Place { link, queue, close } = place;
    let addr = info.addr;
    let (rd, mut wr) = stream.into_split();
    // Before the driver hears of the link: these bytes are what the peer waits for.
    let mut torrent = shared.torrent.subscribe();
    let known = torrent.borrow_and_update().clone();
    if told.is_some() || known.is_none() {
        queue.was_told_interested();
    }
    let first = greeting(shared, peer, addr, known.as_deref(), told);
    match timeout(handshake::TIMEOUT, wr.write_all(&first)).await {
        Ok(Ok(())) => count(shared, first.len()),
        Ok(Err(e)) => return e.into(),
        Err(_) => return LinkEnd::TooSlow,
    }
    if shared.tell(SwarmEvent::Up { link, info }).await.is_err() {
        return LinkEnd::ByUs;
    }
    *up = true;
    let keep_alive = if peer.peer_id.starts_with(b"-rQ") { KEEP_ALIVE_RQBIT } else { KEEP_ALIVE };
    let mut reader = Reader::new(shared, link, addr, queue.clone(), peer.fast, known);
    tokio::select! {
        end = reader.run(rd, torrent) => end,
        end = write(shared, link, &queue, wr, keep_alive) => end,
        () = close.cancelled() => LinkEnd::ByUs,
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

async fn write(shared: &Shared, link: LinkId, queue: &Queue, mut wr: OwnedWriteHalf, keep_alive: Duration) -> LinkEnd {
    let mut batch = Batch::default();
    loop {
        if queue.overflowed() {
            return LinkEnd::TooSlow;
        }
        if !queue.take(&mut batch) {
            if timeout(keep_alive, queue.changed()).await.is_err() {
                queue.push(Message::KeepAlive);
            }
            // The driver sends its commands one by one: let a burst gather, so that it leaves in one packet.
            tokio::task::yield_now().await;
            continue;
        }
        let (len, block) = (batch.head.len() + batch.block.len(), batch.block.len());
        // One vectored write, the block uncopied.
        let mut bytes = (&batch.head[..]).chain(std::mem::take(&mut batch.block));
        if let Err(e) = wr.write_all_buf(&mut bytes).await {
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
