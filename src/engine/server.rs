//! Ranged GETs: adjacent missed blocks in one range, never longer than can be given back, never more than was granted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::agenda::Due;
use super::board::Giver;
use super::config::Config;
use super::forecast::RateMeter;
use super::grants::Grants;
use super::snapshot::ServerView;
use super::{Action, Engine};
use crate::units::{BLOCK_LEN, BlockRef, ByteRange, FetchId, Instant, OriginId, PieceIndex};

/// Seconds that a server's block is early by at least, by forecast: what a peer needs to step in when the server dies in the
/// middle of it. With one second a play beside a swarm that had just woken stood for 0.6 s.
const LEAD_LEAST: f64 = 2.0;
/// Seconds of media beyond what presses that a range takes along: two GETs a second, not one a block.
const LEAD_MORE: f64 = 0.5;
/// Ranged GETs at one origin at a time: one being sent and one asked for, so that the line never idles for a round trip.
const FETCHES: usize = 2;
/// Silence of a range beyond what its origin's round trip and queue explain, after which it is not counted on any more.
const SILENCE_S: f64 = 1.0;
/// Silence after which the only origin there is is asked anew: its connection may be dead while it is not.
const DEAD: Duration = Duration::from_secs(4);

/// What is known of an origin and bids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bidding {
    /// Nothing yet, but that so many bids came to nothing: it is bid to, and meanwhile asked like a plain one.
    Unknown(u32),
    /// It takes none: what is bid is granted by ourselves.
    Plain,
    /// Nothing is asked of it but within its grants.
    Takes,
}

#[derive(Debug, Clone)]
pub(super) struct OriginState {
    pub bidding: Bidding,
    rtt: Option<Duration>,
    /// The round trip assumed until one is measured.
    rtt_unknown: Duration,
    meter: RateMeter,
    /// Bytes received of it.
    brought: u64,
    pub grants: Grants,
    /// A bid that is not answered yet: since when, and how many bits it is counted for.
    pub asked: Option<(Instant, u64)>,
    /// A bid to it came to nothing: none before then.
    pub bid_after: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Its bytes are played only once hashed.
    pub distrusted: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Fetch {
    pub origin: OriginId,
    pub range: ByteRange,
    pub upto: u64,
    pub at: Instant,
    pub progress: Instant,
}

/// All origins and what was asked of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Servers {
    pub origins: BTreeMap<OriginId, OriginState>,
    pub fetches: BTreeMap<FetchId, Fetch>,
    next: u32,
    pub last_bid: Option<Instant>,
    /// The last bid to an origin that takes them was not granted whole.
    pub short: bool,
    /// An origin failed that was counted on: the next bid does not wait for its second.
    pub bid_again: bool,
}

impl OriginState {
    pub fn round_trip(&self) -> Duration {
        self.rtt.unwrap_or(self.rtt_unknown)
    }

    pub fn rate(&self, now: Instant) -> Option<f64> {
        self.meter.rate_at(now)
    }

    /// The rate to count on, bytes per second. TCP's slow start says little of what a server can send: until it has brought
    /// a first range it is taken to be no slower than one that nothing is known of.
    fn rate_hoped(&self, now: Instant, config: &Config) -> f64 {
        let unknown = 8.0 * config.rate_unknown;
        match self.rate(now) {
            Some(rate) if self.brought < config.fetch_first => rate.max(unknown),
            rate => rate.unwrap_or(unknown),
        }
    }

    /// Leaves it alone until then.
    pub fn rest(&mut self, until: Instant) {
        self.retry_at = self.retry_at.max(Some(until));
        self.grants.clear();
    }

    fn rested(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|t| t <= now)
    }

    /// Seconds until a range of so many bytes more, after `queued`, would be here.
    fn time_for(&self, now: Instant, queued: u64, bytes: f64, config: &Config) -> f64 {
        let rate = self.rate_hoped(now, config);
        // Without a grant there is a bid to be answered first.
        let bid = self.bidding == Bidding::Takes && (self.grants.unspent(now) as f64) < bytes * 8.0;
        let trips = if bid { 2.0 } else { 1.0 };
        let rest = self.retry_at.map_or(0.0, |t| t.since(now).as_secs_f64());
        rest + trips * self.round_trip().as_secs_f64() + (queued as f64 + bytes) / rate + config.margin.as_secs_f64()
    }
}

