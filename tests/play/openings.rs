//! What else can be opened: files on this machine, and addresses of torrents and of films.

use std::time::Duration;

use crate::Shelf;
use crate::support::frames::{assert_same, reference};
use crate::support::nginx::Nginx;
use crate::support::player::Home;
use crate::support::{huge, media, temp_dir, text};

const ALL: [&str; 3] = ["--no-clock", "--frames-md5", "frames.txt"];

#[test]
fn a_film_on_this_machine() {
    for film in [media::mp4(), media::mkv(), media::webm()] {
        let played = Home::new().play(film.clone(), ALL).ok();
        assert_same(&played.frames, &reference(&film));
    }
}

#[test]
fn a_file_url() {
    let film = media::mp4();
    let played = Home::new().play(format!("file://{}", text(&film)), ALL).ok();
    assert_same(&played.frames, &reference(&film));
}

#[test]
fn the_address_of_a_film() {
    let film = media::mp4_index_at_end();
    let web = Nginx::serve(film.parent().unwrap(), None);
    let played = Home::new().play(web.url("tail.mp4"), ALL).ok();
    assert_same(&played.frames, &reference(&film));
}

#[test]
fn the_address_of_a_torrent() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let films = Nginx::serve(film.parent().unwrap(), None);
    let seeded = shelf.torrent.with_web_seeds(&[films.url("clip.mp4")]);
    let torrents = Nginx::serve(shelf.dir.path(), None);
    let url = torrents.url(seeded.path.file_name().unwrap().to_str().unwrap());
    let played = Home::new().play(url, ALL.into_iter().chain(["--no-swarm"])).ok();
    assert_same(&played.frames, &reference(&film));
}

#[test]
fn the_demo_without_a_display() {
    let home = Home::new();
    let played = home.run(["demo", "--headless", "--for", "20", "--report", "report.json"]).ok();
    assert!(played.number("/played_s") > 6.0, "{:#}", played.report);
    assert!(played.number("/bytes/swarm") > 0.0, "{:#}", played.report);
    assert!(played.number("/stalled_s") < 1.0, "{:#}", played.report);
    // The window is asked for and there is none: it says so and plays all the same, until it is told to stop.
    // Behind an option of the network it is the demo as well.
    let told = home.run_beside(["--no-dht", "demo"], |player| {
        crate::support::wait_for("a word about the display", Duration::from_secs(60), || {
            (player.log().to_lowercase().contains("display") || !player.runs()).then_some(())
        });
        // Playing takes processor time; telling and leaving takes next to none.
        crate::support::wait_for("the demo to play", Duration::from_secs(60), || {
            (!player.runs() || player.cpu_seconds() > 0.8).then_some(())
        });
        player.signal(libc::SIGINT);
    });
    assert_eq!(told.code, Some(0), "{}", told.said);
    assert!(told.said.to_lowercase().contains("display"), "it should say that there is no display: {}", told.said);
}

#[test]
fn the_headless_player_stays_small_with_full_hd_from_ten_gigabytes() {
    let dir = temp_dir();
    let torrent = huge::torrent(&media::full_hd(), dir.path());
    let web = Nginx::serve(dir.path(), None);
    let torrent = torrent.with_web_seeds(&[web.url("")]);
    let played = Home::new().play(torrent.path, ["--for", "30"]).ok();
    assert!(played.number("/played_s") > 11.0, "{:#}", played.report);
    let peak = played.number("/rss_peak_bytes") / 1e6;
    assert!(peak <= 120.0, "{peak:.0} MB at most in memory");
    assert!(played.number("/cpu_s") > 0.0);
}
