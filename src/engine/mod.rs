//! Every decision, and nothing else: which block is asked of whom, when, and at whose expense.
//!
//! Architecture invariant: sans-IO. Nothing in here reads a clock, opens a socket, starts a thread, sends on a channel,
//! writes a log or draws a random number of its own: time comes in with each event, the seed at construction. The same
//! events in the same order give the same actions.
//!
//! Where to find a rule: deadlines and zones in `zones` and `agenda`, forecasts in `forecast`, the spread of requests in `schedule`,
//! what peers and a server bring of one piece in `sharing`, second requests in `hedge`, rarest first in `ahead` and `availability`,
//! bids in `bid`, when a server is asked in `server`, the peers' receive budget in `priority`, start and rebuffer in `playout`,
//! choking in `upload`, bad pieces in `trust`.
//! What merely keeps the books is in `board`, `links`, `peers` and `arrivals`, and of servers in `origins` and `ranges`;
//! who could bring what, and when, in `candidates` and `outlook`.

mod agenda;
mod ahead;
pub mod api;
mod arrivals;
mod availability;
mod bid;
mod board;
mod candidates;
pub mod config;
mod evidence;
mod fast;
mod forecast;
mod grants;
mod hedge;
mod links;
mod origins;
mod outlook;
mod peers;
mod playout;
mod priority;
mod ranges;
mod retry;
pub(crate) mod rng;
mod schedule;
mod server;
mod sharing;
pub mod snapshot;
mod table;
mod trust;
mod upload;
pub mod view;
mod zones;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use api::{Action, Bid, Event, Phase, Timeline};
pub use config::Config;

use availability::Availability;
use board::Board;
use forecast::Gauge;
use links::{Link, Wish};
use origins::Servers;
use rng::Rng;
use snapshot::{BidRecord, Totals};
use table::Links;
use zones::Position;

use crate::units::{BlockRef, ByteRange, Instant, Layout, LinkId, PieceIndex, PieceSet};

/// All state about who has what, what was asked of whom, how fast each source is, where the playhead is.
pub struct Engine {
    config: Arc<Config>,
    rng: Rng,
    board: Board,
    availability: Availability,
    links: Links,
    position: Position,
    servers: Servers,
    upload: upload::Upload,
    priority: priority::Priority,
    playout: playout::Playout,
    trust: trust::Trust,
    totals: Totals,
    swarm_gauge: Gauge,
    server_gauge: Gauge,
    upload_gauge: Gauge,
    bids: VecDeque<BidRecord>,
    /// What is asked for no longer matters as it did: cancel before asking anew.
    restart: bool,
    /// Something happened that may change what is asked of whom, beyond links that have room again.
    stirred: bool,
    passes: schedule::Passes,
    last_tick: Option<Instant>,
    wanted_peers: u32,
    limits: Limits,
}

/// What the user allows, bytes per second; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    up: Option<u64>,
    down: Option<u64>,
}

impl Engine {
    /// `have` holds the pieces verified in an earlier run; `seed` decides all ties. Many engines may share one `config`.
    pub fn new(layout: Layout, have: PieceSet, seed: u64, config: impl Into<Arc<Config>>) -> Self {
        Self {
            rng: Rng::new(seed),
            availability: Availability::new(layout.piece_count()),
            board: Board::new(layout, have),
            links: Links::default(),
            position: Position::default(),
            servers: Servers::default(),
            upload: upload::Upload::default(),
            priority: priority::Priority::default(),
            playout: playout::Playout::default(),
            trust: trust::Trust::default(),
            totals: Totals::default(),
            swarm_gauge: Gauge::default(),
            server_gauge: Gauge::default(),
            upload_gauge: Gauge::default(),
            bids: VecDeque::new(),
            restart: false,
            stirred: false,
            passes: schedule::Passes::default(),
            last_tick: None,
            wanted_peers: 0,
            limits: Limits::default(),
            config: config.into(),
        }
    }

    /// Bytes that are zeros by what the torrent says (BEP 47), in order: nobody is asked for blocks that lie within. Call it
    /// before the first event.
    pub fn set_padding(&mut self, padding: Vec<ByteRange>) {
        self.board.set_padding(padding);
    }

