//! From a swarm: Transmission seeds, and nobody else is known.

use std::path::Path;

use crate::Shelf;
use crate::support::frames::{assert_same, index_at, reference, runs};
use crate::support::media;
use crate::support::player::{Home, Played};
use crate::support::seed::Seed;
use crate::support::torrent::Torrent;

fn play_all(uri: &str, seed: &Seed) -> Played {
    let peer = seed.addr.to_string();
    Home::new().play(uri, ["--no-clock", "--no-server", "--frames-md5", "frames.txt", "--peer", &peer]).ok()
}

fn plays_as_the_original(film: &Path) {
    let shelf = Shelf::of(film);
    let seed = Seed::start(&shelf.torrent, None);
    let played = play_all(shelf.path().to_str().unwrap(), &seed);
    assert_same(&played.frames, &reference(film));
    assert!(played.number("/bytes/swarm") >= shelf.len() as f64 * 0.9, "{:#}", played.report);
    assert_eq!(played.number("/bytes/server"), 0.0);
    assert_eq!(played.number("/bytes/corrupt"), 0.0);
    // Duplicate bytes stay under 3 % of what is received.
    let received = played.number("/bytes/swarm");
    assert!(played.number("/bytes/duplicate") <= 0.03 * received, "{:#}", played.report);
    assert_eq!(played.number("/frames/decoded") as usize, played.frames.len());
    let times = ["/metadata_s", "/first_byte_s", "/first_frame_s"].map(|p| played.number(p));
    assert!(times.is_sorted(), "metadata, first byte, first frame: {times:?}");
}

#[test]
fn an_mp4_with_its_index_in_front() {
    plays_as_the_original(&media::mp4());
}

#[test]
fn an_mp4_with_its_index_at_the_end() {
    plays_as_the_original(&media::mp4_index_at_end());
}

#[test]
fn a_matroska_with_b_frames() {
    plays_as_the_original(&media::mkv());
}

#[test]
fn a_webm() {
    plays_as_the_original(&media::webm());
}

#[test]
fn a_film_amid_a_folder() {
    let film = media::mp4();
    let shelf = Shelf::of_folder(&film);
    let seed = Seed::start(&shelf.torrent, None);
    let played = play_all(shelf.path().to_str().unwrap(), &seed);
    assert_same(&played.frames, &reference(&film));
}

#[test]
fn a_magnet_link_with_the_metadata_from_the_same_peer() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let seed = Seed::start(&shelf.torrent, None);
    let played = play_all(&shelf.torrent.magnet(), &seed);
    assert_same(&played.frames, &reference(&film));
    assert!(played.number("/metadata_s") > 0.0);
}

#[test]
fn a_bare_info_hash() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let seed = Seed::start(&shelf.torrent, None);
    let played = play_all(&shelf.torrent.info_hash, &seed);
    assert_same(&played.frames, &reference(&film));
}

/// A seek before the first picture: from its goal on, everything up to the end, exact to the frame.
fn seeks_to_the_frame(film: &Path) {
    let shelf = Shelf::of(film);
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let options = ["--no-clock", "--no-server", "--frames-md5", "frames.txt", "--peer", &peer, "--seek", "60%@0"];
    let played = Home::new().play(shelf.path(), options).ok();
    let original = reference(film);
    let shown = runs(&played.frames, &original);
    let last = shown.last().unwrap().clone();
    // 60 % of the longest stream, which may be the sound: a frame or two beside 60 % of the picture.
    let goal = index_at(&original, 18.0);
    assert!(last.start.abs_diff(goal) <= 2, "sought to frame {goal}, play went on at {}: {shown:?}", last.start);
    assert_eq!(last.end, original.len(), "{shown:?}");
    assert!(shown.len() <= 2 && (shown.len() == 1 || shown[0].start == 0), "{shown:?}");
    assert_eq!(played.report["seeks"].as_array().unwrap().len(), 1, "{:#}", played.report);
    assert!((played.number("/seeks/0/to_s") - 18.0).abs() < 0.1);
    assert!(played.number("/seeks/0/first_frame_s") >= 0.0);
}

#[test]
fn a_seek_in_an_mp4_is_exact() {
    seeks_to_the_frame(&media::mp4());
}

#[test]
fn a_seek_in_an_mp4_with_its_index_at_the_end_is_exact() {
    seeks_to_the_frame(&media::mp4_index_at_end());
}

#[test]
fn a_seek_in_a_matroska_is_exact() {
    seeks_to_the_frame(&media::mkv());
}

