//! Ways to a peer: encrypted and plain, TCP and uTP, through real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::book::Way;
use super::handshake::{self, Handshake};
use super::shake::Manner;
use super::tests::{LIMIT, Side, config, known};
use super::utp::{Sockets, Utp};
use super::*;
use crate::torrent::InfoHash;

const PIECES: u32 = 60;

/// All blocks of a torrent over the one link there is, in order and whole.
async fn all_blocks(mut seed: Side, mut leech: Side) {
    let content = |p: u32, begin: u32| Bytes::from(vec![(p * 2 + begin / 16384) as u8; 16384]);
    let (to_leech, _) = seed.up().await;
    seed.swarm.send(to_leech, LinkCommand::Choke(false));
    let serving = tokio::spawn(async move {
        while let Some(e) = seed.events.recv().await {
            if let SwarmEvent::Requested { link, piece, begin, .. } = e {
                seed.swarm.send(link, LinkCommand::Send { piece, begin, data: content(piece.0, begin) });
            }
        }
    });
    let (to_seed, _) = leech.up().await;
    leech.until("unchoke", |e| matches!(e, SwarmEvent::Unchoked { .. }).then_some(())).await;
    let spans = || (0..PIECES).flat_map(|p| [(p, 0), (p, 16384)]);
    for (p, begin) in spans() {
        leech.swarm.send(to_seed, LinkCommand::Request { piece: PieceIndex(p), begin, len: 16384 });
    }
    for (p, b) in spans() {
        let e = loop {
            let e = timeout(LIMIT, leech.events.recv()).await.expect("stuck").expect("ended");
            if let SwarmEvent::Block { piece, begin, data, .. } = e {
                break (piece.0, begin, data);
            }
        };
        assert_eq!(e, (p, b, content(p, b)));
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_policy_reaches_each_that_it_may() {
    use Encryption::{Off, Prefer, Require};
    let (t, hash) = known(PIECES, 0..PIECES);
    // Dialled plain first, and again obfuscated where that is refused.
    for (dials, listens, encrypted) in [
        (Prefer, Prefer, false),
        (Prefer, Require, true),
        (Require, Prefer, true),
        (Off, Prefer, false),
        (Prefer, Off, false),
    ] {
        let mut seed = Side::start(SwarmConfig { encryption: listens, ..config(hash, vec![]) }, Some(t.clone()));
        let peers = vec![seed.addr()];
        let mut leech =
            Side::start(SwarmConfig { encryption: dials, ..config(hash, peers) }, Some(known(PIECES, []).0));
        let ((_, there), (_, here)) = (leech.up().await, seed.up().await);
        assert_eq!((there.encrypted, here.encrypted), (encrypted, encrypted), "{dials:?} to {listens:?}");
        let way = leech.swarm.shared.book.lock().way(seed.addr());
        let manner = if encrypted { Manner::Obfuscated } else { Manner::Plain };
        assert_eq!(way, Way { manner: Some(manner), ..Way::default() });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_arrive_whole_over_an_encrypted_link_and_over_utp() {
    let (t, hash) = known(PIECES, 0..PIECES);
    for (encryption, utp) in [(Encryption::Require, false), (Encryption::Prefer, true), (Encryption::Require, true)] {
        let ours = |peers| SwarmConfig { encryption, utp, ..config(hash, peers) };
        let mut seed = Side::start(ours(vec![]), Some(t.clone()));
        let mut leech = Side::start(ours(vec![]), Some(known(PIECES, []).0));
        {
            let mut book = leech.swarm.shared.book.lock();
            book.add(seed.addr(), LinkSource::User, tokio::time::Instant::now());
            book.went(seed.addr(), Way { utp_first: utp, ..Way::default() });
        }
        leech.swarm.shared.dial.notify_one();
        let ((_, there), (_, here)) = (leech.up().await, seed.up().await);
        assert_eq!((there.utp, here.utp), (utp, utp));
        assert_eq!(there.encrypted, encryption == Encryption::Require);
        // Both said `Up` already; say it again to the one who fetches.
        drop((there, here));
        leech.swarm.shutdown().await;
        seed.down().await;

        let leech = Side::start(ours(vec![seed.addr()]), Some(known(PIECES, []).0));
        timeout(LIMIT, all_blocks(seed, leech)).await.expect("stuck");
    }
}

/// A peer behind whose address only UDP listens: TCP is refused, or swallowed, and uTP is what the book remembers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_only_utp_reaches_is_reached() {
    let (t, hash) = known(5, [0]);
    let sockets = Sockets::bind(&Default::default(), &["127.0.0.1:0".parse().unwrap()]).unwrap();
    let addr = librqbit_utp::Transport::bind_addr(&sockets);
    let utp = Utp::start(sockets, 4).unwrap();
    let mut side = Side::start(SwarmConfig { utp: true, ..config(hash, vec![addr]) }, Some(t));
    let (mut s, from) = timeout(LIMIT, utp.accept()).await.expect("not dialled").unwrap();
    assert_eq!(from.ip(), addr.ip());
    let mut first = [0; handshake::LEN];
    s.read_exact(&mut first).await.unwrap();
    s.write_all(&Handshake::ours(InfoHash(hash), [3; 20]).encode()).await.unwrap();
    let (_, info) = side.up().await;
    assert!(info.utp && info.outgoing && !info.encrypted && info.rtt.is_some());
    assert!(side.swarm.shared.book.lock().way(addr).utp_first);
    drop(s);
    side.down().await;
}

/// Someone in between swallows what looks like the protocol: obfuscated it passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_swallowed_plain_is_tried_obfuscated() {
    let (t, hash) = known(5, 0..5);
    let mut seed = Side::start(SwarmConfig { encryption: Encryption::Require, ..config(hash, vec![]) }, Some(t));
    let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, behind) = (gate.local_addr().unwrap(), seed.addr());
    let between = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut s, _)) = gate.accept().await {
            let mut first = [0; 20];
            s.read_exact(&mut first).await.unwrap();
            if first == *handshake::MAGIC {
                held.push(s);
                continue;
            }
            let mut to = TcpStream::connect(behind).await.unwrap();
            to.write_all(&first).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut s, &mut to).await });
        }
    });
    let mut side = Side::start(config(hash, vec![addr]), Some(known(5, []).0));
    assert!(side.up().await.1.encrypted && seed.up().await.1.encrypted);
    between.abort();
}

