//! Strangers who break the rules, over real sockets.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::handshake::Handshake;
use super::tests::{LIMIT, Side, config, known};
use super::wire::{Message, Span};
use super::*;
use crate::torrent::InfoHash;

/// Dials a swarm as a stranger whose first bytes are `bytes`; gives what came back until it closed.
async fn stranger(side: SocketAddr, bytes: Vec<u8>) -> Vec<u8> {
    let mut s = TcpStream::connect(side).await.unwrap();
    let _ = s.write_all(&bytes).await;
    let mut back = Vec::new();
    let _ = timeout(LIMIT, s.read_to_end(&mut back)).await.expect("kept open");
    back
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_break_the_rules_are_dropped_and_others_served() {
    let (t, hash) = known(5, 0..5);
    let mut side = Side::start(config(hash, vec![]), Some(t));
    // What is not the protocol might be a key and is answered by one, unless it shows before that no mark will come.
    assert!(stranger(side.addr(), vec![b'x'; 96 + 512 + 20]).await.len() <= 96 + 512);
    let plain = Side::start(SwarmConfig { encryption: Encryption::Off, ..config(hash, vec![]) }, None);
    assert!(stranger(plain.addr(), vec![b'x'; 20]).await.is_empty());
    assert!(stranger(side.addr(), Handshake::ours(InfoHash([9; 20]), [1; 20]).encode().to_vec()).await.is_empty());
    let breaches: [(&str, Vec<Message>); 7] = [
        ("bytes that do not exist", vec![Message::Request(Span { piece: 5, begin: 0, len: 1 })]),
        ("bytes that do not exist", vec![Message::Request(Span { piece: 4, begin: u32::MAX, len: 2 })]),
        ("bytes that do not exist", vec![Message::Block { piece: 0, begin: 32768, data: Bytes::from_static(b"x") }]),
        ("a piece the torrent does not have", vec![Message::Have(5)]),
        ("does not fit", vec![Message::Bitfield(Bytes::from_static(&[0xff]))]),
        ("kind 5", vec![Message::Bitfield(Bytes::from_static(&[0xff, 0]))]),
        ("kind 7", vec![Message::Block { piece: 0, begin: 0, data: Bytes::from(vec![0; 16385]) }]),
    ];
    for (i, (reason, messages)) in breaches.into_iter().enumerate() {
        let mut bytes = bytes::BytesMut::from(&Handshake::ours(InfoHash(hash), [i as u8; 20]).encode()[..]);
        messages.iter().for_each(|m| m.put(&mut bytes));
        let dialled = tokio::spawn(stranger(side.addr(), bytes.to_vec()));
        let said = side.down().await;
        assert!(said.contains(reason), "{said}");
        let back = dialled.await.unwrap();
        assert!(back.starts_with(&Handshake::ours(InfoHash(hash), [0; 20]).encode()[..48]));
    }
    // Still there for those who behave.
    let good = Side::start(config(hash, vec![side.addr()]), Some(known(5, []).0));
    side.until("link", |e| matches!(e, SwarmEvent::Up { info, .. } if info.client == "Sluicegate 0.1").then_some(()))
        .await;
    drop(good);
    side.down().await;
}

/// Half of it messages of known kinds and plausible lengths, so that it gets far.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut out = Vec::new();
    for _ in 0..20 {
        let kind = [0, 1, 2, 3, 4, 6, 7, 8, 9, 13, 14, 15, 16, 17, 20, 20, 20, 99][next() as usize % 18];
        let len = match kind {
            4 | 13 | 17 => 4,
            6 | 8 | 16 => 12,
            7 => 8 + next() as u32 % 50,
            9 => 2,
            20 | 99 => 1 + next() as u32 % 80,
            _ => 0,
        };
        out.extend_from_slice(&(len + 1).to_be_bytes());
        out.push(kind);
        let body = (0..len).map(|i| match (kind, i) {
            (20, 0) => [0, 1, 3, 7][next() as usize % 4],
            (20, _) => b"d1:md11:ut_metadatai3e8:msg_typei0e5:piece5:added6:ei9l"[next() as usize % 55],
            _ => [0, 0, 0, 1, 255][next() as usize % 5],
        });
        out.extend(body.collect::<Vec<_>>());
    }
    out.truncate(out.len() - next() as usize % 40);
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_of_every_kind_ends_links_and_nothing_else() {
    let (t, hash) = known(5, 0..3);
    for torrent in [Some(t), None] {
        let mut side = Side::start(config(hash, vec![]), torrent);
        for seed in 0..150u64 {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&seed.to_le_bytes());
            let mut bytes = Handshake::ours(InfoHash(hash), id).encode().to_vec();
            bytes.extend(noise(seed));
            let mut s = TcpStream::connect(side.addr()).await.unwrap();
            let _ = s.write_all(&bytes).await;
            let _ = s.shutdown().await;
            let reason = side.down().await;
            assert!(!reason.contains("inside this program"), "{seed}");
        }
        assert_eq!(side.swarm.shared.link_count(), 0);
    }
}
