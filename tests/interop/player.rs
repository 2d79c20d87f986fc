//! The player itself beside each peer: what it shows is the film, and when it stays as a seed others have the film from it.

use crate::aria2::Aria2;
use crate::content::Content;
use crate::foreign::{self, Foreign, Given, Via};
use crate::libtorrent::{self, Libtorrent};
use crate::rqbit::Rqbit;
use crate::rtorrent::Rtorrent;
use crate::support::frames::{assert_same, reference};
use crate::support::player::Home;
use crate::support::{free_port, media, text};
use crate::transmission::Transmission;

/// Plays all of it from one peer. tests/play.rs does so from Transmission.
fn plays_from(from: &dyn Foreign, content: &Content) {
    let peer = from.addr().to_string();
    let options = ["--no-clock", "--no-server", "--frames-md5", "frames.txt", "--peer", &peer];
    let played = Home::new().play(text(&content.torrent.path), options).ok();
    assert_same(&played.frames, &reference(&media::mp4()));
}

#[test]
fn plays_from_libtorrent() {
    if libtorrent::is_here() {
        let c = Content::film(&media::mp4());
        plays_from(&Libtorrent::seed(&c, Via::Tcp), &c);
    }
}

#[test]
fn plays_from_aria2() {
    if foreign::is_here("aria2c") {
        let c = Content::film(&media::mp4());
        plays_from(&Aria2::seed(&c, Via::Tcp), &c);
    }
}

#[test]
fn plays_from_rtorrent() {
    if foreign::is_here("rtorrent") {
        let c = Content::film(&media::mp4());
        plays_from(&Rtorrent::seed(&c, Via::Tcp), &c);
    }
}

#[test]
fn plays_from_librqbit() {
    let c = Content::film(&media::mp4());
    plays_from(&Rqbit::seed(&c, Via::Tcp), &c);
}

/// It plays from Transmission to the end and stays; libtorrent then has all of it from the player alone, by a magnet link.
#[test]
fn what_was_played_is_seeded() {
    if !(foreign::is_here("transmission-daemon") && libtorrent::is_here()) {
        return;
    }
    let content = Content::film(&media::mp4());
    let seed = Transmission::seed(&content, Via::Tcp);
    let (home, port, peer) = (Home::new(), free_port(), seed.addr().to_string());
    let listen = format!("127.0.0.1:{port}");
    let args = ["play", "--headless", "--seed", text(&content.torrent.path), "--no-dht", "--no-server", "--no-clock"];
    let more = ["--peer", &peer, "--listen", &listen, "--report", "report.json"];
    let played = home.run_beside(args.into_iter().chain(more), |player| {
        crate::support::wait_for("the end of the film", foreign::PATIENCE, || {
            assert!(player.runs(), "it ended: {}", player.log());
            player.log().contains("Played to the end.").then_some(())
        });
        drop(seed);
        let mut it = Libtorrent::fetch(&content, Given::Magnet, Via::Tcp, listen.parse().unwrap());
        it.completes(&content);
        player.signal(libc::SIGINT);
    });
    let played = played.ok();
    assert_eq!(played.report["ended"], true);
    assert!(played.number("/bytes/uploaded") >= content.len() as f64, "{:#}", played.report);
}

/// The film lies in the cache, put there by somebody else: it is checked, played and seeded, and nobody is needed.
#[test]
fn what_lies_in_the_cache_is_checked_and_seeded() {
    if !libtorrent::is_here() {
        return;
    }
    let content = Content::film(&media::mp4());
    let (home, port) = (Home::new(), free_port());
    content.lay(&home.dir.path().join("kept").join(&content.torrent.info_hash).join("files"));
    let listen = format!("127.0.0.1:{port}");
    let args = ["play", "--headless", "--seed", text(&content.torrent.path), "--no-dht", "--no-server", "--no-clock"];
    let more = ["--cache", "kept", "--listen", &listen, "--report", "report.json"];
    let played = home.run_beside(args.into_iter().chain(more), |player| {
        let mut it = Libtorrent::fetch(&content, Given::Torrent, Via::Tcp, listen.parse().unwrap());
        it.completes(&content);
        player.signal(libc::SIGINT);
    });
    let played = played.ok();
    assert_eq!(played.number("/bytes/swarm"), 0.0);
    assert!(played.number("/bytes/uploaded") >= content.len() as f64, "{:#}", played.report);
}
