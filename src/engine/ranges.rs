//! Ranged GETs under way: what was asked of which origin, what of it came, and when it is given up.
//!
//! Invariant: a block that a range is to bring is booked on the board with that range, until it came or the range is over.

use std::collections::BTreeSet;
use std::time::Duration;

use super::board::Giver;
use super::config::Config;
use super::origins::Servers;
use super::{Action, Engine};
use crate::units::{BlockRef, ByteRange, FetchId, Instant, OriginId, PieceIndex};

/// Silence of a range beyond what its origin's round trip and queue explain, after which it is not counted on any more.
const SILENCE_S: f64 = 1.0;
/// Silence after which the only origin there is is asked anew: its connection may be dead while it is not.
const DEAD: Duration = Duration::from_secs(4);

#[derive(Debug, Clone)]
pub(super) struct Fetch {
    pub origin: OriginId,
    pub range: ByteRange,
    pub upto: u64,
    pub at: Instant,
    pub progress: Instant,
}

impl Servers {
    /// Bytes asked of one origin that did not come yet.
    pub fn outstanding(&self, origin: OriginId) -> u64 {
        self.fetches.values().filter(|f| f.origin == origin).map(|f| f.range.end - f.upto).sum()
    }

    /// Seconds until the fetch has brought all before `offset`; `None` when it makes no progress and is not to be
    /// counted on.
    pub fn expected(&self, now: Instant, fetch: FetchId, offset: u64, config: &Config) -> Option<f64> {
        let f = self.fetches.get(&fetch)?;
        let o = self.origins.get(&f.origin)?;
        let rtt = o.round_trip().as_secs_f64();
        let before = self.before(fetch, f.origin);
        let rate = o.rate_hoped(now, config);
        let way = if f.upto > f.range.start { 0.0 } else { (rtt - now.since(f.at).as_secs_f64()).max(0.0) };
        let due = way + (before + offset.saturating_sub(f.upto)) as f64 / rate;
        (!self.silent(now, fetch, f, config)).then_some(due)
    }

    /// Bytes that the origin sends before this range's.
    fn before(&self, fetch: FetchId, origin: OriginId) -> u64 {
        self.fetches.range(..fetch).filter(|(_, f)| f.origin == origin).map(|(_, f)| f.range.end - f.upto).sum()
    }

    /// Whether the range's bytes are longer out than its origin's round trip and queue explain.
    fn silent(&self, now: Instant, fetch: FetchId, f: &Fetch, config: &Config) -> bool {
        let Some(o) = self.origins.get(&f.origin) else { return true };
        let rate = o.rate_hoped(now, config);
        let queue = self.before(fetch, f.origin) as f64 / rate;
        now.since(f.progress).as_secs_f64() >= SILENCE_S + 3.0 * o.round_trip().as_secs_f64() + queue
    }

    /// Whether a range that was asked of the origin is silent.
    pub fn is_silent(&self, now: Instant, origin: OriginId, config: &Config) -> bool {
        self.fetches.iter().any(|(id, f)| f.origin == origin && self.silent(now, *id, f, config))
    }
}

impl Engine {
    /// Asks for a range, within the grants it spends.
    pub(super) fn fetch(&mut self, now: Instant, origin: OriginId, range: ByteRange, actions: &mut Vec<Action>) {
        let Some(o) = self.servers.origins.get_mut(&origin) else { return };
        let grants = o.grants.spend(now, range.len() * 8);
        let doubtful = o.doubtful();
        o.asked_range(now);
        let fetch = self.servers.number();
        self.servers.fetches.insert(fetch, Fetch { origin, range, upto: range.start, at: now, progress: now });
        let blocks: Vec<BlockRef> = self.board.layout().blocks_in(range).collect();
        for block in blocks {
            // Peers that sit on it are let off: the server was asked because they would be late. Not for one that may be gone.
            let asked = self.board.cell(block).filter(|_| !doubtful).map(|c| c.asked).unwrap_or_default();
            self.board.ask_server(block, fetch);
            for link in asked.iter().copied() {
                self.cancel(now, link, block, true, actions);
            }
            self.availability.take(block.piece);
        }
        actions.push(Action::Fetch { fetch, origin, range, grants });
    }

