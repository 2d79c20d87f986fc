//! The player's whole way of a block without its decoder, as one process to be measured: sockets, engine, store, reader.
//!
//! `transfer fetch` downloads a torrent from given peers, `transfer play` reads it at a film's pace as a demuxer would, with
//! jumps if asked for, `transfer race` measures what priority gains a server, and `transfer seed` serves a torrent that lies on disk. Each ends with one line of JSON on
//! standard output. `throughput.py`, `soak.py` and `priority.py` beside this file run them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod race;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use serde_json::json;
use sluicegate::app::process::usage;
use sluicegate::engine::{Phase, Timeline};
use sluicegate::stream::reader::Reader;
use sluicegate::stream::{Stream, StreamConfig, StreamSource};
use sluicegate::swarm::api::{Encryption, Network};
use sluicegate::torrent::Metainfo;
use sluicegate::units::MediaTime;

/// How often the player tells where its clock is.
const PLAYHEAD_EVERY: Duration = Duration::from_millis(100);
/// How often a download is looked at: as often as the program it is compared with.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How far ahead of its clock a demuxer's queues reach.
const DEMUX_AHEAD_S: f64 = 4.0;

#[derive(Parser)]
#[command(about = "Transfers a torrent without decoding it, and says what that took")]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Download all of it as fast as it comes.
    Fetch(Common),
    /// Read it at a film's pace.
    Play {
        #[command(flatten)]
        common: Common,
        /// Length of the film in seconds.
        #[arg(long, default_value_t = 600.0)]
        duration: f64,
        /// Leave off after this many seconds.
        #[arg(long = "for", default_value_t = 20.0)]
        for_s: f64,
        /// Jump somewhere else this often, in seconds.
        #[arg(long)]
        seek_every: Option<f64>,
    },
    /// Let the peers fill the line, then jump to where only the server has the bytes, and say what came when.
    Race {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        goal: race::Goal,
    },
    /// Serve what lies in the cache folder, until standard input ends.
    Seed(Common),
}

#[derive(Args)]
struct Common {
    torrent: PathBuf,
    /// The cache folder.
    #[arg(long)]
    cache: PathBuf,
    /// Peers to dial.
    #[arg(long)]
    peer: Vec<SocketAddr>,
    /// Where to listen.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// A web seed.
    #[arg(long)]
    web: Option<String>,
    /// Links over uTP as well.
    #[arg(long)]
    utp: bool,
    /// Peers are not held back for the server's bytes.
    #[arg(long)]
    no_priority: bool,
    /// Give up after this many seconds.
    #[arg(long, default_value_t = 600.0)]
    limit: f64,
}

fn main() {
    let cli = Cli::parse();
    match cli.what {
        Some(What::Fetch(c)) => fetch(&c),
        Some(What::Play { common, duration, for_s, seek_every }) => play(&common, duration, for_s, seek_every),
        Some(What::Race { common, goal }) => race::run(&common, &goal),
        Some(What::Seed(c)) => seed(&c),
        // Run along with all other benches it has nothing to transfer.
        None if cli.bench => {}
        None => eprintln!("Say what to do: fetch, play, race or seed. tests/bench/README.md shows how."),
    }
}

/// A stream and the runtime it lives on, made as the player makes them.
struct Session {
    rt: tokio::runtime::Runtime,
    stream: Stream,
    meta: Arc<Metainfo>,
    /// Processor time that loading the program took: no part of what a byte costs.
    loaded: Duration,
}

impl Session {
    fn start(c: &Common) -> Session {
        let loaded = usage().cpu;
        let meta = Arc::new(Metainfo::parse(&std::fs::read(&c.torrent).unwrap()).unwrap());
        let rt = sluicegate::app::net::runtime().unwrap();
        let config = StreamConfig {
            cache_dir: c.cache.clone(),
            listen: c.listen,
            dht: false,
            lsd: false,
            pex: false,
            peers: c.peer.clone(),
            web_seeds: c.web.iter().cloned().collect(),
            use_server: c.web.is_some(),
            use_swarm: true,
            max_links: 60,
            // As the other side of each comparison is set.
            encryption: Encryption::Off,
            utp: c.utp,
            up_limit: None,
            down_limit: None,
            priority: !c.no_priority,
            network: Network::default(),
        };
        let source = StreamSource::Torrent(meta.clone());
        let stream = Stream::start(rt.handle(), source, config, Arc::new(|| {})).unwrap();
        let session = Session { rt, stream, meta, loaded };
        session.wait(Duration::from_secs(30), "the store", || session.stream.metainfo().is_some());
        session
    }

    /// The largest file.
    fn reader(&self) -> Reader {
        let largest = self.meta.files.iter().enumerate().max_by_key(|(_, f)| f.range.len()).unwrap().0;
        self.stream.open_file(largest).unwrap()
    }

