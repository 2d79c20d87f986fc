//! What a decision costs with 20,000 pieces and 200 links: the engine alone, fed as the driver feeds it.
//!
//! The network around it is the simplest there is: each request is answered in the order it was made, at 25 MB/s over
//! all links together, and each complete piece checks. Only the calls into the engine count, by the thread's own clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use sluicegate::engine::{Action, Config, Engine, Event, Phase, Timeline};
use sluicegate::units::{BLOCK_LEN, BlockRef, ByteRange, Instant, Layout, LinkId, MediaTime, PieceIndex, PieceSet};

/// Processor time of this thread: what else runs on the machine does not count.
fn cpu() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec for the call to fill.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) }, 0);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

const PIECES: u32 = 20_000;
const LINKS: u32 = 200;
const PIECE_LEN: u32 = 256 * 1024;
/// Two hours.
const FILM_S: f64 = 7200.0;
/// Seconds between two blocks: 200 links of 1 Mbit/s each.
const BLOCK_S: f64 = BLOCK_LEN as f64 / 25e6;

/// What a request may cost on average, and a Have (design limits of the engine).
const PICK_LIMIT: Duration = Duration::from_micros(2);
const HAVE_LIMIT: Duration = Duration::from_micros(1);

struct World {
    engine: Engine,
    asked: VecDeque<(LinkId, BlockRef)>,
    actions: Vec<Action>,
    now_s: f64,
    media_s: f64,
    spent: Duration,
    requests: u64,
    rnd: u64,
}

impl World {
    /// A viewer in the midst of a film; each peer has about `share` of the pieces.
    fn new(share: f64) -> World {
        let layout = Layout::new(u64::from(PIECES) * u64::from(PIECE_LEN), PIECE_LEN).unwrap();
        let mut w = World {
            engine: Engine::new(layout, PieceSet::new(PIECES), 42, Config::default()),
            asked: VecDeque::new(),
            actions: Vec::new(),
            now_s: 0.0,
            media_s: 600.0,
            spent: Duration::ZERO,
            requests: 0,
            rnd: 0x9e37_79b9_7f4a_7c15,
        };
        let file = ByteRange::new(0, layout.total_len());
        let mut events = vec![
            Event::FileChosen { range: file },
            Event::Timeline(Arc::new(Timeline::linear(MediaTime::from_secs_f64(FILM_S), file.len()))),
            w.playhead(),
        ];
        for link in (0..LINKS).map(LinkId) {
            let mut pieces = PieceSet::new(PIECES);
            for p in (0..PIECES).map(PieceIndex) {
                if w.chance(share) {
                    pieces.insert(p);
                }
            }
            events.push(Event::LinkUp { link, rtt: Some(Duration::from_millis(40)) });
            events.push(Event::Bitfield { link, pieces });
            events.push(Event::Unchoked { link });
        }
        w.tell(events);
        // A second of play, so that rates are known and queues are full.
        (0..2000).for_each(|_| w.block());
        (w.spent, w.requests) = (Duration::ZERO, 0);
        w
    }

    fn chance(&mut self, p: f64) -> bool {
        self.rnd ^= self.rnd << 13;
        self.rnd ^= self.rnd >> 7;
        self.rnd ^= self.rnd << 17;
        (self.rnd >> 11) as f64 / ((1u64 << 53) as f64) < p
    }

    fn playhead(&self) -> Event {
        Event::Playhead { at: MediaTime::from_secs_f64(self.media_s), phase: Phase::Playing }
    }

    /// Hands events in and books what comes out; what follows from it at once is handed in as well.
    fn tell(&mut self, mut events: Vec<Event>) {
        while !events.is_empty() {
            let now = Instant::from_secs_f64(self.now_s);
            let start = cpu();
            self.engine.handle_all(now, events.drain(..), &mut self.actions);
            self.spent += cpu() - start;
            for action in self.actions.drain(..) {
                match action {
                    Action::Request { link, block } => {
                        self.requests += 1;
                        self.asked.push_back((link, block));
                    }
                    Action::Cancel { link, block } => self.asked.retain(|a| *a != (link, block)),
                    Action::Verify { piece } => events.push(Event::PieceVerified { piece }),
                    _ => {}
                }
            }
        }
    }

    /// The next block arrives.
    fn block(&mut self) {
        self.now_s += BLOCK_S;
        let before = self.media_s;
        self.media_s += BLOCK_S;
        let mut events = Vec::with_capacity(3);
        if (before * 10.0) as u64 != (self.media_s * 10.0) as u64 {
            events.push(self.playhead());
            events.push(Event::Tick);
        }
        match self.asked.pop_front() {
            Some((link, block)) if self.engine.has_block(block) => events.push(Event::BlockDuplicate { link, block }),
            Some((link, block)) => events.push(Event::BlockArrived { link, block }),
            None => {}
        }
        self.tell(events);
    }

    fn done(&self) -> bool {
        self.engine.verified().count() > PIECES * 9 / 10 || self.media_s > FILM_S - 60.0
    }
}

/// Says how a mean compares to what it may be.
fn judge(what: &str, total: Duration, n: u64, limit: Duration) {
    let mean = total.as_secs_f64() / n.max(1) as f64;
    let limit = limit.as_secs_f64();
    println!("{what}: {:.2} µs on average, limit {:.0} µs, ratio {:.2}", mean * 1e6, limit * 1e6, mean / limit);
}

fn pick(c: &mut Criterion) {
    for (name, share) in [("seeds", 1.0), ("halves", 0.5)] {
        let mut w = World::new(share);
        let (mut spent, mut requests) = (Duration::ZERO, 0);
        c.bench_function(&format!("engine/pick/{name}"), |b| {
            b.iter_custom(|n| {
                let mut total = Duration::ZERO;
                for _ in 0..n {
                    if w.done() {
                        w = World::new(share);
                    }
                    let before = w.spent;
                    w.block();
                    total += w.spent - before;
                }
                spent += std::mem::take(&mut w.spent);
                requests += std::mem::take(&mut w.requests);
                total
            });
        });
        judge(&format!("engine/pick/{name}, per request"), spent, requests, PICK_LIMIT);
    }
}

fn have(c: &mut Criterion) {
    let mut w = World::new(0.25);
    let (mut spent, mut haves) = (Duration::ZERO, 0);
    c.bench_function("engine/have", |b| {
        b.iter_custom(|n| {
            let events: Vec<Event> = (0..n)
                .map(|_| {
                    w.chance(0.5);
                    let (link, piece) = ((w.rnd >> 40) as u32 % LINKS, (w.rnd >> 8) as u32 % PIECES);
                    Event::Have { link: LinkId(link), piece: PieceIndex(piece) }
                })
                .collect();
            let now = Instant::from_secs_f64(w.now_s);
            let start = cpu();
            for event in events {
                w.engine.handle(now, event, &mut w.actions);
                black_box(&w.actions);
                w.actions.clear();
            }
            let total = cpu() - start;
            spent += total;
            haves += n;
            total
        });
    });
    judge("engine/have", spent, haves, HAVE_LIMIT);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = pick, have
}
criterion_main!(benches);
