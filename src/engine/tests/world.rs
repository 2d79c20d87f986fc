//! A deterministic network and viewer around one engine: links and servers with rate, round trip and queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Action, Config, Engine, Event, Phase, Timeline};
use crate::units::*;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The network brings something to the engine.
    Peer(u32, Wire),
    /// A request or cancel reaches the peer.
    Ask(u32, BlockRefOrd, bool),
    /// The peer has sent a block whole.
    Sent(u32),
    Chunk(u32),
    Verified(u32),
    Viewer,
    Wake,
}

type BlockRefOrd = (u32, u32);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wire {
    Up,
    Has,
    Unchoke,
    Block(BlockRefOrd),
    Down,
}

pub struct Peer {
    pub rate: f64,
    pub rtt: f64,
    pub up_at: f64,
    pub unchoke_at: f64,
    pub down_at: Option<f64>,
    pub has: PieceSet,
    /// Bytes that it sends at once before its rate begins to limit it, as token buckets do.
    pub burst: u64,
    queue: VecDeque<BlockRef>,
    sending: Option<BlockRef>,
    gone: bool,
}

pub struct Web {
    pub rate: f64,
    pub rtt: f64,
    /// It goes on taking requests, and sends nothing any more.
    pub silent: bool,
    free_at: f64,
}

pub struct World {
    pub engine: Engine,
    pub layout: Layout,
    pub now: f64,
    steps: BinaryHeap<Reverse<(u64, u64, Step)>>,
    seq: u64,
    pub peers: Vec<Peer>,
    pub web: Option<Web>,
    fetches: BTreeMap<u32, (ByteRange, u64)>,
    playable: Vec<bool>,
    pub phase: Phase,
    pub media: f64,
    pub duration: f64,
    gate: bool,
    /// Bytes that must be playable from the start of the head before the first picture.
    pub head: u64,
    pub first_frame: Option<f64>,
    pub started: Option<f64>,
    pub stalled: f64,
    pub trace: Vec<String>,
    wake_at: Option<u64>,
    pub reader: u64,
}

impl World {
    /// A film of `len` bytes lasting `duration` seconds.
    pub fn new(len: u64, piece: u32, duration: f64, config: Config) -> Self {
        let layout = Layout::new(len, piece).unwrap();
        let pieces = layout.piece_count();
        Self {
            engine: Engine::new(layout, PieceSet::new(pieces), 42, config),
            layout,
            now: 0.0,
            steps: BinaryHeap::new(),
            seq: 0,
            peers: Vec::new(),
            web: None,
            fetches: BTreeMap::new(),
            playable: vec![false; (len.div_ceil(u64::from(BLOCK_LEN))) as usize],
            phase: Phase::Opening,
            media: 0.0,
            duration,
            gate: false,
            head: 512 * 1024,
            first_frame: None,
            started: None,
            stalled: 0.0,
            trace: Vec::new(),
            wake_at: None,
            reader: 0,
        }
    }

    /// A seed of all, bytes per second, seconds.
    pub fn seed(&mut self, rate: f64, rtt: f64, up_at: f64, unchoke_at: f64) -> &mut Peer {
        let has = PieceSet::full(self.layout.piece_count());
        self.peers.push(Peer {
            rate,
            rtt,
            up_at,
            unchoke_at,
            down_at: None,
            has,
            burst: 0,
            queue: VecDeque::new(),
            sending: None,
            gone: false,
        });
        self.peers.last_mut().unwrap()
    }

    pub fn server(&mut self, rate: f64, rtt: f64) {
        self.web = Some(Web { rate, rtt, silent: false, free_at: 0.0 });
    }

    fn at(&mut self, t: f64, step: Step) {
        self.seq += 1;
        self.steps.push(Reverse(((t * 1e9).ceil() as u64, self.seq, step)));
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        let now = Instant((self.now * 1e9).ceil() as u64);
        self.engine.handle(now, event, &mut actions);
        self.engine.check().unwrap_or_else(|e| panic!("at {:.3}: {e}", self.now));
        for a in actions {
            self.trace.push(format!("{:.6} {a:?}", self.now));
            self.carry(a);
        }
        if let Some(w) = self.engine.next_wakeup().filter(|w| self.wake_at.is_none_or(|at| w.0 < at)) {
            self.wake_at = Some(w.0);
            self.at((w.as_secs_f64() + 1e-8).max(self.now), Step::Wake);
        }
    }