    fn wait(&self, limit: Duration, what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        // A clock that stands: nothing is pressing, all of the film is worth having.
        self.stream.playhead(MediaTime::ZERO, Phase::Paused);
        while !done() {
            if let Some(e) = &self.stream.status().error {
                panic!("{what}: {e}");
            }
            let here = self.pieces_here();
            assert!(start.elapsed() < limit, "{what} took longer than {} s; {here} pieces are here", limit.as_secs());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn pieces_here(&self) -> u32 {
        self.stream.status().engine.pieces_here
    }

    /// Stops all, and says what it took.
    fn end(self, start: Instant, more: serde_json::Value) {
        let totals = self.stream.status().engine.totals;
        let wall = start.elapsed();
        self.stream.stop();
        drop(self.rt);
        let used = usage();
        let cpu = used.cpu.saturating_sub(self.loaded).as_secs_f64();
        let mb = (totals.swarm + totals.uploaded) as f64 / 1e6;
        let mut line = json!({
            "wall_s": wall.as_secs_f64(), "cpu_s": cpu, "mb": mb, "mb_per_cpu_s": mb / cpu, "mb_per_s": mb / wall.as_secs_f64(),
            "received": totals.swarm, "sent": totals.uploaded, "duplicate": totals.duplicate, "corrupt": totals.corrupt,
            "rss_peak_mb": used.rss_peak as f64 / 1e6,
        });
        if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
            line.extend(more.clone());
        }
        println!("{line}");
    }
}

fn fetch(c: &Common) {
    let start = Instant::now();
    let s = Session::start(c);
    let reader = s.reader();
    s.stream.timeline(Arc::new(Timeline::linear(MediaTime::from_secs_f64(600.0), reader.len())));
    let all = s.meta.layout.piece_count();
    s.wait(Duration::from_secs_f64(c.limit), "the download", || s.pieces_here() == all);
    drop(reader);
    s.end(start, json!({}));
}

/// What the thread that reads and the one that keeps the clock share.
#[derive(Default)]
struct Clock {
    /// Microseconds of media.
    at: AtomicU64,
    ended: AtomicBool,
    read: AtomicU64,
}

fn play(c: &Common, duration: f64, for_s: f64, seek_every: Option<f64>) {
    let start = Instant::now();
    let s = Session::start(c);
    let reader = s.reader();
    let len = reader.len();
    s.stream.timeline(Arc::new(Timeline::linear(MediaTime::from_secs_f64(duration), len)));
    let clock = Arc::new(Clock::default());
    let (mut stalled, mut seeks, mut media, mut jumps) = (0.0, 0, 0.0f64, 0x2545_f491_4f6c_dd1du64);
    let mut first_frame = None;
    let (mut phase, mut last) = (Phase::Opening, Instant::now());
    let mut jumped = Instant::now();
    let mut demux = Demux::start(reader.reopen(), clock.clone(), 0.0, duration);
    while start.elapsed().as_secs_f64() < for_s && media < duration {
        s.stream.playhead(MediaTime::from_secs_f64(media), phase);
        std::thread::sleep(PLAYHEAD_EVERY);
        let dt = std::mem::replace(&mut last, Instant::now()).elapsed().as_secs_f64();
        let there = clock.read.load(Ordering::Acquire) as f64 / len as f64 * duration - media;
        match phase {
            Phase::Playing if there <= 0.0 => phase = Phase::Stalled,
            Phase::Playing => media += dt,
            _ if s.stream.gate_open() && there > 0.0 => {
                first_frame.get_or_insert(start.elapsed().as_secs_f64());
                phase = Phase::Playing;
            }
            Phase::Stalled => stalled += dt,
            _ => {}
        }
        clock.at.store((media * 1e6) as u64, Ordering::Release);
        if seek_every.is_some_and(|e| jumped.elapsed().as_secs_f64() > e) {
            // xorshift: the same jumps in each run.
            jumps ^= jumps << 13;
            jumps ^= jumps >> 7;
            jumps ^= jumps << 17;
            // Never so near the end that the film is over before the next jump.
            media = (jumps % 900) as f64 / 1000.0 * duration;
            (jumped, phase, seeks) = (Instant::now(), Phase::Seeking, seeks + 1);
            demux.stop(&clock);
            clock.at.store((media * 1e6) as u64, Ordering::Release);
            s.stream.playhead(MediaTime::from_secs_f64(media), phase);
            demux = Demux::start(reader.reopen(), clock.clone(), media, duration);
        }
    }
    demux.stop(&clock);
    s.end(start, json!({ "start_s": first_frame, "stalled_s": stalled, "seeks": seeks, "played_s": media }));
}

/// Reads in order, a little ahead of the clock.
struct Demux {
    thread: std::thread::JoinHandle<()>,
    cancel: sluicegate::stream::reader::Cancel,
}

impl Demux {
    fn start(mut reader: Reader, clock: Arc<Clock>, from_s: f64, duration: f64) -> Demux {
        let cancel = reader.cancel();
        clock.ended.store(false, Ordering::Release);
        let len = reader.len();
        let mut at = (len as f64 * from_s / duration) as u64;
        clock.read.store(at, Ordering::Release);
        let thread = std::thread::spawn(move || {
            let mut buf = vec![0; 64 * 1024];
            reader.seek(SeekFrom::Start(at)).unwrap();
            while !clock.ended.load(Ordering::Acquire) {
                let ahead = at as f64 / len as f64 * duration - clock.at.load(Ordering::Acquire) as f64 / 1e6;
                if ahead > DEMUX_AHEAD_S {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
                match reader.read(&mut buf) {
                    Ok(0) | Err(_) => return,
                    Ok(n) => at += n as u64,
                }
                clock.read.store(at, Ordering::Release);
            }
        });
        Demux { thread, cancel }
    }

    fn stop(self, clock: &Clock) {
        clock.ended.store(true, Ordering::Release);
        self.cancel.set();
        self.thread.join().unwrap();
    }
}

fn seed(c: &Common) {
    let s = Session::start(c);
    let all = s.meta.layout.piece_count();
    s.wait(Duration::from_secs_f64(c.limit), "checking what lies there", || s.pieces_here() == all);
    let _reader = s.reader();
    let (before, start) = (usage().cpu, Instant::now());
    println!("{}", json!({ "ready": true }));
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    let cpu = usage().cpu.saturating_sub(before).as_secs_f64();
    let sent = s.stream.status().engine.totals.uploaded;
    s.end(start, json!({ "cpu_s": cpu, "mb_per_cpu_s": sent as f64 / 1e6 / cpu }));
}
