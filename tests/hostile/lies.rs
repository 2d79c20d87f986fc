//! Bytes that are not the film's: from a web server, and from a peer that lies about what it has.

use std::path::{Path, PathBuf};

use crate::support::frames::{Frame, assert_same, reference};
use crate::support::media;
use crate::support::nginx::Nginx;
use crate::support::player::{Home, Played};
use crate::support::seed::Seed;
use crate::support::torrent::Torrent;
use crate::support::{TempDir, temp_dir};

/// Bytes from here on are spoilt, a stretch in each piece: some seconds into the film.
const SPOILT_FROM: usize = 400_000;
const PIECE: usize = 32 * 1024;

/// A folder with a copy of the film, and its torrent.
struct Shelf {
    dir: TempDir,
    torrent: Torrent,
}

impl Shelf {
    fn of(film: &Path) -> Shelf {
        let dir = temp_dir();
        let copy = dir.path().join("clip.mp4");
        std::fs::copy(film, &copy).unwrap();
        let torrent = Torrent::of(&copy, dir.path(), 32);
        Shelf { dir, torrent }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("clip.mp4")
    }

    /// Spoils the copy, and leaves its time of change: whoever has checked it takes it for good.
    fn spoil(&self) {
        let changed = std::fs::metadata(self.file()).unwrap().modified().unwrap();
        let mut bytes = std::fs::read(self.file()).unwrap();
        for piece in bytes.get_mut(SPOILT_FROM..).unwrap().chunks_mut(PIECE) {
            for b in piece.iter_mut().take(PIECE / 8) {
                *b ^= 0xa5;
            }
        }
        let file = std::fs::OpenOptions::new().write(true).open(self.file()).unwrap();
        std::io::Write::write_all(&mut &file, &bytes).unwrap();
        file.set_modified(changed).unwrap();
    }
}

fn play(torrent: &Torrent, more: &[&str]) -> Played {
    let options = ["--no-clock", "--frames-md5", "frames.txt"];
    Home::new().play(torrent.path.clone(), options.iter().chain(more).copied())
}

/// What was shown is the film's, from its start on.
fn only_true_pictures(shown: &[Frame], film: &Path) {
    let original = reference(film);
    assert!(shown.len() < original.len(), "all of it was shown, though half of it is spoilt");
    assert_same(shown, &original[..shown.len()]);
}

#[test]
fn a_poisoned_web_seed_is_found_out_and_the_swarm_carries_the_film() {
    let film = media::mp4();
    let (spoilt, good) = (Shelf::of(&film), Shelf::of(&film));
    spoilt.spoil();
    let web = Nginx::serve(spoilt.dir.path(), Some(200 * 1024));
    let seed = Seed::start(&good.torrent, None);
    let peer = seed.addr.to_string();
    let played = play(&good.torrent.with_web_seeds(&[web.url("clip.mp4")]), &["--peer", &peer]).ok();
    assert!(played.number("/bytes/corrupt") > 0.0, "{:#}", played.report);
    // Bytes of a server are played as they come, so a picture may have been spoilt before the piece's hash was checked;
    // after that the server is not believed any more.
    let original = reference(&film);
    let true_ones = played.frames.iter().filter(|f| original.iter().any(|o| o.md5 == f.md5)).count();
    assert!(true_ones + 100 >= original.len(), "only {true_ones} of {} pictures are the film's", original.len());
    assert!(played.number("/bytes/corrupt") <= 20.0 * PIECE as f64, "{:#}", played.report);
}

#[test]
fn a_piece_whose_hash_never_checks_is_told_and_not_played() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    shelf.spoil();
    let web = Nginx::serve(shelf.dir.path(), None);
    let torrent = shelf.torrent.with_web_seeds(&[web.url("clip.mp4")]);
    let played = play(&torrent, &["--no-swarm", "--for", "8"]);
    assert_eq!(played.code, Some(0), "{}", played.said);
    assert!(played.number("/bytes/corrupt") > 0.0, "{:#}", played.report);
    // It is not fetched again and again.
    assert!(played.number("/bytes/server") < 3.0 * 4e6, "{:#}", played.report);
    assert_eq!(played.report["ended"], false, "{:#}", played.report);
}

#[test]
fn a_peer_that_sends_spoilt_pieces_shows_nothing_of_them() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    // All that comes until its first piece is hashed counts. Without a limit that is as much as loopback carries meanwhile; with
    // this, eight pieces take more than a second.
    let liar = Seed::start(&shelf.torrent, Some(200));
    shelf.spoil();
    let peer = liar.addr.to_string();
    let played = play(&shelf.torrent, &["--no-server", "--peer", &peer, "--for", "30"]);
    assert!(played.number("/bytes/corrupt") > 0.0, "{:#}\n{}", played.report, played.said);
    assert!(played.number("/bytes/corrupt") <= 8.0 * PIECE as f64, "it goes on asking the liar: {:#}", played.report);
    only_true_pictures(&played.frames, &film);
}

#[test]
fn an_honest_peer_beside_a_liar_carries_the_film() {
    let film = media::mp4();
    let (spoilt, good) = (Shelf::of(&film), Shelf::of(&film));
    // The liar checks the true bytes of the same torrent, then they change under it.
    let same = Torrent { content_dir: spoilt.dir.path().to_owned(), ..good.torrent.clone() };
    let liar = Seed::start(&same, None);
    spoilt.spoil();
    let honest = Seed::start(&good.torrent, None);
    let (a, b) = (liar.addr.to_string(), honest.addr.to_string());
    let played = play(&good.torrent, &["--no-server", "--peer", &a, "--peer", &b]).ok();
    assert_same(&played.frames, &reference(&film));
}
