//! A range of the server's against the peers' class on one line: how long it takes, and what comes of the peers before and after.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use sluicegate::engine::{Phase, Timeline};
use sluicegate::units::MediaTime;

use super::{Common, Session};

/// What is raced for.
#[derive(Args)]
pub struct Goal {
    /// Length of the film in seconds.
    #[arg(long)]
    duration: f64,
    /// The first byte that no peer has, and how many.
    #[arg(long)]
    at: u64,
    #[arg(long)]
    len: u64,
    /// Seconds for the peers to fill the line before, and to come back after.
    #[arg(long, default_value_t = 8.0)]
    before: f64,
    #[arg(long, default_value_t = 5.0)]
    after: f64,
}

/// Totals over time, as often as the stream tells them.
struct Log {
    start: Instant,
    /// Milliseconds since the start; bytes of peers and of servers so far; what peers are held to; requests in flight.
    rows: Vec<(u64, u64, u64, Option<u64>, u32)>,
}

impl Log {
    /// Notes what came for so long, or until `done`, while the clock stands at `at`.
    fn watch(&mut self, s: &Session, at: MediaTime, phase: Phase, seconds: f64, done: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until && !done() {
            s.stream.playhead(at, phase);
            std::thread::sleep(Duration::from_millis(25));
            let status = s.stream.status();
            if let Some(e) = &status.error {
                panic!("the stream broke: {e}");
            }
            let (t, e) = (status.engine.totals, &status.engine);
            if self.rows.last().is_none_or(|r| (r.1, r.2) != (t.swarm, t.server)) {
                let asked = e.links.iter().map(|l| l.in_flight).sum();
                self.rows.push((self.start.elapsed().as_millis() as u64, t.swarm, t.server, e.peer_budget, asked));
            }
        }
    }
}

/// Runs it; the last line says when the range was asked for and when it was here.
pub fn run(c: &Common, goal: &Goal) {
    let s = Session::start(c);
    let reader = s.reader();
    let len = reader.len();
    s.stream.timeline(Arc::new(Timeline::linear(MediaTime::from_secs_f64(goal.duration), len)));
    let mut log = Log { start: Instant::now(), rows: Vec::new() };
    log.watch(&s, MediaTime::ZERO, Phase::Paused, goal.before, || false);
    let links = s.stream.status().peers.len();
    let (asked, here) = (log.start.elapsed(), Arc::new(AtomicBool::new(false)));
    let at = MediaTime::from_secs_f64(goal.at as f64 / len as f64 * goal.duration);
    s.stream.playhead(at, Phase::Seeking);
    let (mut demux, flag) = (reader.reopen(), here.clone());
    let (from, mut left) = (goal.at, goal.len);
    let start = log.start;
    let reads = std::thread::spawn(move || {
        demux.seek(SeekFrom::Start(from)).unwrap();
        let mut buf = vec![0; 64 * 1024];
        while left > 0 {
            let most = buf.len().min(left as usize);
            let n = demux.read(&mut buf[..most]).unwrap();
            assert!(n > 0, "the film ended");
            left -= n as u64;
        }
        flag.store(true, Ordering::Release);
        start.elapsed()
    });
    // The clock stands as long as the picture waits: all of the range is due now.
    log.watch(&s, at, Phase::Seeking, c.limit, || here.load(Ordering::Acquire));
    assert!(here.load(Ordering::Acquire), "the range took longer than {} s", c.limit);
    let came = reads.join().unwrap();
    log.watch(&s, at, Phase::Paused, goal.after, || false);
    let more = json!({
        "took_s": (came - asked).as_secs_f64(), "asked_ms": asked.as_millis() as u64, "came_ms": came.as_millis() as u64,
        "links": links, "rows": log.rows,
    });
    drop(reader);
    s.end(start, more);
}