    fn carry(&mut self, action: Action) {
        match action {
            Action::Request { link, block } => {
                let p = &self.peers[link.0 as usize];
                assert!(p.has.contains(block.piece), "asked of a peer without it");
                self.at(self.now + p.rtt / 2.0, Step::Ask(link.0, (block.piece.0, block.block), true));
            }
            Action::Cancel { link, block } => {
                let rtt = self.peers[link.0 as usize].rtt;
                self.at(self.now + rtt / 2.0, Step::Ask(link.0, (block.piece.0, block.block), false));
            }
            Action::Verify { piece } => self.at(self.now + 0.001, Step::Verified(piece.0)),
            Action::Playable { range } => {
                let b = u64::from(BLOCK_LEN);
                for i in range.start.div_ceil(b)..range.end.div_ceil(b) {
                    if range.end >= ((i + 1) * b).min(self.layout.total_len()) {
                        self.playable[i as usize] = true;
                    }
                }
            }
            Action::Fetch { fetch, range, .. } => {
                let now = self.now;
                let w = self.web.as_mut().unwrap();
                let start = w.free_at.max(now + w.rtt);
                w.free_at = start + range.len() as f64 / w.rate;
                let step = f64::from(BLOCK_LEN) / w.rate;
                self.fetches.insert(fetch.0, (range, range.start));
                self.at(start + step, Step::Chunk(fetch.0));
            }
            Action::AbortFetch { fetch } => {
                self.fetches.remove(&fetch.0);
            }
            Action::Gate { open } => self.gate = open,
            _ => {}
        }
    }

    fn send_next(&mut self, i: u32) {
        let p = &mut self.peers[i as usize];
        if p.sending.is_none() && !p.gone {
            p.sending = p.queue.pop_front();
            if let Some(b) = p.sending {
                let len = self.layout.block_range(b).len();
                let paced = len - len.min(p.burst);
                p.burst -= len - paced;
                let t = paced as f64 / p.rate;
                self.at(self.now + t, Step::Sent(i));
            }
        }
    }

    /// The first byte from `at` on that is not playable.
    fn run_end(&self, at: u64) -> u64 {
        let b = u64::from(BLOCK_LEN);
        let mut i = at / b;
        while (i as usize) < self.playable.len() && self.playable[i as usize] {
            i += 1;
        }
        (i * b).clamp(at, self.layout.total_len())
    }

    pub fn seek(&mut self, to: f64) {
        self.media = to;
        self.phase = Phase::Seeking;
        self.first_frame = None;
        self.reader = self.offset(to);
        self.gate = false;
        self.tell(Event::Playhead { at: MediaTime::from_secs_f64(to), phase: Phase::Seeking });
        self.viewer(0.0);
    }

    fn offset(&self, t: f64) -> u64 {
        (self.layout.total_len() as f64 * (t / self.duration).min(1.0)) as u64
    }

    /// The viewer's side, each 20 ms: reader, first picture, clock.
    fn viewer(&mut self, dt: f64) {
        let end = self.run_end(self.reader);
        if self.first_frame.is_none() {
            let goal = (self.offset(self.media) + self.head).min(self.layout.total_len());
            if end >= goal {
                self.first_frame = Some(self.now);
                self.tell(Event::ReaderResumed);
            } else {
                let range = ByteRange::new(end, (end + 32_768).min(self.layout.total_len()));
                self.tell(Event::ReaderBlocked { range });
            }
        }
        let wants = self.phase != Phase::Ended && self.phase != Phase::Playing;
        if wants && self.gate && self.first_frame.is_some() {
            self.phase = Phase::Playing;
            self.started.get_or_insert(self.now);
        }
        if self.phase == Phase::Playing {
            let next = self.media + dt;
            if self.run_end(self.offset(self.media)) <= self.offset(self.media) && next < self.duration {
                self.phase = Phase::Stalled;
                self.gate = false;
            } else {
                self.media = next;
            }
            if self.media >= self.duration {
                self.phase = Phase::Ended;
            }
        }
        if self.phase == Phase::Stalled {
            self.stalled += dt;
            let at = self.run_end(self.offset(self.media));
            self.tell(Event::ReaderBlocked { range: ByteRange::new(at, (at + 32_768).min(self.layout.total_len())) });
        }
        self.tell(Event::Playhead { at: MediaTime::from_secs_f64(self.media), phase: self.phase });
    }

