//! Crowds that connect and give nothing: a play beside them is the play without them, in bounded memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support::frames::{assert_same, reference};
use crate::support::peer::{Content, HAVE_ALL, Link, Peer, Seen, UNCHOKE};
use crate::support::player::{Home, Played};
use crate::support::torrent::Torrent;
use crate::support::{TempDir, free_port, media, temp_dir};

/// 400 kB/s, about three times what the film needs.
const PACE: Duration = Duration::from_millis(40);
/// What a play of this film holds, twice over.
const MEMORY: f64 = 150e6;

struct Shelf {
    _dir: TempDir,
    torrent: Torrent,
    content: Content,
    listen: SocketAddr,
}

impl Shelf {
    fn new() -> Shelf {
        let dir = temp_dir();
        let torrent = Torrent::of(&media::mp4(), dir.path(), 32);
        let content = Content::of(&torrent);
        Shelf { _dir: dir, torrent, content, listen: (Ipv4Addr::LOCALHOST, free_port()).into() }
    }

    /// Plays on the clock, beside whoever is there; `crowd` are addresses to dial, the honest peer's among them.
    fn play(&self, crowd: &[SocketAddr]) -> Played {
        let honest = Peer::honest(&self.content, PACE);
        let mut options: Vec<String> =
            ["--no-server", "--frames-md5", "frames.txt", "--for", "24", "--listen"].map(String::from).to_vec();
        options.push(self.listen.to_string());
        for addr in crowd.iter().chain([&honest.addr]) {
            options.extend(["--peer".to_owned(), addr.to_string()]);
        }
        let played = Home::new().play(self.torrent.path.clone(), options).ok();
        // On a slow machine much of the time goes by before the start.
        assert!(played.number("/played_s") > 1.0, "the honest peer was found late: {:#}", played.report);
        let original = reference(&media::mp4());
        assert_same(&played.frames, &original[..played.frames.len()]);
        assert!(played.number("/rss_peak_bytes") < MEMORY, "{:#}", played.report);
        assert_eq!(played.number("/bytes/corrupt"), 0.0);
        played
    }

    /// The same, and never short of bytes.
    fn play_without_a_stall(&self, crowd: &[SocketAddr]) {
        let played = self.play(crowd);
        assert_eq!(played.report["stalls"], serde_json::json!([]), "{:#}", played.report);
    }
}

async fn says_nothing(mut link: Link) -> std::io::Result<()> {
    let mut heard = [0; 4096];
    while tokio::io::AsyncReadExt::read(&mut link.stream, &mut heard).await? > 0 {}
    Ok(())
}

async fn shakes_and_says_nothing(mut link: Link) -> std::io::Result<()> {
    link.shake().await?;
    link.drain().await
}

/// Has all, and gives a byte a second of what it is asked for.
async fn trickles(mut link: Link) -> std::io::Result<()> {
    link.shake().await?;
    link.send(HAVE_ALL, &[]).await?;
    link.send(UNCHOKE, &[]).await?;
    let w = link.wanted().await?;
    let data = link.content.block(w);
    let head = [&(9 + w.len).to_be_bytes()[..], &[7], &w.piece.to_be_bytes(), &w.begin.to_be_bytes()].concat();
    for byte in head.iter().chain(&data) {
        tokio::io::AsyncWriteExt::write_all(&mut link.stream, &[*byte]).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

#[test]
fn five_hundred_that_dial_and_say_nothing() {
    let shelf = Shelf::new();
    let crowd = Peer::dial(shelf.listen, 500, &shelf.content, says_nothing);
    shelf.play_without_a_stall(&[]);
    assert!(Seen::get(&crowd.seen.links) >= 500, "they were not there");
}

#[test]
fn five_hundred_that_dial_and_shake_hands() {
    let shelf = Shelf::new();
    let crowd = Peer::dial(shelf.listen, 500, &shelf.content, shakes_and_says_nothing);
    shelf.play_without_a_stall(&[]);
    assert!(Seen::get(&crowd.seen.links) >= 500, "they were not there");
}

#[test]
fn five_hundred_that_are_dialled_and_say_nothing() {
    let shelf = Shelf::new();
    let (crowd, addrs) = Peer::crowd(500, &shelf.content, says_nothing);
    shelf.play_without_a_stall(&addrs);
    assert!(Seen::get(&crowd.seen.links) > 0, "they were not there");
}

#[test]
fn five_hundred_that_are_dialled_and_shake_hands() {
    let shelf = Shelf::new();
    let (crowd, addrs) = Peer::crowd(500, &shelf.content, shakes_and_says_nothing);
    shelf.play_without_a_stall(&addrs);
    assert!(Seen::get(&crowd.seen.links) > 0, "they were not there");
}

#[test]
fn a_hundred_that_give_a_byte_a_second() {
    let shelf = Shelf::new();
    let (crowd, addrs) = Peer::crowd(100, &shelf.content, trickles);
    // What they were asked for comes from the honest one instead; that it took them for peers may show once.
    let played = shelf.play(&addrs);
    assert!(played.number("/stalled_s") < 3.0, "{:#}", played.report);
    assert!(Seen::get(&crowd.seen.requests) > 0, "they were never asked");
}
