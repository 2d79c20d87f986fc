//! Cut dead in the middle of a play: the swarm beside a server that suffices, the server beside a swarm that suffices; ended
//! from one instant to the next, or silent with its connections open. None of it costs a stall or a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::units::PieceIndex;
use tokio::sync::watch::channel as watch;
use tokio::time::sleep;

use crate::support::frames::{assert_same, parse, reference};
use crate::support::nginx::Nginx;
use crate::support::peer::{Content, Peer};
use crate::support::player::{Home, Played};
use crate::support::process::Guard;
use crate::support::torrent::Torrent;
use crate::support::{TempDir, media, temp_dir, text, wait_for};

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

/// Pieces of eight blocks: at any moment some of them are half here.
const PIECE_KIB: u32 = 128;
const BLOCK: u64 = 16 * 1024;

/// Seconds that the film lasts.
const LASTS: u64 = 30;

const PEERS: u16 = 4;

/// Tells this binary, run again, to be the swarm of that job.
const JOB: &str = "SLUICEGATE_TEST_SWARM";

struct Shelf {
    torrent: Torrent,
    _dir: TempDir,
}

impl Shelf {
    fn new() -> Shelf {
        let dir = temp_dir();
        let torrent = Torrent::of(&media::mp4(), dir.path(), PIECE_KIB);
        Shelf { torrent, _dir: dir }
    }

    /// Bytes of the film.
    fn len(&self) -> u64 {
        std::fs::metadata(media::mp4()).unwrap().len()
    }

    /// Between two blocks of each of the peers, when all of them together give this many times the film's rate.
    fn pace(&self, times: f64) -> Duration {
        Duration::from_secs_f64(BLOCK as f64 * f64::from(PEERS) / (times * self.len() as f64 / LASTS as f64))
    }

    /// Plays it on the clock, far beyond what can have been here when something was cut.
    fn play(&self, torrent: &Torrent, peers: &[String], meanwhile: impl FnOnce(&mut Guard, &Path)) -> Played {
        let home = Home::new();
        let frames = home.dir.path().join("frames.txt");
        let mut args =
            ["play", "--headless", text(&torrent.path), "--no-dht", "--no-portmap"].map(String::from).to_vec();
        args.extend(["--report", "report.json", "--frames-md5", "frames.txt", "--for", "24"].map(String::from));
        args.extend(peers.iter().flat_map(|p| ["--peer".to_owned(), p.clone()]));
        let played = home.run_beside(args, |player| meanwhile(player, &frames)).ok();
        assert_eq!(played.report["stalls"], json!([]), "{:#}", played.report);
        assert_same(&played.frames, &reference(&media::mp4())[..played.frames.len()]);
        assert!(played.number("/played_s") > 8.0, "{:#}", played.report);
        assert_eq!(played.number("/bytes/corrupt"), 0.0);
        played
    }
}

/// Pictures shown so far. The line that is being written counts for nothing.
fn shown(frames: &Path) -> usize {
    let said = std::fs::read_to_string(frames).unwrap_or_default();
    said.rfind('\n').map_or(0, |end| parse(&said[..end]).len())
}

/// What some peers of one process gave so far.
#[derive(Debug, Default)]
struct Given {
    blocks: u64,
    /// Pieces of which they gave a part.
    begun: u64,
}

/// Peers that all live and die with one process.
struct Swarm {
    guard: Guard,
    peers: Vec<String>,
    _dir: TempDir,
}

impl Swarm {
    fn start(torrent: &Torrent, pace: Duration) -> Swarm {
        let dir = temp_dir();
        let of = [text(&torrent.path), &torrent.info_hash, text(&torrent.content_dir), &torrent.name];
        let job = json!({"torrent": of, "pace_us": pace.as_micros() as u64});
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "cut::the_swarm_as_a_process", "--nocapture"]).env(JOB, job.to_string());
        let mut guard = Guard::spawn(&mut command, Some(&dir.path().join("log")));
        let peers = wait_for("the swarm's process", LIMIT, || {
            assert!(guard.runs(), "it ended: {}", guard.log());
            let log = guard.log();
            let line = log.lines().find_map(|l| l.split_once("peers at ")?.1.strip_suffix(';').map(str::to_owned))?;
            Some(line.split(' ').map(str::to_owned).collect())
        });
        Swarm { guard, peers, _dir: dir }
    }

    fn given(&self) -> Given {
        let log = self.guard.log();
        let last = log.lines().rev().find_map(|l| l.strip_prefix("gave ")?.strip_suffix(';')?.split_once(' '));
        last.map_or(Given::default(), |(blocks, begun)| Given {
            blocks: blocks.parse().unwrap(),
            begun: begun.parse().unwrap(),
        })
    }
}

