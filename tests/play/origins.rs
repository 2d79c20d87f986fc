//! With origins that take bids: what they grant is what they send, one that dies is left, and what it owed comes of another.

use serde_json::Value;

use crate::Shelf;
use crate::support::frames::{assert_same, reference};
use crate::support::origin::{LIMIT, Origin};
use crate::support::player::Home;
use crate::support::seed::Seed;
use crate::support::{media, text, wait_for};

/// Bytes that were sent without a grant, and with one.
fn sent(o: &Origin) -> [f64; 2] {
    ["Leftover", "Granted"].map(|class| o.counts(&format!("sluicegate_sent_bytes_total{{class=\"{class}\"}}")))
}

#[test]
fn an_origin_sends_what_it_granted_and_not_a_byte_more() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    // Enough for the film, and little more: not every bid is granted whole.
    let origin = Origin::start(&[text(&film), "--capacity", "8 Mbit/s"]);
    let torrent = shelf.torrent.with_web_seeds(&[origin.url("clip.mp4")]);
    let played = Home::new().play(torrent.path, ["--no-swarm", "--no-clock", "--frames-md5", "frames.txt"]).ok();
    assert_same(&played.frames, &reference(&film));
    let [leftover, granted] = sent(&origin);
    let server = played.number("/bytes/server");
    // The first range is asked for before it is known that this server takes bids: then as much as is left over.
    assert!(leftover <= 262_146.0 && granted + leftover >= server, "{leftover} and {granted} for {server}");
    assert!(origin.counts("sluicegate_bids_total") >= 2.0);
    let bids = played.report["bids"].as_array().unwrap();
    let of = |b: &Value, what: &str| b[what].as_f64().unwrap();
    assert!(bids.iter().all(|b| of(b, "used_bits") <= of(b, "grant_bits")), "{bids:#?}");
}

#[test]
fn a_token_in_the_address_opens_files_and_bids() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let origin = Origin::start(&[text(&film), "--token", "open sesame"]);
    let url = origin.url("clip.mp4").replace("127.0.0.1", "me:open%20sesame@127.0.0.1");
    let played = Home::new().play(shelf.path(), ["--no-swarm", "--no-clock", "--web-seed", &url]).ok();
    assert!(played.number("/bytes/server") >= shelf.len() as f64 * 0.9);
    let granted = |b: &Value| b["grant_bits"].as_f64().unwrap() > 0.0;
    assert!(played.report["bids"].as_array().unwrap().iter().any(granted), "{:#}", played.report);
    assert!(!played.said.contains("sesame"), "{}", played.said);
}

#[test]
fn of_two_origins_one_dies_and_the_other_carries_on_without_a_stall() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let args = [text(&film), "--capacity", "16 Mbit/s"];
    let (first, second) = (Origin::start(&args), Origin::start(&args));
    let torrent = shelf.torrent.with_web_seeds(&[first.url("clip.mp4"), second.url("clip.mp4")]);
    let args = ["play", "--headless", text(&torrent.path), "--no-dht", "--no-portmap", "--no-swarm"];
    let played = Home::new()
        .run_beside([&args[..], &["--report", "report.json", "--for", "60"]].concat(), |_| {
            // Whichever is faster carries most of it: that one dies.
            let used = wait_for("bytes of one", LIMIT, || {
                [&first, &second].into_iter().find(|o| sent(o).iter().sum::<f64>() > 1e6)
            });
            used.guard.signal(libc::SIGKILL);
        })
        .ok();
    assert_eq!(played.report["stalls"], serde_json::json!([]), "{:#}", played.report);
    assert!(played.number("/played_s") > 29.5, "{:#}", played.report);
}

#[test]
fn an_origin_that_dies_beside_a_swarm_that_suffices_costs_no_stall() {
    let film = media::mp4();
    let shelf = Shelf::of(&film);
    let origin = Origin::start(&[text(&film), "--capacity", "16 Mbit/s"]);
    let torrent = shelf.torrent.with_web_seeds(&[origin.url("clip.mp4")]);
    let seed = Seed::start(&shelf.torrent, None);
    let peer = seed.addr.to_string();
    let args = ["play", "--headless", text(&torrent.path), "--no-dht", "--no-portmap", "--peer", &peer];
    let home = Home::new();
    let played = home
        .run_beside([&args[..], &["--report", "report.json", "--for", "60"]].concat(), |player| {
            // It dies once the swarm has taken over: Transmission lets nobody have anything for up to ten seconds.
            wait_for("the swarm", LIMIT, || {
                assert!(player.runs(), "it ended: {}", player.log());
                (seed.uploaded() > 500_000).then_some(())
            });
            origin.guard.signal(libc::SIGKILL);
        })
        .ok();
    assert_eq!(played.report["stalls"], serde_json::json!([]), "{:#}", played.report);
    assert!(played.number("/played_s") > 29.5 && played.number("/bytes/swarm") > 0.0, "{:#}", played.report);
}