    /// Takes one event in and says what is to be done about it.
    pub fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        self.note(now, event, actions);
        self.decide(now, actions);
    }

    /// Takes several events that happened together, and decides once.
    pub fn handle_all(&mut self, now: Instant, events: impl IntoIterator<Item = Event>, actions: &mut Vec<Action>) {
        for event in events {
            self.note(now, event, actions);
        }
        self.decide(now, actions);
    }

    /// When time alone may change a decision: send a [`Event::Tick`] then. `None` while nothing is going on.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let moving = matches!(self.position.phase, Phase::Playing) || self.position.waits();
        let fading = self.swarm_gauge.get() + self.server_gauge.get() + self.upload_gauge.get() > 0.0;
        // Asked after each event, while it nearly always plays: the links are looked at last.
        let busy = || self.servers.busy() || self.links.values().any(|l| !l.asks.is_empty() || !l.wishes.is_empty());
        let last = self.last_tick.unwrap_or_default();
        if self.position.file.is_some() && (moving || fading || busy()) {
            let pressed = self.passes.next(&self.config).filter(|_| self.stirred);
            let tick = last + self.config.tick;
            return Some(pressed.unwrap_or(tick).min(tick));
        }
        // Choking rounds go on while anybody wants something of ours.
        self.links.values().any(|l| l.peer_interested).then(|| last + Duration::from_secs(1))
    }

    /// Whether an event may change what is asked of whom. Progress within a block and a reader that waits on in a block
    /// already waited for do not, and come by the thousand.
    fn stirs(&self, event: &Event) -> bool {
        let layout = self.board.layout();
        match event {
            Event::ServerBytes { fetch, upto } => self.servers.fetches.get(fetch).is_none_or(|f| {
                *upto >= f.range.end || f.upto == f.range.start || layout.block_at(f.upto) != layout.block_at(*upto)
            }),
            Event::ReaderBlocked { range } => {
                let at = |r: ByteRange| layout.block_at(r.end.saturating_sub(1));
                self.position.blocked.is_none_or(|b| at(b) != at(*range)) && !self.has_block(at(*range))
            }
            Event::ReaderResumed
            | Event::ReaderAt { .. }
            | Event::BlockSent { .. }
            | Event::BlockRequested { .. }
            | Event::BlockUnrequested { .. }
            | Event::Have { .. }
            | Event::Interested { .. }
            | Event::Suggested { .. }
            | Event::FastGranted { .. }
            | Event::PieceVerified { .. }
            | Event::Sums { .. }
            | Event::Limits { .. }
            | Event::Tick => false,
            _ => true,
        }
    }

    /// Books what happened; decides nothing that depends on anything else.
    fn note(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        self.stirred |= self.stirs(&event);
        match event {
            Event::LinkUp { link, rtt } => {
                self.links.insert(Link::new(link, self.board.layout().piece_count(), rtt, now));
            }
            Event::LinkDown { link } => self.link_down(link),
            Event::Bitfield { link, pieces } => self.bitfield(link, pieces, actions),
            Event::Have { link, piece } => self.have(link, piece, actions),
            Event::Choked { link } => {
                if let Some(l) = self.links.get_mut(&link) {
                    l.choked = true;
                }
                self.choked(link);
            }
            Event::Unchoked { link } => {
                if let Some(l) = self.links.get_mut(&link) {
                    l.choked = false;
                    self.passes.idle.insert(link);
                }
            }
            Event::DontHave { link, piece } => self.dont_have(link, piece, actions),
            Event::AllowedFast { link, piece } => self.allowed_fast(link, piece),
            Event::Suggested { link, piece } => self.suggested(link, piece),
            Event::FastGranted { link, piece } => self.fast_granted(link, piece),
            Event::Interested { link, interested } => self.note_interest(now, link, interested, actions),
            Event::BlockArrived { link, block } => self.block_arrived(now, link, block, actions),
            Event::BlockDuplicate { link, block } => self.block_duplicate(now, link, block),
            Event::BlockRejected { link, block } => {
                if let Some(l) = self.links.get_mut(&link) {
                    l.refused(block);
                }
                self.withdraw(link, block, true);
            }
            Event::BlockRequested { link, piece, begin, len } => {
                self.note_wish(link, Wish { piece, begin, len }, actions);
            }
            Event::BlockUnrequested { link, piece, begin, len } => self.drop_wish(link, Wish { piece, begin, len }),
            Event::BlockSent { link, len } => self.note_sent(link, len),
            Event::Sums { piece, sums } => self.note_sums(now, piece, sums, actions),
            Event::Limits { up, down } => self.limits = Limits { up, down },
            Event::PieceVerified { piece } => self.piece_verified(piece, actions),
            Event::PieceCorrupt { piece } => self.piece_corrupt(now, piece, actions),
            Event::OriginUp { origin, .. } if self.trust.dropped.contains(&origin) => {}
            Event::OriginUp { origin, bidding, rtt } => {
                self.servers.up(origin, bidding, rtt, self.trust.suspect, &self.config)
            }
            Event::OriginDown { origin } => self.origin_down(origin),
            Event::ServerBytes { fetch, upto } => self.server_bytes(now, fetch, upto, actions),
            Event::ServerDone { fetch } => self.fetch_done(now, fetch, actions),
            Event::ServerFailed { fetch } => self.fetch_failed(now, fetch),
            Event::Granted { origin, grant, bits, expires } => self.granted(now, origin, grant, bits, expires),
            Event::BidFailed { origin, plain } => self.bid_failed(now, origin, plain),
            Event::FileChosen { range } => {
                self.position =
                    Position { file: Some(range), reader_at: range.start, told: now, ..Position::default() };
                self.reindex(now);
                self.recount(actions);
            }
            Event::ReaderAt { offset } => self.position.reader_at = offset,
            Event::ReaderBlocked { range } => {
                let known = self.position.blocked.is_some_and(|b| b.start == range.start);
                self.position.blocked = Some(range);
                self.position.reader_at = range.start;
                // A jump of the reader while the clock stands (a seek, the index at the end) makes old requests stale.
                let window = self.position.window(now, &self.config);
                self.restart |= !known && self.position.waits() && !window.contains(range.start);
            }
            Event::ReaderResumed => self.position.blocked = None,
            Event::Playhead { at, phase } => self.note_playhead(now, at, phase),
            Event::Timeline(t) => {
                self.position.timeline = Some(t);
                self.playout.measured_anew(self.position.phase);
                self.reindex(now);
            }
            Event::Tick => {}
        }
    }

    /// All decisions, from the most pressing on.
    fn decide(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let tick = self.last_tick.is_none_or(|t| now.since(t) >= self.config.tick);
        if tick {
            self.last_tick = Some(now);
            self.swarm_gauge.fold(now);
            self.server_gauge.fold(now);
            self.upload_gauge.fold(now);
            for l in self.links.values_mut() {
                l.down.fold(now);
                l.up.fold(now);
                l.fade(now, &self.config);
            }
            self.expire(now, actions);
            self.release(now, actions);
            self.expire_bids(now);
            self.expire_fetches(now, actions);
        }
        if self.position.file.is_none() || self.position.phase == Phase::Ended {
            self.stirred = false;
            self.passes.idle.clear();
        } else if tick || self.restart || self.stirred || !self.passes.idle.is_empty() {
            self.schedule(now, tick, actions);
            self.want_peers(actions);
        }
        if tick {
            self.prioritise(now, actions);
            self.choke_round(now, actions);
            self.forget_handed(now);
        }
        self.gate(now, actions);
        self.serve_wishes(now, actions);
    }

    fn note_playhead(&mut self, now: Instant, at: crate::units::MediaTime, phase: Phase) {
        let before = self.position.media_now(now);
        let jumped = (at.as_secs_f64() - before.as_secs_f64()).abs() > 2.0;
        let stopped = phase != self.position.phase && matches!(phase, Phase::Seeking | Phase::Stalled);
        self.restart |= jumped || stopped;
        self.playout.phase(self.position.phase, phase, jumped);
        self.position.playhead = at;
        self.position.phase = phase;
        self.position.told = now;
        if jumped {
            self.reindex(now);
        }
    }

    /// Pieces whose hash was checked.
    pub fn verified(&self) -> &PieceSet {
        self.board.verified()
    }

    /// Whether the block's bytes are here: they must not be written again.
    pub fn has_block(&self, block: BlockRef) -> bool {
        self.board.block_here(block)
    }

    /// Whether a block of this link would be kept: what would not must not be written either, and is told as
    /// [`Event::BlockDuplicate`].
    pub fn takes(&self, link: LinkId, block: BlockRef) -> bool {
        let banned = self.links.get(&link).is_some_and(|l| l.banned);
        !self.has_block(block) && !banned && self.board.takes(block, link)
    }

    /// Whether nothing of the piece was asked for or received in this run.
    pub fn untouched(&self, piece: PieceIndex) -> bool {
        !self.board.is_here(piece) && self.board.get(piece).is_none()
    }

    /// Checks what must hold between the parts after every event; what is wrong, if anything. For tests.
    pub fn check(&self) -> Result<(), String> {
        self.board.check()?;
        self.availability.check()?;
        for (p, g) in self.board.begun() {
            for (i, c) in g.cells.iter().enumerate() {
                let block = BlockRef { piece: *p, block: i as u32 };
                for link in c.asked.iter() {
                    let asks = self.links.get(link).map_or(0, |l| l.asks.iter().filter(|a| a.block == block).count());
                    if asks != 1 {
                        return Err(format!("block {block:?} is asked of {link:?}, whose queue has it {asks} times"));
                    }
                }
                if c.asked.len() > 2 {
                    return Err(format!("block {block:?} is asked of {} links", c.asked.len()));
                }
            }
        }
        for l in self.links.values() {
            for a in &l.asks {
                if !l.has.contains(a.block.piece) {
                    return Err(format!("{:?} was asked of {:?}, which has it not", a.block, l.id));
                }
                if !self.board.cell(a.block).is_some_and(|c| c.asked.contains(&l.id)) {
                    return Err(format!("{:?} is in the queue of {:?} but not on the board", a.block, l.id));
                }
            }
        }
        self.servers.check()
    }

    /// Entries held in tables that grow with what happens: what a long run must not let grow.
    pub fn footprint(&self) -> usize {
        let of_links: usize =
            self.links.values().map(|l| 1 + l.asks.len() + l.ghosts.len() + l.wishes.len() + l.handed.len()).sum();
        let of_board: usize = self.board.begun().values().map(|g| g.cells.len()).sum();
        of_links + of_board + self.servers.fetches.len() + self.bids.len() + self.trust.failed.len()
    }

    /// What the engine shows of itself.
    pub fn snapshot(&self, now: Instant) -> Arc<snapshot::EngineSnapshot> {
        Arc::new(self.view(now))
    }
}