impl Servers {
    pub fn up(
        &mut self,
        origin: OriginId,
        bidding: Option<bool>,
        rtt: Option<Duration>,
        suspect: bool,
        config: &Config,
    ) {
        let o = self.origins.entry(origin).or_insert_with(|| OriginState {
            bidding: Bidding::Unknown(0),
            rtt: None,
            rtt_unknown: config.rtt_unknown,
            meter: RateMeter::default(),
            brought: 0,
            grants: Grants::default(),
            asked: None,
            bid_after: None,
            failures: 0,
            retry_at: None,
            distrusted: false,
        });
        match bidding {
            Some(true) if o.bidding != Bidding::Takes => {
                o.bidding = Bidding::Takes;
                o.grants.clear();
            }
            Some(false) if o.bidding != Bidding::Plain => {
                o.bidding = Bidding::Plain;
                o.grants.clear();
            }
            Some(_) | None => {}
        }
        o.distrusted |= suspect;
        o.rtt = rtt.or(o.rtt);
    }

    /// Origins that may be asked and bid to now.
    pub fn open(&self, now: Instant) -> impl Iterator<Item = (&OriginId, &OriginState)> {
        self.origins.iter().filter(move |(_, o)| o.rested(now))
    }

    /// Whether `blocks` more blocks may be asked for now: granted, or of a server that grants each bid to itself.
    pub fn affords(&self, now: Instant, blocks: usize) -> bool {
        let bits = blocks as u64 * u64::from(BLOCK_LEN) * 8;
        let granted: u64 = self.open(now).map(|(_, o)| o.grants.unspent(now)).sum();
        granted >= bits || self.open(now).any(|(_, o)| o.bidding != Bidding::Takes)
    }

    pub fn usable(&self) -> bool {
        !self.origins.is_empty()
    }

    /// No server ever sent a bad piece: their bytes are played as they arrive.
    pub fn trusted(&self) -> bool {
        self.origins.values().all(|o| !o.distrusted)
    }

