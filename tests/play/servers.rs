//! With a web server: alone, beside a swarm, and where it does not do what it should.

use crate::Shelf;
use crate::support::frames::{assert_same, index_at, reference, runs};
use crate::support::media;
use crate::support::nginx::Nginx;
use crate::support::player::Home;
use crate::support::seed::Seed;

fn whole<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["--no-clock", "--frames-md5", "frames.txt"].iter().chain(more).copied().collect()
}

/// Bytes per second of a server that cannot carry a film alone before Transmission lets a new peer have anything, which
/// takes it up to ten seconds.
const SLOW: u32 = 60 * 1024;

#[test]
fn half_from_the_swarm_and_half_from_a_web_seed() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let web = Nginx::serve(film.parent().unwrap(), Some(SLOW));
    let torrent = shelf.torrent.with_web_seeds(&[web.url("clip.mp4")]);
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let played = Home::new().play(torrent.path, whole(&["--peer", &peer])).ok();
    assert_same(&played.frames, &reference(&film));
    let (swarm, server) = (played.number("/bytes/swarm"), played.number("/bytes/server"));
    let least = shelf.len() as f64 * 0.1;
    assert!(swarm > least && server > least, "swarm {swarm}, server {server}");
    // It was asked once whether it takes bids.
    let log = web.access_log();
    let fine = |l: &&String| [" 206 ", "HEAD", " 200 "].iter().any(|part| l.contains(part));
    let other: Vec<&String> = log.iter().filter(|l| !fine(l)).collect();
    assert!(other.len() <= 1 && other.iter().all(|l| l.contains("POST /v1/bids")), "{other:?}");
}

#[test]
fn half_and_half_after_a_seek_with_the_index_at_the_end() {
    let film = media::mp4_index_at_end();
    let shelf = Shelf::of(&film);
    let web = Nginx::serve(film.parent().unwrap(), Some(SLOW));
    let torrent = shelf.torrent.with_web_seeds(&[web.url("tail.mp4")]);
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let played = Home::new().play(torrent.path, whole(&["--peer", &peer, "--seek", "50%@0"])).ok();
    let original = reference(&film);
    let shown = runs(&played.frames, &original);
    let last = shown.last().unwrap();
    assert!(last.start.abs_diff(index_at(&original, 15.0)) <= 2 && last.end == original.len(), "{shown:?}");
}

#[test]
fn a_web_seed_alone_plays_to_the_end_without_a_stall_at_twice_the_bitrate() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    // The film lasts 30 s.
    let web = Nginx::serve(film.parent().unwrap(), Some((shelf.len() * 2 / 30) as u32));
    let torrent = shelf.torrent.with_web_seeds(&[web.url("clip.mp4")]);
    let played = Home::new().play(torrent.path, ["--no-swarm", "--for", "60"]).ok();
    assert_eq!(played.report["stalls"], serde_json::json!([]), "{:#}", played.report);
    assert!(played.number("/played_s") > 29.5, "{:#}", played.report);
    assert_eq!(played.number("/bytes/swarm"), 0.0);
}

#[test]
fn a_web_seed_of_a_folder_with_blanks_in_its_names() {
    let film = media::mp4();
    let shelf = Shelf::of_folder(&film);
    let web = Nginx::serve(shelf.dir.path(), None);
    // BEP 19: a URL that ends in a slash is where the torrent's folder lies.
    let torrent = shelf.torrent.with_web_seeds(&[web.url("")]);
    let played = Home::new().play(torrent.path, whole(&["--no-swarm"])).ok();
    assert_same(&played.frames, &reference(&film));
}

#[test]
fn a_web_seed_of_the_command_line() {
    let film = media::mkv();
    let shelf = Shelf::of(&film);
    let web = Nginx::serve(film.parent().unwrap(), None);
    let url = web.url("clip.mkv");
    let played = Home::new().play(shelf.path(), whole(&["--no-swarm", "--web-seed", &url])).ok();
    assert_same(&played.frames, &reference(&film));
    assert!(played.report["bids"].as_array().is_some_and(|b| !b.is_empty()), "{:#}", played.report);
}

#[test]
fn a_magnet_link_with_a_web_seed_takes_its_metadata_from_the_peer() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let web = Nginx::serve(film.parent().unwrap(), None);
    let seed = Seed::start(&shelf.torrent, Some(50));
    let (peer, magnet) = (seed.addr.to_string(), format!("{}&ws={}", shelf.torrent.magnet(), web.url("clip.mp4")));
    let played = Home::new().play(magnet, whole(&["--peer", &peer])).ok();
    assert_same(&played.frames, &reference(&film));
    assert!(played.number("/bytes/server") > 0.0);
}

/// Each of these is no use as a server; the swarm carries the film all the same.
fn is_left_alone(path: &str) {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let web = Nginx::serve(film.parent().unwrap(), None);
    let torrent = shelf.torrent.with_web_seeds(&[web.url(path)]);
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let played = Home::new().play(torrent.path, whole(&["--peer", &peer])).ok();
    assert_same(&played.frames, &reference(&film));
    assert_eq!(played.number("/bytes/corrupt"), 0.0);
    let asked = web.access_log().len();
    assert!(asked <= 40, "it was asked {asked} times although it is of no use");
}

#[test]
fn a_server_that_ignores_ranges_is_left_alone() {
    is_left_alone("no-range/clip.mp4");
}

#[test]
fn a_server_that_redirects_in_circles_is_left_alone() {
    is_left_alone("circle/clip.mp4");
}

#[test]
fn a_server_that_turns_to_html_is_left_alone() {
    is_left_alone("html/clip.mp4");
}

#[test]
fn a_server_that_only_fails_is_left_alone() {
    is_left_alone("broken/clip.mp4");
}

#[test]
fn a_server_with_a_file_of_another_length_is_left_alone() {
    media::mkv();
    is_left_alone("clip.mkv");
}

#[test]
fn a_server_that_is_not_there_is_left_alone() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let torrent = shelf.torrent.with_web_seeds(&[format!("http://127.0.0.1:{}/x", crate::support::free_port())]);
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let played = Home::new().play(torrent.path, whole(&["--peer", &peer])).ok();
    assert_same(&played.frames, &reference(&film));
}
