//! Dialling: takes addresses from the book as fast as they come, many at once.
//!
//! Invariant: at most [`MAX_DIALS`] half-open connections; no address is dialled twice at a time.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until, timeout};

use super::api::{Encryption, LinkSource};
use super::book::Way;
use super::conn::Conn;
use super::handshake::{self, Handshake};
use super::link::{self, LinkEnd, Shaken};
use super::shake::{self, Manner};
use super::shared::{NoPlace, Shared};
use super::utp::Utp;
use super::wire::Message;
use crate::units::PieceSet;

/// Half-open connections at once: all that a tracker names at the start, little enough for a home router.
pub const MAX_DIALS: usize = 40;

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

/// Time that TCP has before uTP is tried too: what RFC 8305 has between two addresses of one host.
const HEAD_START: Duration = Duration::from_millis(250);

/// Time a peer has for the handshake while there is another manner to try: some boxes on the way swallow what they know.
const FIRST_TRY: Duration = Duration::from_secs(4);

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
    if !shared.has_room_for_mute() {
        shared.make_room_for_mute();
    }
    let want = shared.want.load(Ordering::Relaxed).min(shared.max_links());
    if shared.link_count() >= want {
        shared.make_room(want.div_ceil(TURNED_SHARE));
    }
    true
}

fn next(shared: &Shared) -> Option<(SocketAddr, LinkSource)> {
    let strangers = shared.has_room_for_mute();
    let want = shared.want.load(Ordering::Relaxed).min(shared.max_links());
    // A full house is full, whoever is in it.
    let links = if shared.link_count() < shared.max_links() { shared.links_toward(want) } else { want };
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
            Err(NoPlace::Full) => shared.book.lock().turned_away(addr, Instant::now() + TURNOVER),
            Err(NoPlace::Twice | NoPlace::Banned) => shared.book.lock().failed(addr, Instant::now()),
        },
        Err(e) => {
            tracing::trace!(%addr, %e, "dial failed");
            shared.book.lock().failed(addr, Instant::now());
        }
    }
    shared.dial.notify_one();
}

/// Reaches a peer by whichever transport answers first, and shakes hands in the manner it is known to like, then in the
/// other: who refuses one hangs up on it at once.
async fn connect(shared: &Shared, addr: SocketAddr, source: LinkSource) -> Result<Shaken, LinkEnd> {
    let way = shared.book.lock().way(addr);
    let mut over = Over::Race { utp_first: way.utp_first };
    let manners = manners(shared.config.encryption, way.manner);
    for (i, manner) in manners.iter().enumerate() {
        // Several refuse an obfuscated handshake that carries more than the handshake: libtorrent, aria2, rtorrent.
        let (first, told) = first_bytes(shared, way.bare || *manner == Manner::Obfuscated);
        let (mut conn, rtt) = reach(shared, addr, over).await?;
        shared.book.lock().connected(addr);
        shared.dial.notify_one();
        let last = i + 1 == manners.len();
        let patience = if last { handshake::TIMEOUT } else { FIRST_TRY };
        let shaken = timeout(patience, shake::dialled(shared, &mut conn, &first, *manner)).await;
        match shaken.unwrap_or_else(|_| Err(timed_out().into())) {
            Ok(shake) => {
                let utp_first = conn.is_utp();
                shared.book.lock().went(addr, Way { manner: Some(*manner), utp_first, ..way });
                return Ok(Shaken { conn, shake, addr, source, outgoing: true, rtt: Some(rtt), told });
            }
            // It may take the other manner.
            Err(LinkEnd::Closed | LinkEnd::Io(_) | LinkEnd::Mse(_)) if !last => {
                over = if conn.is_utp() { Over::Utp } else { Over::Tcp };
            }
            Err(e) => {
                shared.book.lock().refused(addr, conn.is_utp());
                return Err(e);
            }
        }
    }
    // No policy is without a manner.
    Err(LinkEnd::ByUs)
}

