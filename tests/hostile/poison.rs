//! Peers that send other bytes than the film's: nothing of them reaches the screen, and whoever sent them is found out within
//! two pieces, alone or among honest ones.

use std::path::Path;
use std::time::Duration;

use crate::support::frames::{assert_same, reference};
use crate::support::media;
use crate::support::peer::{Content, Link, Peer, Seen, Want};
use crate::support::player::{Home, Played};
use crate::support::torrent::Torrent;
use crate::support::{TempDir, temp_dir};

/// Slow enough that two peers both get blocks of each piece, quick enough for a film of 4 MB.
const PACE: Duration = Duration::from_millis(20);

struct Shelf {
    _dir: TempDir,
    torrent: Torrent,
    content: Content,
}

impl Shelf {
    fn of(film: &Path, piece_kib: u32) -> Shelf {
        let dir = temp_dir();
        let torrent = Torrent::of(film, dir.path(), piece_kib);
        let content = Content::of(&torrent);
        Shelf { _dir: dir, torrent, content }
    }

    fn play(&self, peers: &[&Peer], more: &[&str]) -> Played {
        let mut options: Vec<String> =
            ["--no-clock", "--no-server", "--frames-md5", "frames.txt"].map(String::from).to_vec();
        for p in peers {
            options.extend(["--peer".to_owned(), p.addr.to_string()]);
        }
        options.extend(more.iter().map(|s| (*s).to_owned()));
        Home::new().play(self.torrent.path.clone(), options)
    }
}

/// Gives what it is asked for, spoilt where `bad` says so: two pieces' worth, then no more, so that what it gave must do to
/// find it out, however long the player takes for it.
fn poisoner(content: &Content, pace: Duration, bad: fn(Want) -> bool) -> Peer {
    let most = 2 * content.meta.layout.piece_len() / (16 * 1024);
    Peer::listen(content, move |mut link: Link| async move {
        link.open().await?;
        for _ in 0..most {
            let w = link.wanted().await?;
            let mut data = link.content.block(w);
            if bad(w) {
                data.iter_mut().step_by(7).for_each(|b| *b ^= 0x5a);
                Seen::add(&link.seen.marks, 1);
            }
            link.send_block(w, &data).await?;
            tokio::time::sleep(pace).await;
        }
        link.drain().await
    })
}

#[test]
fn alone_it_shows_nothing_and_is_sent_away_with_its_first_piece() {
    let shelf = Shelf::of(&media::mp4(), 32);
    // It gives no second piece before the player has had all the time it wants to judge the first: the player hangs up.
    let liar = Peer::listen(&shelf.content, |mut link: Link| async move {
        link.open().await?;
        let mut of_first = None;
        loop {
            let w = link.wanted().await?;
            if *of_first.get_or_insert(w.piece) == w.piece {
                let mut data = link.content.block(w);
                data.reverse();
                link.send_block(w, &data).await?;
            }
        }
    });
    let played = shelf.play(&[&liar], &["--for", "15"]);
    assert_eq!(played.frames, [], "{:#}", played.report);
    assert_eq!(played.number("/bytes/corrupt"), 32.0 * 1024.0, "{:#}\n{}", played.report, played.said);
    assert_eq!(Seen::get(&liar.seen.links), 1, "it is not dialled again");
    assert!(!is_there(&liar, &played), "it was let stay: {:#}", played.report);
}

/// The film comes whole, and whoever spoilt pieces of it is banned for what it gave.
fn is_found_out(piece_kib: u32, bad: fn(Want) -> bool, honest: usize) {
    let film = media::mp4();
    let shelf = Shelf::of(&film, piece_kib);
    let liar = poisoner(&shelf.content, PACE, bad);
    let honest: Vec<Peer> = (0..honest).map(|_| Peer::honest(&shelf.content, PACE)).collect();
    let peers: Vec<&Peer> = honest.iter().chain([&liar]).collect();
    let played = shelf.play(&peers, &[]).ok();
    assert_same(&played.frames, &reference(&film));
    assert!(Seen::get(&liar.seen.marks) > 0, "it was never asked: {:#}", played.report);
    // Pieces that were begun together may all have got something of it before the first was checked.
    let (corrupt, half) = (played.number("/bytes/corrupt"), shelf.content.bytes.len() as f64 / 2.0);
    assert!(corrupt > 0.0 && corrupt < half, "{corrupt} bytes were thrown away: {:#}", played.report);
    assert!(!is_there(&liar, &played), "it was let stay: {:#}", played.report);
    assert_eq!(Seen::get(&liar.seen.links), 1, "it is dialled again");
    for h in honest {
        assert!(
            is_there(&h, &played) && Seen::get(&h.seen.links) == 1,
            "an honest peer was sent away: {:#}",
            played.report
        );
    }
}

/// Whether the player had a link to it when it ended.
fn is_there(peer: &Peer, played: &Played) -> bool {
    let all = played.report["peers"].as_array().unwrap();
    all.iter().any(|p| p["addr"] == peer.addr.to_string() && p["connected"] == true)
}

#[test]
fn beside_an_honest_peer_that_shares_its_pieces() {
    is_found_out(256, |_| true, 1);
}

#[test]
fn among_honest_peers_that_share_its_pieces() {
    is_found_out(256, |_| true, 3);
}

#[test]
fn one_that_spoils_only_now_and_then() {
    is_found_out(256, |w| w.begin.is_multiple_of(5 * 16384), 2);
}
