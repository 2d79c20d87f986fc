//! Peers that say too much, and crowds: each is dropped with a reason, or costs no place; others are served meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::benc::Writer;
use super::handshake::{Handshake, LEN, OUR_METADATA, OUR_PEX};
use super::shake::Shake;
use super::tests::{LIMIT, Side, config, known};
use super::wire::{Message, Span};
use super::*;
use crate::torrent::InfoHash;

/// A plain handshake, done.
fn shaken(hash: [u8; 20], id: [u8; 20]) -> Shake {
    let peer = Handshake::ours(InfoHash(hash), id);
    Shake { peer, ciphers: None, obfuscated: false, early: BytesMut::new() }
}

fn hello(hash: [u8; 20], id: u8) -> BytesMut {
    BytesMut::from(&Handshake::ours(InfoHash(hash), [id; 20]).encode()[..])
}

/// Dials as a stranger, says all this, and reads what comes until it is hung up on.
fn stranger(to: SocketAddr, bytes: Bytes) -> tokio::task::JoinHandle<u64> {
    tokio::spawn(async move {
        let mut s = TcpStream::connect(to).await.unwrap();
        let (mut rd, mut wr) = s.split();
        let mut heard = [0; 16 * 1024];
        let listen = async {
            let mut all = 0;
            while let Ok(n @ 1..) = rd.read(&mut heard).await {
                all += n as u64;
            }
            all
        };
        // Writing fails once it is dropped; what it was told until then counts.
        let say = async {
            let _ = wr.write_all(&bytes).await;
        };
        let (heard, ()) = tokio::join!(listen, say);
        heard
    })
}