    /// Books progress of a fetch.
    pub(super) fn server_bytes(&mut self, now: Instant, fetch: FetchId, upto: u64, actions: &mut Vec<Action>) {
        let layout = *self.board.layout();
        let Some(f) = self.servers.fetches.get_mut(&fetch) else { return };
        let (from, upto) = (f.upto, upto.clamp(f.upto, f.range.end));
        f.upto = upto;
        f.progress = now;
        let origin = f.origin;
        let Some(o) = self.servers.origins.get_mut(&origin) else { return };
        let len = upto - from;
        o.arrived(now, len, &self.config);
        let trusted = !o.distrusted;
        self.totals.server += len;
        self.server_gauge.add(len);
        self.note_used(len * 8);
        // Block by block, whole ones only: what a peer brought first lies on disk in place of the server's bytes and waits for
        // its hash, and a block that is not whole yet may still be written by a peer.
        let mut playable = ByteRange::default();
        for block in layout.blocks_in(ByteRange::new(from, upto)) {
            let bytes = layout.block_range(block);
            if bytes.end > upto {
                break;
            }
            let Some(others) = self.board.arrived(block, Giver::Server) else {
                self.totals.duplicate += bytes.len();
                continue;
            };
            self.cancel_others(now, block, others.iter().copied(), actions);
            if trusted && playable.end == bytes.start && !playable.is_empty() {
                playable.end = bytes.end;
            } else if trusted {
                actions.extend((!playable.is_empty()).then_some(Action::Playable { range: playable }));
                playable = bytes;
            }
            self.piece_progress(now, block.piece, actions);
        }
        actions.extend((!playable.is_empty()).then_some(Action::Playable { range: playable }));
    }

    /// The fetch delivered all there is of its range; padding at its end is not sent by anyone.
    pub(super) fn fetch_done(&mut self, now: Instant, fetch: FetchId, actions: &mut Vec<Action>) {
        if let Some(end) = self.servers.fetches.get(&fetch).map(|f| f.range.end) {
            self.server_bytes(now, fetch, end, actions);
        }
        self.fetch_ended(fetch);
    }

    /// The fetch is over; blocks that it did not bring are free again.
    pub(super) fn fetch_ended(&mut self, fetch: FetchId) {
        let Some(f) = self.servers.fetches.remove(&fetch) else { return };
        let left = ByteRange::new(f.upto, f.range.end);
        let blocks: Vec<BlockRef> = self.board.layout().blocks_in(left).collect();
        for block in blocks {
            self.board.unask_server(block, fetch);
            self.reindex_piece(block.piece);
        }
        let idle = !self.servers.fetches.values().any(|g| g.origin == f.origin);
        if let Some(o) = self.servers.origins.get_mut(&f.origin) {
            o.grants.give_back(left.len() * 8);
            if idle {
                o.idle();
            }
        }
    }

    /// The fetch broke: the origin rests for a moment, longer each time, and what it owed is bid for again at once.
    pub(super) fn fetch_failed(&mut self, now: Instant, fetch: FetchId) {
        if let Some(o) =
            self.servers.fetches.get(&fetch).map(|f| f.origin).and_then(|o| self.servers.origins.get_mut(&o))
        {
            o.failed(now);
            self.servers.bid_again = true;
        }
        self.fetch_ended(fetch);
    }

    /// Ranges that fell silent are given up: at once where another origin can take over, else after a while.
    pub(super) fn expire_fetches(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let servers = &self.servers;
        let dead = |id: &FetchId, f: &Fetch| {
            let other = servers.open(now).any(|(o, _)| *o != f.origin);
            servers.silent(now, *id, f, &self.config) && (other || now.since(f.progress) >= DEAD)
        };
        let dead: Vec<FetchId> = servers.fetches.iter().filter(|(id, f)| dead(id, f)).map(|(id, _)| *id).collect();
        for fetch in dead {
            self.fetch_failed(now, fetch);
            actions.push(Action::AbortFetch { fetch });
        }
    }

    pub(super) fn origin_down(&mut self, origin: OriginId) {
        let running: Vec<FetchId> =
            self.servers.fetches.iter().filter(|(_, f)| f.origin == origin).map(|(id, _)| *id).collect();
        for fetch in running {
            self.fetch_ended(fetch);
        }
        self.servers.bid_again |= self.servers.origins.remove(&origin).is_some();
    }

    /// Peers caught up: a fetch whose every missing block is here by now is cut short.
    pub(super) fn abort_if_done(&mut self, fetch: FetchId, actions: &mut Vec<Action>) {
        let Some(f) = self.servers.fetches.get(&fetch) else { return };
        let left = ByteRange::new(f.upto, f.range.end);
        if self.board.layout().blocks_in(left).all(|b| self.board.block_here(b)) {
            self.fetch_ended(fetch);
            actions.push(Action::AbortFetch { fetch });
        }
    }

    /// After a jump: ranges none of whose bytes are due any more.
    pub(super) fn abort_stale(&mut self, pieces: &BTreeSet<PieceIndex>, actions: &mut Vec<Action>) {
        let layout = *self.board.layout();
        let stale: Vec<FetchId> = self
            .servers
            .fetches
            .iter()
            .filter(|(_, f)| {
                !layout.pieces_in(ByteRange::new(f.upto, f.range.end)).any(|p| pieces.contains(&PieceIndex(p)))
            })
            .map(|(id, _)| *id)
            .collect();
        for fetch in stale {
            self.fetch_ended(fetch);
            actions.push(Action::AbortFetch { fetch });
        }
    }
}