/// In which manners to dial, in this order. Plain goes first where nothing is known: most peers take both, and it saves a
/// round trip and two computations of keys before the first byte of a film. A peer that wants to be obfuscated closes a
/// plain connection within one round trip.
fn manners(policy: Encryption, likes: Option<Manner>) -> &'static [Manner] {
    use Manner::{Obfuscated, Plain};
    match (policy, likes) {
        (Encryption::Off, _) => &[Plain],
        (Encryption::Require, _) => &[Obfuscated],
        (Encryption::Prefer, Some(Obfuscated)) => &[Obfuscated, Plain],
        (Encryption::Prefer, _) => &[Plain, Obfuscated],
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// The transports of one attempt.
#[derive(Debug, Clone, Copy)]
enum Over {
    Tcp,
    Utp,
    Race { utp_first: bool },
}

/// A connection and its round trip. In a race the second transport starts once the first has failed or had its head start
/// without an answer, and the first to connect goes on alone: the peer sees one handshake, never two.
async fn reach(shared: &Shared, addr: SocketAddr, over: Over) -> io::Result<(Conn, Duration)> {
    let utp = shared.utp.as_ref().filter(|u| u.reaches(addr));
    match (over, utp) {
        (Over::Race { utp_first: true }, Some(u)) => race(over_utp(u, addr), over_tcp(shared, addr)).await,
        (Over::Race { utp_first: false }, Some(u)) => race(over_tcp(shared, addr), over_utp(u, addr)).await,
        (Over::Utp, Some(u)) => over_utp(u, addr).await,
        (Over::Tcp | Over::Race { .. }, _) | (Over::Utp, None) => over_tcp(shared, addr).await,
    }
}

async fn race<T>(
    first: impl Future<Output = io::Result<T>>,
    second: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    match timeout(HEAD_START, &mut first).await {
        Ok(Ok(won)) => return Ok(won),
        Ok(Err(e)) => return second.await.map_err(|_| e),
        Err(_) => {}
    }
    tokio::select! {
        won = &mut first => if won.is_ok() { won } else { second.await },
        won = &mut second => if won.is_ok() { won } else { first.await },
    }
}

async fn over_tcp(shared: &Shared, addr: SocketAddr) -> io::Result<(Conn, Duration)> {
    let started = Instant::now();
    let route = &shared.config.network.route;
    let connected = timeout(route.patience(CONNECT_TIMEOUT), route.connect_tcp(addr)).await;
    let stream = connected.map_err(|_| timed_out())??;
    let rtt = started.elapsed();
    link::tune(&stream);
    Ok((Conn::Tcp(stream), rtt))
}

async fn over_utp(utp: &Utp, addr: SocketAddr) -> io::Result<(Conn, Duration)> {
    let (stream, rtt) = utp.connect(addr).await?;
    Ok((Conn::Utp(Box::new(stream)), rtt))
}

/// Our handshake and, without waiting for theirs, what we have and that we want something: a peer that unchokes the
/// interested then does so a round trip earlier. A bitfield is what peers with and without BEP 6 both take first, even
/// an empty one. Gives the pieces it told of. `bare`: nothing but the handshake.
fn first_bytes(shared: &Shared, bare: bool) -> (BytesMut, Option<PieceSet>) {
    let mut out = BytesMut::from(&Handshake::ours(shared.config.info_hash, shared.peer_id).encode()[..]);
    let told = shared.have().filter(|h| !bare && !h.is_full() && h.universe() <= MAX_EARLY_PIECES);
    if let Some(have) = &told {
        Message::Bitfield(Bytes::from(have.to_wire())).put(&mut out);
        Message::Interested.put(&mut out);
    }
    (out, told)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn failed<T>(kind: io::ErrorKind) -> io::Result<T> {
        Err(kind.into())
    }

    #[tokio::test]
    async fn the_second_transport_starts_late_and_only_where_the_first_is_slow_or_fails() {
        let start = Instant::now();
        let never = async { panic!("needless") };
        assert_eq!(race(ready(Ok(1)), never).await.unwrap(), 1);
        assert_eq!(race(ready(failed(io::ErrorKind::ConnectionRefused)), ready(Ok(2))).await.unwrap(), 2);
        assert_eq!(race(pending(), ready(Ok(2))).await.unwrap(), 2);
        assert!(start.elapsed() >= HEAD_START);
        let slow = async {
            sleep_until(Instant::now() + 2 * HEAD_START).await;
            Ok(1)
        };
        assert_eq!(race(slow, ready(failed(io::ErrorKind::TimedOut))).await.unwrap(), 1);
        // The first one's reason is the one that is told.
        let refused = ready(failed(io::ErrorKind::ConnectionRefused));
        let e = race::<()>(refused, ready(failed(io::ErrorKind::TimedOut))).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn what_a_peer_likes_is_tried_first_and_policy_is_kept() {
        use Manner::{Obfuscated, Plain};
        assert_eq!(manners(Encryption::Prefer, None), [Plain, Obfuscated]);
        assert_eq!(manners(Encryption::Prefer, Some(Obfuscated)), [Obfuscated, Plain]);
        for likes in [None, Some(Plain), Some(Obfuscated)] {
            assert_eq!(manners(Encryption::Require, likes), [Obfuscated]);
            assert_eq!(manners(Encryption::Off, likes), [Plain]);
        }
    }
}