/// A stranger that says `messages` over and over, up to `times`, is dropped for `reason`.
async fn is_dropped(messages: &[Message], times: usize, reason: &str) {
    let (t, hash) = known(5, 0..3);
    let mut side = Side::start(config(hash, vec![]), Some(t));
    let mut once = BytesMut::new();
    messages.iter().for_each(|m| m.put(&mut once));
    let bytes = [&hello(hash, 7)[..], &once.repeat(times)].concat();
    let dialled = stranger(side.addr(), bytes.into());
    let said = side.down().await;
    assert!(said.contains(reason), "{said}");
    timeout(LIMIT, dialled).await.expect("kept open").unwrap();
    // What it made the driver hear of is little.
    assert!(side.log.len() < 2500, "{} events", side.log.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_short_messages_end_the_link() {
    let span = Span { piece: 1, begin: 0, len: 16384 };
    let pex = |n: u8| {
        let mut w = Writer::dict();
        w.bytes("added", &[10, 0, 0, n, 1, 1]);
        Message::Extended { id: OUR_PEX, payload: w.finish().into() }
    };
    let (much, reason) = (100_000, "says too much");
    is_dropped(&[Message::HaveAll, Message::HaveNone], much, reason).await;
    is_dropped(&[Message::Bitfield(Bytes::from_static(&[0xf8]))], much, reason).await;
    is_dropped(&[Message::Choke, Message::Unchoke], much, reason).await;
    is_dropped(&[Message::Interested, Message::NotInterested], much, reason).await;
    is_dropped(&[Message::KeepAlive], much, reason).await;
    is_dropped(&[Message::AllowedFast(1), Message::Suggest(2)], much, reason).await;
    is_dropped(&[Message::Request(span)], much, reason).await;
    is_dropped(&[Message::Cancel(span)], much, reason).await;
    is_dropped(&[Message::Extended { id: 0, payload: Bytes::from_static(b"d1:md11:ut_metadatai3eee") }], much, reason)
        .await;
    is_dropped(
        &[Message::Extended { id: OUR_METADATA, payload: Bytes::from_static(b"d8:msg_typei0e5:piecei9ee") }],
        much,
        reason,
    )
    .await;
    // Floods of peers have a bound of their own.
    is_dropped(&[pex(1), pex(2)], much, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_nobody_asked_for_are_not_taken() {
    let (t, hash) = known(5, []);
    let mut side = Side::start(config(hash, vec![]), Some(t));
    let block = Message::Block { piece: 2, begin: 0, data: Bytes::from(vec![0x66; 16384]) };
    let mut bytes = hello(hash, 7);
    (0..500).for_each(|_| block.put(&mut bytes));
    let dialled = stranger(side.addr(), bytes.freeze());
    let said = side.down().await;
    assert!(said.contains("nobody asked for"), "{said}");
    assert!(!side.log.iter().any(|e| matches!(e, SwarmEvent::Block { .. })), "the driver was given one");
    timeout(LIMIT, dialled).await.expect("kept open").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejects_of_what_was_never_asked_are_not_told() {
    let (t, hash) = known(5, []);
    let mut side = Side::start(config(hash, vec![]), Some(t));
    let mut bytes = hello(hash, 7);
    let reject = Message::Reject(Span { piece: 2, begin: 0, len: 16384 });
    (0..1000).for_each(|_| reject.put(&mut bytes));
    Message::Have(3).put(&mut bytes);
    let mut s = TcpStream::connect(side.addr()).await.unwrap();
    s.write_all(&bytes).await.unwrap();
    side.until("have", |e| matches!(e, SwarmEvent::Have { .. }).then_some(())).await;
    assert!(!side.log.iter().any(|e| matches!(e, SwarmEvent::Rejected { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_has_one_link_whoever_dials() {
    let (t, hash) = known(5, 0..5);
    let mut side = Side::start(config(hash, vec![]), Some(t));
    let mut first = TcpStream::connect(side.addr()).await.unwrap();
    first.write_all(&hello(hash, 7)).await.unwrap();
    side.up().await;
    for _ in 0..20 {
        let heard = timeout(LIMIT, stranger(side.addr(), hello(hash, 7).freeze())).await.expect("kept open").unwrap();
        assert!(heard <= LEN as u64, "a second link by the same peer");
    }
    assert_eq!(side.swarm.shared.queues().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mute_hold_no_place_and_a_talker_gets_one() {
    let (t, hash) = known(5, []);
    let mut side = Side::start(SwarmConfig { max_links: 8, ..config(hash, vec![]) }, Some(t));
    let mut mute = Vec::new();
    for id in 0..3 {
        let mut s = TcpStream::connect(side.addr()).await.unwrap();
        s.write_all(&hello(hash, id)).await.unwrap();
        side.up().await;
        mute.push(s);
    }
    assert_eq!(side.swarm.shared.link_count(), 0);
    let mut talkers = Vec::new();
    for id in 10..13 {
        let mut s = TcpStream::connect(side.addr()).await.unwrap();
        let mut bytes = hello(hash, id);
        Message::HaveAll.put(&mut bytes);
        s.write_all(&bytes).await.unwrap();
        side.bitfield().await;
        talkers.push(s);
    }
    assert_eq!(side.swarm.shared.link_count(), 3);
    // What strangers may hold of the places is taken, by those and by the young mute.
    let heard = timeout(LIMIT, stranger(side.addr(), hello(hash, 20).freeze())).await.expect("kept open").unwrap();
    assert!(heard <= LEN as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_are_no_peers_are_never_dialled() {
    let (t, hash) = known(5, [0]);
    let mut side = Side::start(config(hash, vec![]), Some(t));
    let bait = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = side.addr();
    let bad = ["0.0.0.0:6881", "224.0.0.1:6881", "255.255.255.255:6881", "127.0.0.1:0", "[ff02::1]:6881", "[::]:6881"];
    let all = bad.iter().map(|a| a.parse().unwrap()).chain([own, bait.local_addr().unwrap()]);
    side.swarm.shared.found(all, LinkSource::Tracker);
    // The only one that can be a peer is dialled; we are found to be ourselves, and forgotten.
    let (mut s, _) = timeout(LIMIT, bait.accept()).await.expect("not dialled").unwrap();
    s.write_all(&hello(hash, 9)).await.unwrap();
    side.up().await;
    let settled = async {
        while !side.swarm.shared.book.lock().is_banned(own) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, settled).await.expect("it links to itself");
    assert_eq!(side.swarm.shared.book.lock().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ids_from_one_address_get_few_places() {
    let (t, hash) = known(5, []);
    let side = Side::start(SwarmConfig { max_links: 100, ..config(hash, vec![]) }, Some(t));
    let addr: SocketAddr = "203.0.113.7:1000".parse().unwrap();
    let shared = &side.swarm.shared;
    let given = (0..1000u32).filter(|i| {
        let mut id = [0; 20];
        id[..4].copy_from_slice(&i.to_be_bytes());
        shared.place(&shaken(hash, id), addr, false).is_ok()
    });
    assert!((2..10).contains(&given.count()));
    let other = "203.0.113.8:1000".parse().unwrap();
    assert!(shared.place(&shaken(hash, [9; 20]), other, false).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_anothers_id_does_not_end_its_link() {
    let (t, hash) = known(5, []);
    let side = Side::start(config(hash, vec![]), Some(t));
    let shared = &side.swarm.shared;
    // Both ids, so that either side's rule for crossed dials would apply.
    for id in [[0; 20], [255; 20]] {
        let peer = shaken(hash, id);
        let honest = shared.place(&peer, "203.0.113.7:1000".parse().unwrap(), true).unwrap();
        assert!(shared.place(&peer, "198.51.100.9:1000".parse().unwrap(), false).is_err());
        assert!(!honest.close.is_cancelled());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_never_ends_or_is_garbage_keeps_nobody_from_the_true_one() {
    let (full, hash) = known(5, 0..5);
    let seed = Side::start(config(hash, vec![]), Some(full.clone()));
    // They claim the largest size there may be, and answer each request with noise.
    let mut liars = Vec::new();
    for id in 0..5u8 {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        liars.push(socket.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut s, _)) = socket.accept().await {
                let size = 32 * 1024 * 1024 - u32::from(id);
                let mut bytes = hello(hash, 100 + id);
                let mut w = Writer::dict();
                w.open("m").int("ut_metadata", 3).close().int("metadata_size", size);
                Message::Extended { id: 0, payload: w.finish().into() }.put(&mut bytes);
                let data =
                    metadata::MetadataMessage::Data { piece: 0, total: size, data: Bytes::from(vec![id; 16384]) };
                Message::Extended { id: OUR_METADATA, payload: data.encode() }.put(&mut bytes);
                let _ = s.write_all(&bytes).await;
                let mut heard = [0; 4096];
                while let Ok(1..) = s.read(&mut heard).await {
                    let mut again = BytesMut::new();
                    Message::Extended { id: OUR_METADATA, payload: data.encode() }.put(&mut again);
                    let _ = s.write_all(&again).await;
                }
            }
        });
    }
    liars.push(seed.addr());
    let mut magnet = Side::start(config(hash, liars), None);
    let drain = tokio::spawn(async move {
        let Side { swarm: _swarm, mut events, .. } = seed;
        while events.recv().await.is_some() {}
    });
    let info = magnet
        .until("metadata", |e| match e {
            SwarmEvent::Metadata(b) => Some(b.clone()),
            _ => None,
        })
        .await;
    assert_eq!(info, full.info_bytes);
    drain.abort();
}