/// Not a test of anything: the swarm that others start, as a process to be ended from outside.
#[test]
fn the_swarm_as_a_process() {
    let Ok(job) = std::env::var(JOB) else { return };
    let job: Value = serde_json::from_str(&job).unwrap();
    let part = |i: usize| job["torrent"][i].as_str().unwrap().to_owned();
    let torrent = Torrent { path: part(0).into(), info_hash: part(1), content_dir: part(2).into(), name: part(3) };
    let (content, pace) = (Content::of(&torrent), Duration::from_micros(job["pace_us"].as_u64().unwrap()));
    let blocks_of = |piece: u32| content.meta.layout.piece_range(PieceIndex(piece)).len().div_ceil(BLOCK);
    let given: Arc<Mutex<BTreeMap<u32, BTreeSet<u32>>>> = Arc::default();
    let counted = given.clone();
    let (_peers, addrs) = Peer::crowd(PEERS, &content, move |mut link| {
        let given = counted.clone();
        async move {
            link.open().await?;
            link.serve(pace, |w, _| {
                given.lock().unwrap().entry(w.piece).or_default().insert(w.begin);
            })
            .await
        }
    });
    let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    println!("peers at {};", addrs.join(" "));
    let mut said = 0;
    // Whoever started it ends it. Should that one be gone, it ends of itself.
    for _ in 0..60_000 {
        let given = given.lock().unwrap();
        let blocks: usize = given.values().map(|b| b.len()).sum();
        let begun = given.iter().filter(|(piece, b)| b.len() < blocks_of(**piece) as usize).count();
        drop(given);
        if blocks != said {
            said = blocks;
            println!("gave {blocks} {begun};");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The swarm carries the film until it is hit by `signal`; the server has the rest.
fn the_swarm_goes(signal: i32) {
    let shelf = Shelf::new();
    let film = media::mp4();
    let web = Nginx::serve(film.parent().unwrap(), Some((shelf.len() * 2 / LASTS) as u32));
    let torrent = shelf.torrent.with_web_seeds(&[web.url("clip.mp4")]);
    let swarm = Swarm::start(&shelf.torrent, shelf.pace(1.5));
    let blocks = shelf.len() / BLOCK;
    let mut cut = Given::default();
    let played = shelf.play(&torrent, &swarm.peers, |player, frames| {
        // After two seconds of film, some pieces half here.
        cut = wait_for("the swarm to carry it", LIMIT, || {
            assert!(player.runs(), "it ended: {}", player.log());
            let given = swarm.given();
            (shown(frames) >= 50 && given.blocks > blocks / 10 && given.begun > 0).then_some(given)
        });
        swarm.guard.signal(signal);
    });
    // A process that stands still hears nothing else.
    swarm.guard.signal(libc::SIGKILL);
    assert!(cut.blocks < blocks, "the swarm had given all of it: {cut:?}");
    carried_by_both(&played);
}

/// Both had their part in it.
fn carried_by_both(played: &Played) {
    let [swarm, server] = ["/bytes/swarm", "/bytes/server"].map(|from| played.number(from));
    assert!(swarm > 0.0 && server > 0.0, "swarm {swarm}, server {server}");
}

#[test]
fn a_swarm_that_is_killed_beside_a_server_that_suffices_costs_no_stall() {
    the_swarm_goes(libc::SIGKILL);
}

#[test]
fn a_swarm_that_falls_silent_beside_a_server_that_suffices_costs_no_stall() {
    the_swarm_goes(libc::SIGSTOP);
}

/// The swarm is short of the film's rate, and the server makes up for it until it is hit by `signal` in the middle of an answer;
/// from then on the swarm suffices.
fn the_server_goes(signal: i32) {
    let shelf = Shelf::new();
    let film = media::mp4();
    let rate = shelf.len() as f64 / LASTS as f64;
    let web = Nginx::serve(film.parent().unwrap(), Some((rate * 0.8) as u32));
    let torrent = shelf.torrent.with_web_seeds(&[web.url("clip.mp4")]);
    let content = Content::of(&shelf.torrent);
    let (pace, paces) = watch(shelf.pace(0.6));
    let (_peers, addrs) = Peer::crowd(PEERS, &content, move |mut link| {
        let paces = paces.clone();
        async move {
            link.open().await?;
            loop {
                let wanted = link.wanted().await?;
                let block = link.content.block(wanted);
                link.send_block(wanted, &block).await?;
                let pace = *paces.borrow();
                sleep(pace).await;
            }
        }
    });
    let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    let played = shelf.play(&torrent, &addrs, |player, frames| {
        wait_for("an answer of the server in mid-play", LIMIT, || {
            assert!(player.runs(), "it ended: {}", player.log());
            (shown(frames) >= 75 && web.answering() > 0).then_some(())
        });
        web.signal(signal);
        pace.send_replace(shelf.pace(2.0));
    });
    // A process that stands still hears nothing else.
    web.signal(libc::SIGKILL);
    carried_by_both(&played);
}

#[test]
fn a_server_that_is_killed_beside_a_swarm_that_suffices_costs_no_stall() {
    the_server_goes(libc::SIGKILL);
}

#[test]
fn a_server_that_falls_silent_beside_a_swarm_that_suffices_costs_no_stall() {
    the_server_goes(libc::SIGSTOP);
}