    pub fn busy(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Bytes asked of one origin that did not come yet.
    pub fn outstanding(&self, origin: OriginId) -> u64 {
        self.fetches.values().filter(|f| f.origin == origin).map(|f| f.range.end - f.upto).sum()
    }

    /// Seconds until `blocks` more blocks would be here, from the origin that is first, with margin. One that fell silent is not
    /// counted on: what was left to it would be late, with peers idle who have it.
    pub fn time_for(&self, now: Instant, blocks: usize, config: &Config) -> f64 {
        let bytes = blocks as f64 * f64::from(BLOCK_LEN);
        let of = |(id, o): (&OriginId, &OriginState)| o.time_for(now, self.outstanding(*id), bytes, config);
        let heard = |o: &(&OriginId, &OriginState)| !self.is_silent(now, *o.0, config);
        self.origins.iter().filter(heard).map(of).min_by(f64::total_cmp).unwrap_or(f64::INFINITY)
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
    fn is_silent(&self, now: Instant, origin: OriginId, config: &Config) -> bool {
        self.fetches.iter().any(|(id, f)| f.origin == origin && self.silent(now, *id, f, config))
    }

    /// What is shown of each.
    pub fn view(&self, now: Instant) -> Vec<ServerView> {
        let of = |(id, o): (&OriginId, &OriginState)| ServerView {
            origin: *id,
            takes_bids: match o.bidding {
                Bidding::Unknown(_) => None,
                Bidding::Plain => Some(false),
                Bidding::Takes => Some(true),
            },
            rate: o.rate(now),
            unspent_bits: o.grants.unspent(now),
            on_its_way: self.outstanding(*id),
            resting: !o.rested(now),
        };
        self.origins.iter().map(of).collect()
    }

    /// Checks that no fetch is past its range or of an origin that is gone.
    pub fn check(&self) -> Result<(), String> {
        match self.fetches.iter().find(|(_, f)| f.upto > f.range.end || !self.origins.contains_key(&f.origin)) {
            Some((id, f)) => Err(format!("fetch {id:?}: {f:?}")),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Asks servers for what the swarm will miss: urgent blocks at once, the window's within what the last bid granted.
    pub(super) fn serve_misses(&mut self, now: Instant, miss: &[Due], actions: &mut Vec<Action>) {
        if !self.servers.usable() {
            return;
        }
        self.bid(now, miss, actions);
        let due = |d: &Due| self.due_of_server(d);
        let window = self.config.window.as_secs_f64();
        let free = |d: &&Due| d.own_s < window && self.board.cell(d.block).is_none_or(|c| c.fetch.is_none());
        let mut miss: Vec<(f64, BlockRef)> = miss.iter().filter(free).map(|d| (due(d), d.block)).collect();
        miss.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        // The server waits until what it has to bring begins to press: what is forecast to miss now a peer may bring after
        // all, and while the swarm wakes a forecast is no more than a guess. Where grants fall short of bids, each is
        // used as it comes: what lapses is lost.
        if !self.servers.short {
            let lead = self.lead(now);
            let slack = |k: usize, due: f64| due - self.servers.time_for(now, k + 1, &self.config);
            if !miss.iter().enumerate().any(|(k, d)| slack(k, d.0) < lead) {
                return;
            }
            let keep = miss.iter().enumerate().take_while(|(k, d)| slack(*k, d.0) < lead + LEAD_MORE).count();
            miss.truncate(keep.max(1));
        }
        let miss: Vec<BlockRef> = miss.into_iter().map(|d| d.1).collect();
        let wanted: BTreeSet<BlockRef> = miss.iter().copied().collect();
        for block in miss {
            // A range before took it along.
            let under_way = |f| self.servers.fetches.contains_key(&f);
            if self.board.cell(block).is_some_and(|c| c.fetch.is_some_and(under_way)) {
                continue;
            }
            let Some((origin, most)) = self.origin_with_room(now) else { break };
            let range = self.coalesce(block, &wanted, most);
            if range.is_empty() {
                continue;
            }
            self.fetch(now, origin, range, actions);
        }
    }

    /// Seconds until a block is due from a server: its own first byte, or what a peer gave of the same piece before it, since
    /// that plays only once the piece is whole. All of a piece, where no server's bytes are played unchecked.
    fn due_of_server(&self, d: &Due) -> f64 {
        if !self.servers.trusted() {
            return d.in_s;
        }
        let (Some(peers), Some(file)) = (self.board.first_of_peers(d.block.piece), self.position.file) else {
            return d.own_s;
        };
        let layout = self.board.layout();
        let line = self.position.line(&self.config);
        let at = |b: BlockRef| line.time_of(layout.block_range(b).start.saturating_sub(file.start)).as_secs_f64();
        let earlier = (at(d.block) - at(peers)).max(0.0);
        (d.own_s - earlier).clamp(d.in_s.min(d.own_s), d.own_s)
    }

    /// Seconds before it is due that a block is asked of a server: enough for a hiccup of one that is much faster than the film,
    /// all that is urgent for one that is not. All that is asked for early is what a peer might have brought.
    fn lead(&self, now: Instant) -> f64 {
        let urgent = self.config.urgent.as_secs_f64();
        // What a server sent alone it will not send beside peers who fill the access link.
        if self.priority.is_full(self.swarm_gauge.get() + self.server_gauge.get(), &self.config) {
            return urgent;
        }
        let line = self.position.line(&self.config);
        let pace = line.file_len() as f64 / line.duration().as_secs_f64().max(1.0);
        let of = |o: &OriginState| {
            let rate = o.rate(now)?;
            Some(LEAD_LEAST + 2.0 * pace / rate.max(1.0) + 4.0 * o.round_trip().as_secs_f64())
        };
        self.servers.open(now).filter_map(|(_, o)| of(o)).min_by(f64::total_cmp).map_or(urgent, |l| l.min(urgent))
    }

    /// The origin to ask next and how many bytes at most.
    fn origin_with_room(&self, now: Instant) -> Option<(OriginId, u64)> {
        let config = &self.config;
        let room = |id: &OriginId, o: &OriginState| {
            let running = self.servers.fetches.values().filter(|f| f.origin == *id).count();
            let rate = o.rate(now).unwrap_or(0.0);
            let limit = ((rate * config.fetch_time.as_secs_f64()) as u64).max(config.fetch_first);
            // One that has failed shows first, with a block, that it is back: a second of film is not risked on it again.
            let limit = if o.failures > 0 { u64::from(BLOCK_LEN) } else { limit };
            let free = limit.saturating_sub(self.servers.outstanding(*id));
            let granted = o.grants.unspent(now) / 8;
            // A second range only when the first is mostly here: short ranges cost a round trip each.
            let worth = running == 0 || free * 2 >= limit;
            (running < FETCHES && worth).then_some(free.min(granted)).filter(|b| *b > 0)
        };
        self.servers
            .open(now)
            .filter(|(id, _)| !self.servers.is_silent(now, **id, config))
            .filter_map(|(id, o)| {
                room(id, o).map(|bytes| (*id, bytes, self.servers.outstanding(*id) as f64 / o.rate(now).unwrap_or(1e6)))
            })
            .min_by(|a, b| a.2.total_cmp(&b.2))
            .map(|(id, bytes, _)| (id, bytes))
    }

    /// The bytes of `first` and of the missed blocks right after it that are not here, up to `most`.
    fn coalesce(&self, first: BlockRef, wanted: &BTreeSet<BlockRef>, most: u64) -> ByteRange {
        let layout = self.board.layout();
        let mut range = layout.block_range(first);
        if range.len() > most {
            return ByteRange::default();
        }
        while range.end < layout.total_len() {
            let next = layout.block_at(range.end);
            let bytes = layout.block_range(next);
            if !wanted.contains(&next) || range.len() + bytes.len() > most {
                break;
            }
            range.end = bytes.end;
        }
        range
    }

    fn fetch(&mut self, now: Instant, origin: OriginId, range: ByteRange, actions: &mut Vec<Action>) {
        let Some(o) = self.servers.origins.get_mut(&origin) else { return };
        let grants = o.grants.spend(now, range.len() * 8);
        let doubtful = o.failures > 0;
        o.meter.busy_from(now + o.rtt.unwrap_or_default());
        let fetch = FetchId(self.servers.next);
        self.servers.next += 1;
        self.servers.fetches.insert(fetch, Fetch { origin, range, upto: range.start, at: now, progress: now });
        let blocks: Vec<BlockRef> = self.board.layout().blocks_in(range).collect();
        for block in blocks {
            // Peers that sit on it are let off: the server was asked because they would be late. Not for one that may be gone.
            let asked = self.board.cell(block).filter(|_| !doubtful).map(|c| c.asked).unwrap_or_default();
            self.board.ask_server(block, fetch);
            for link in asked.iter().copied() {
                self.cancel(link, block, true, actions);
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
        o.meter.arrived(now, len, &self.config);
        o.brought += len;
        o.failures = 0;
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
            self.cancel_others(block, others.iter().copied(), actions);
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
                o.meter.idle();
            }
        }
    }

    /// The fetch broke: the origin rests for a moment, longer each time, and what it owed is bid for again at once.
    pub(super) fn fetch_failed(&mut self, now: Instant, fetch: FetchId) {
        if let Some(o) =
            self.servers.fetches.get(&fetch).map(|f| f.origin).and_then(|o| self.servers.origins.get_mut(&o))
        {
            o.failures += 1;
            o.rest(now + Duration::from_millis(500 << o.failures.min(6)));
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