/// Room for all those sockets beside those of other tests, where the system grants it.
fn allow_many_files() {
    #[cfg(unix)]
    {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls read or fill the value they are given, and keep no pointer to it.
        unsafe {
            if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
                limit.rlim_cur = limit.rlim_cur.max(limit.rlim_max.min(8192));
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            }
        }
    }
}

/// Five hundred strangers who say nothing hold little, keep nobody out, and are gone after their time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_silent_connections_keep_nobody_out() {
    let (t, hash) = known(PIECES, 0..PIECES);
    let seed = Side::start(config(hash, vec![]), Some(t));
    let addr: SocketAddr = seed.addr();
    allow_many_files();
    let mut silent = Vec::new();
    for _ in 0..500 {
        // A machine may allow fewer files than that; what there is must do.
        match TcpStream::connect(addr).await {
            Ok(s) => silent.push(s),
            Err(_) => break,
        }
    }
    assert!(silent.len() > 2 * listener::MAX_PENDING, "{}", silent.len());
    let leech = Side::start(config(hash, vec![addr]), Some(known(PIECES, []).0));
    let shared = seed.swarm.shared.clone();
    timeout(LIMIT, all_blocks(seed, leech)).await.expect("kept out");
    // That of the peer, unless it has left by now.
    assert!(shared.queues().len() <= 1);
    // The oldest were closed to make room: a read ends.
    let mut oldest = silent.swap_remove(0);
    let ended = timeout(LIMIT, oldest.read(&mut [0; 1])).await.expect("still open");
    assert!(matches!(ended, Ok(0) | Err(_)));
    drop(shared);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receive_budget_holds_over_utp_too() {
    let (full, hash) = known(PIECES, 0..PIECES);
    let ours = |peers| SwarmConfig { utp: true, ..config(hash, peers) };
    let seed = Side::start(ours(vec![]), Some(full));
    let leech = Side::start(ours(vec![]), Some(known(PIECES, []).0));
    {
        let mut book = leech.swarm.shared.book.lock();
        book.add(seed.addr(), LinkSource::User, tokio::time::Instant::now());
        book.went(seed.addr(), Way { utp_first: true, ..Way::default() });
    }
    let rate: u64 = 1_000_000;
    leech.swarm.set_receive_budget(Some(rate));
    leech.swarm.shared.dial.notify_one();
    let start = std::time::Instant::now();
    timeout(LIMIT, all_blocks(seed, leech)).await.expect("stuck");
    // Never faster than the budget lets it; how much slower is the machine's affair.
    let least = u64::from(PIECES) * 32768 * 1000 / rate;
    assert!(start.elapsed() + Duration::from_millis(200) >= Duration::from_millis(least), "{:?}", start.elapsed());
}

/// Strangers who shake hands and then do nothing take their share of places, and the peers of our choice find room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_strangers_leave_room_for_peers_of_our_choice() {
    let (t, hash) = known(5, [0]);
    let mut side = Side::start(SwarmConfig { max_links: 8, ..config(hash, vec![]) }, Some(t.clone()));
    let mut idle = Vec::new();
    for id in 0..8 {
        let mut s = TcpStream::connect(side.addr()).await.unwrap();
        s.write_all(&Handshake::ours(InfoHash(hash), [id; 20]).encode()).await.unwrap();
        if id < 6 {
            side.up().await;
        } else {
            // Six of eight places are for strangers.
            let ended = timeout(LIMIT, s.read_to_end(&mut Vec::new())).await.expect("kept open");
            assert!(ended.is_err() || side.swarm.shared.open_links() <= 6);
        }
        idle.push(s);
    }
    let seed = Side::start(config(hash, vec![]), Some(known(5, 0..5).0));
    side.swarm.want(4);
    side.swarm.shared.found([seed.addr()], LinkSource::Tracker);
    assert!(side.up().await.1.outgoing);
}

/// The port is free again once a swarm has left: the next one gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_that_left_gives_its_ports_back() {
    let (t, hash) = known(5, [0]);
    let ours = |listen, peers| SwarmConfig { utp: true, listen, ..config(hash, peers) };
    let any = Some("127.0.0.1:0".parse().unwrap());
    let mut seed = Side::start(ours(any, vec![]), Some(t.clone()));
    let leech = Side::start(ours(any, vec![]), Some(known(5, []).0));
    {
        let mut book = leech.swarm.shared.book.lock();
        book.add(seed.addr(), LinkSource::User, tokio::time::Instant::now());
        book.went(seed.addr(), Way { utp_first: true, ..Way::default() });
    }
    leech.swarm.shared.dial.notify_one();
    assert!(seed.up().await.1.utp);
    let addr = seed.addr();
    seed.swarm.shutdown().await;
    // The handle is still there. A machine that is too busy to end the links in the time they have takes a little longer.
    let back = async {
        loop {
            let again = Side::start(ours(Some(addr), vec![]), Some(t.clone()));
            if again.addr() == addr && again.swarm.shared.utp.as_ref().is_some_and(Utp::listens) {
                break;
            }
            again.swarm.shutdown().await;
        }
    };
    timeout(LIMIT, back).await.expect("the port is still taken");
}