#[test]
fn seeks_forth_and_back_while_it_plays_on_the_clock() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let options = ["--no-server", "--frames-md5", "frames.txt", "--peer", &peer];
    let seeks = ["--seek", "20@24", "--seek", "0:04@28", "--for", "34"];
    let played = Home::new().play(shelf.path(), options.into_iter().chain(seeks)).ok();
    let original = reference(&film);
    let shown = runs(&played.frames, &original);
    let starts: Vec<f64> = shown.iter().map(|r| original[r.start].at).collect();
    assert_eq!(starts.len(), 3, "{shown:?}\n{:#}", played.report);
    for (start, goal) in starts.iter().zip([0.0, 20.0, 4.0]) {
        assert!((start - goal).abs() <= 0.081, "sought to {goal} s, play went on at {start} s");
    }
    assert_eq!(played.report["seeks"].as_array().unwrap().len(), 2);
}

#[test]
fn the_swarm_alone_plays_without_a_stall() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let played = Home::new().play(shelf.path(), ["--no-server", "--peer", &peer, "--for", "40"]).ok();
    assert_eq!(played.report["stalls"], serde_json::json!([]), "{:#}", played.report);
    assert_eq!(played.number("/bytes/server"), 0.0);
    // Transmission may keep a new peer choked for ten seconds and more; of what is left most must have been played.
    assert!(played.number("/played_s") > 5.0, "{:#}", played.report);
    let presented = played.number("/frames/presented");
    assert!(presented >= played.number("/played_s") * 25.0 * 0.8, "{:#}", played.report);
    let peers = played.report["peers"].as_array().unwrap();
    assert!(peers.iter().any(|p| p.to_string().contains("Transmission")), "{:#}", played.report);
}

#[test]
fn a_second_play_needs_nobody() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let home = Home::new();
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let all = ["--no-clock", "--no-server", "--frames-md5", "frames.txt", "--cache", "kept"];
    home.play(shelf.path(), all.into_iter().chain(["--peer", &peer])).ok();
    drop(seed);
    let again = home.play(shelf.path(), all.into_iter().chain(["--no-swarm"])).ok();
    assert_same(&again.frames, &reference(&film));
    assert_eq!(again.number("/bytes/swarm"), 0.0, "it was all on disk: {:#}", again.report);
}

#[test]
fn two_seeds_share_the_work_and_one_may_leave() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let (stays, leaves) = (Seed::start(&shelf.torrent, Some(400)), Seed::start(&shelf.torrent, Some(400)));
    let home = Home::new();
    let (a, b) = (stays.addr.to_string(), leaves.addr.to_string());
    let args = ["play", "--headless", shelf.torrent.path.to_str().unwrap(), "--no-dht", "--no-server", "--no-clock"];
    let rest = ["--peer", &a, "--peer", &b, "--report", "report.json", "--frames-md5", "frames.txt"];
    let played = home.run_beside(args.into_iter().chain(rest), |player| {
        // Once both have given something, one goes.
        crate::support::wait_for("bytes from the one that leaves", std::time::Duration::from_secs(60), || {
            (leaves.uploaded() > 0 || !player.runs()).then_some(())
        });
        drop(leaves);
    });
    assert_same(&played.ok().frames, &reference(&film));
}

#[test]
fn with_neither_peer_nor_server_it_says_what_it_looked_for() {
    let shelf = Shelf::of(&media::mp4());
    let played = Home::new().play(shelf.path(), ["--no-server", "--for", "3"]).ok();
    assert!(played.said.contains("peer"), "it should say that it looks for peers: {:?}", played.said);
    assert!(played.report["first_frame_s"].is_null(), "{:#}", played.report);
    assert_eq!(played.number("/bytes/swarm"), 0.0);
}

#[test]
fn the_torrent_is_described() {
    let shelf = Shelf::of_folder(&media::mp4());
    let told = Home::new().run(["info".as_ref(), shelf.torrent.path.as_os_str(), "--json".as_ref()]).ok();
    let json: serde_json::Value = serde_json::from_str(&told.said).unwrap();
    let all = json.to_string();
    for part in [shelf.torrent.info_hash.as_str(), "A film, with things", "film & more.mp4", "zz cover.jpg"] {
        assert!(all.contains(part), "{part} is not in {json:#}");
    }
    let plain = Home::new().run(["info".as_ref(), shelf.torrent.path.as_os_str()]).ok();
    assert!(
        plain.said.contains("A film, with things") && plain.said.contains(&shelf.torrent.info_hash),
        "{}",
        plain.said
    );
    let other: &Torrent = &shelf.torrent;
    let magnet = Home::new().run(["info", &other.magnet()]).ok();
    assert!(magnet.said.contains(&other.info_hash), "{}", magnet.said);
}