    /// Everything is known and connected as the peers say; the film is opened.
    pub fn open(&mut self) {
        for i in 0..self.peers.len() as u32 {
            let (up, unchoke, down) = {
                let p = &self.peers[i as usize];
                (p.up_at, p.unchoke_at, p.down_at)
            };
            self.at(up, Step::Peer(i, Wire::Up));
            self.at(up, Step::Peer(i, Wire::Has));
            self.at(unchoke, Step::Peer(i, Wire::Unchoke));
            if let Some(t) = down {
                self.at(t, Step::Peer(i, Wire::Down));
            }
        }
        let len = self.layout.total_len();
        if self.web.is_some() {
            self.tell(Event::OriginUp { origin: OriginId(0), bidding: Some(false), rtt: None });
        }
        self.tell(Event::FileChosen { range: ByteRange::new(0, len) });
        self.tell(Event::Timeline(Arc::new(Timeline::linear(MediaTime::from_secs_f64(self.duration), len))));
        self.at(0.0, Step::Viewer);
    }

    /// Runs until `t` or until `done` says so.
    pub fn run(&mut self, t: f64, done: impl Fn(&Self) -> bool) {
        const FRAME: f64 = 0.02;
        while let Some(Reverse((at, _, step))) = self.steps.pop() {
            let at = at as f64 / 1e9;
            if at > t {
                self.at(at, step);
                self.now = t;
                return;
            }
            self.now = at.max(self.now);
            match step {
                Step::Wake => {
                    self.wake_at = None;
                    self.tell(Event::Tick);
                }
                Step::Viewer => {
                    self.viewer(FRAME);
                    self.at(self.now + FRAME, Step::Viewer);
                }
                Step::Verified(p) => self.tell(Event::PieceVerified { piece: PieceIndex(p) }),
                Step::Ask(i, (piece, block), true) => {
                    self.peers[i as usize].queue.push_back(BlockRef { piece: PieceIndex(piece), block });
                    self.send_next(i);
                }
                Step::Ask(i, (piece, block), false) => {
                    let b = BlockRef { piece: PieceIndex(piece), block };
                    self.peers[i as usize].queue.retain(|q| *q != b);
                }
                Step::Sent(i) => {
                    let p = &mut self.peers[i as usize];
                    let (rtt, sent) = (p.rtt, p.sending.take());
                    if let Some(b) = sent {
                        self.at(self.now + rtt / 2.0, Step::Peer(i, Wire::Block((b.piece.0, b.block))));
                    }
                    self.send_next(i);
                }
                Step::Chunk(f) => self.chunk(f),
                Step::Peer(i, wire) => self.wire(i, wire),
            }
            if done(self) {
                return;
            }
        }
    }

    /// A range that the server has begun to send and not yet sent whole.
    pub fn answering(&self) -> bool {
        self.fetches.values().any(|(range, upto)| *upto > range.start)
    }

    fn chunk(&mut self, f: u32) {
        let Some((range, upto)) = self.fetches.get(&f).copied() else { return };
        if self.web.as_ref().is_some_and(|w| w.silent) {
            return;
        }
        let upto = (upto + u64::from(BLOCK_LEN)).min(range.end);
        self.fetches.insert(f, (range, upto));
        self.tell(Event::ServerBytes { fetch: FetchId(f), upto });
        if upto == range.end {
            self.fetches.remove(&f);
            self.tell(Event::ServerDone { fetch: FetchId(f) });
        } else {
            let step = f64::from(BLOCK_LEN) / self.web.as_ref().unwrap().rate;
            self.at(self.now + step, Step::Chunk(f));
        }
    }

    fn wire(&mut self, i: u32, wire: Wire) {
        if self.peers[i as usize].gone {
            return;
        }
        let link = LinkId(i);
        let rtt = self.peers[i as usize].rtt;
        let event = match wire {
            Wire::Up => Event::LinkUp { link, rtt: Some(Duration::from_secs_f64(rtt)) },
            Wire::Has => Event::Bitfield { link, pieces: self.peers[i as usize].has.clone() },
            Wire::Unchoke => Event::Unchoked { link },
            Wire::Block((piece, block)) => {
                let block = BlockRef { piece: PieceIndex(piece), block };
                if !self.engine.takes(link, block) {
                    Event::BlockDuplicate { link, block }
                } else {
                    Event::BlockArrived { link, block }
                }
            }
            Wire::Down => {
                self.peers[i as usize].gone = true;
                Event::LinkDown { link }
            }
        };
        self.tell(event);
    }
}
