//! What must hold after every step of an engine, held against the world's own books: what the engine was told and what it said,
//! never what it says of itself alone.
//!
//! - a block is asked only of a link that is up, has it, and does not choke us (or allows the piece);
//! - never twice of one link, and of two links only when it presses or nothing else is left to ask for;
//! - never when it is here; what is here is asked of nobody;
//! - no link holds more requests than the limit; what the clock needs next is asked of somebody who has it;
//! - bytes in = bytes kept + duplicates + bytes of corrupt pieces;
//! - a server is asked for no more than it granted, and for no byte twice at once;
//! - the reader gets what was hashed, or what a server sent; the gate opens when enough is here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::player::Player;
use super::store::{Bytes, Store};
use crate::engine::snapshot::Totals;
use crate::engine::{Action, Config, Event, Phase};
use crate::units::{BlockRef, ByteRange, FetchId, Instant, Layout, LinkId, OriginId, PieceIndex, PieceSet};

/// A link that could help and stays without a request for longer is counted.
const IDLE_MOST: Duration = Duration::from_secs(4);
/// The block that the clock needs next may be asked of nobody for so long: a server may be about to be asked.
const HOLE_MOST: Duration = Duration::from_secs(6);
const DUE_SOON: f64 = 10.0;
/// The same with a server at hand: it is asked only once what it has to bring presses.
const DUE_SOON_OF_SERVERS: f64 = 3.0;
/// The engine's clock runs on between two tellings; the world's is exact.
const CLOCK_SLACK: f64 = 0.25;
/// Faults kept in words; more are only counted.
const FAULTS_KEPT: usize = 20;

/// What the engine was told of one link.
#[derive(Debug)]
struct Known {
    has: PieceSet,
    choked: bool,
    allowed: BTreeSet<PieceIndex>,
    asked: BTreeSet<BlockRef>,
    /// What it was asked for and did not bring: rejected, withdrawn, lost in a choke. It need not be asked again.
    lost: BTreeSet<BlockRef>,
    idle: Option<Instant>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub cancels: u64,
    /// Requests for a block that was asked of another link as well.
    pub hedges: u64,
    /// The same while nothing pressed: the end game.
    pub end_game: u64,
    pub fetches: u64,
    /// Times that a link had nothing to do for seconds although it had what was wanted.
    pub idle: u64,
    pub bans: u64,
    /// Hash checks that failed.
    pub failed: u64,
    pub faults: u64,
}

/// The watcher of one engine.
#[derive(Debug)]
pub(super) struct Watch {
    layout: Layout,
    config: Arc<Config>,
    links: BTreeMap<LinkId, Known>,
    asked: BTreeMap<BlockRef, Vec<LinkId>>,
    /// What of each fetch did not come yet.
    fetching: BTreeMap<FetchId, (OriginId, ByteRange)>,
    /// What each bidding origin granted and was not asked for yet, bits, and until when that may be asked for.
    granted: BTreeMap<OriginId, (u64, Instant)>,
    /// A server can be asked.
    served: bool,
    failed: BTreeSet<PieceIndex>,
    books: Totals,
    ended: bool,
    /// The block the clock needs next, where nobody was asked for it, and since when.
    hole: Option<(BlockRef, Instant)>,
    pub counts: Counts,
    pub faults: Vec<String>,
}

impl Watch {
    pub fn new(layout: Layout, config: Arc<Config>) -> Self {
        Self {
            layout,
            config,
            links: BTreeMap::new(),
            asked: BTreeMap::new(),
            fetching: BTreeMap::new(),
            granted: BTreeMap::new(),
            served: false,
            failed: BTreeSet::new(),
            books: Totals::default(),
            ended: false,
            hole: None,
            counts: Counts::default(),
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, now: Instant, what: impl FnOnce() -> String) {
        self.counts.faults += 1;
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(format!("at {:.6} s: {}", now.as_secs_f64(), what()));
        }
    }

    fn forget(&mut self, link: LinkId, block: BlockRef) -> bool {
        let had = self.links.get_mut(&link).is_some_and(|k| k.asked.remove(&block));
        if let Some(of) = self.asked.get_mut(&block) {
            of.retain(|l| *l != link);
            if of.is_empty() {
                self.asked.remove(&block);
            }
        }
        had
    }

    /// The link will not bring it.
    fn lose(&mut self, link: LinkId, block: BlockRef) -> bool {
        if let Some(k) = self.links.get_mut(&link) {
            k.lost.insert(block);
        }
        self.forget(link, block)
    }

    fn forget_where(&mut self, link: LinkId, gone: impl Fn(&Known, BlockRef) -> bool) {
        let Some(k) = self.links.get(&link) else { return };
        let lost: Vec<BlockRef> = k.asked.iter().copied().filter(|b| gone(k, *b)).collect();
        for b in lost {
            self.lose(link, b);
        }
    }

    /// What the engine is about to be told.
    pub fn told(&mut self, now: Instant, event: &Event) {
        let len = |b: &BlockRef| self.layout.block_range(*b).len();
        match event {
            Event::LinkUp { link, .. } => {
                let has = PieceSet::new(self.layout.piece_count());
                let (allowed, asked, lost) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
                let known = Known { has, choked: true, allowed, asked, lost, idle: None };
                self.links.insert(*link, known);
            }
            Event::LinkDown { link } => {
                self.forget_where(*link, |_, _| true);
                self.links.remove(link);
            }
            Event::Bitfield { link, pieces } => {
                if let Some(k) = self.links.get_mut(link) {
                    k.has = pieces.clone();
                }
                self.forget_where(*link, |k, b| !k.has.contains(b.piece));
            }
            Event::Have { link, piece } => {
                if let Some(k) = self.links.get_mut(link) {
                    k.has.insert(*piece);
                }
            }
            Event::DontHave { link, piece } => {
                if let Some(k) = self.links.get_mut(link) {
                    k.has.remove(*piece);
                }
                self.forget_where(*link, |k, b| !k.has.contains(b.piece));
            }
            Event::Choked { link } => {
                if let Some(k) = self.links.get_mut(link) {
                    k.choked = true;
                }
                self.forget_where(*link, |k, b| !k.allowed.contains(&b.piece));
            }
            Event::Unchoked { link } => {
                if let Some(k) = self.links.get_mut(link) {
                    k.choked = false;
                }
            }
            Event::AllowedFast { link, piece } => {
                if let Some(k) = self.links.get_mut(link) {
                    k.allowed.insert(*piece);
                }
            }
            Event::BlockArrived { link, block } => {
                self.books.swarm += len(block);
                self.forget(*link, *block);
            }
            Event::BlockDuplicate { link, block } => {
                self.books.swarm += len(block);
                self.books.duplicate += len(block);
                self.forget(*link, *block);
            }
            Event::BlockRejected { link, block } => {
                self.lose(*link, *block);
            }
            Event::BlockSent { len, .. } => self.books.uploaded += u64::from(*len),
            Event::PieceCorrupt { piece } => {
                self.counts.failed += 1;
                self.failed.insert(*piece);
            }
            Event::ServerBytes { fetch, upto } => {
                if let Some((_, left)) = self.fetching.get_mut(fetch) {
                    left.start = (*upto).max(left.start);
                }
            }
            Event::ServerDone { fetch } => {
                self.fetching.remove(fetch);
            }
            Event::ServerFailed { fetch } => self.give_back(*fetch),
            Event::Granted { origin, bits, expires, .. } => {
                // A bid is for what is not granted yet: its answer comes on top of what is left.
                let left = self.granted.get(origin).filter(|g| g.1 >= now).map_or(0, |g| g.0);
                self.granted.insert(*origin, (left + *bits, *expires));
            }
            Event::OriginUp { origin, bidding, .. } => {
                self.served = true;
                if *bidding == Some(true) {
                    self.granted.insert(*origin, (0, Instant::ZERO));
                }
            }
            Event::OriginDown { .. } => self.served = false,
            Event::Playhead { phase, .. } => self.ended = *phase == Phase::Ended,
            _ => {}
        }
    }

    /// Bytes of a server were written, or were here already.
    pub fn server_bytes(&mut self, len: u64, fresh: bool) {
        self.books.server += len;
        if !fresh {
            self.books.duplicate += len;
        }
    }

    /// What failed its hash, or a liar gave, was thrown away.
    pub fn voided(&mut self, bytes: u64) {
        self.books.corrupt += bytes;
    }

    /// What the engine said.
    pub fn said(&mut self, now: Instant, action: &Action, store: &mut Store, player: Option<&Player>) {
        match action {
            Action::Request { link, block } => self.requested(now, *link, *block, store, player),
            Action::Cancel { link, block } => {
                self.counts.cancels += 1;
                if !self.lose(*link, *block) && self.links.contains_key(link) {
                    self.fault(now, || format!("{block:?} was cancelled at {link:?}, which was not asked for it"));
                }
            }
            Action::Verify { piece } => {
                if let Some(b) = store.blocks_of(*piece).find(|b| !store.here(*b)) {
                    self.fault(now, || format!("piece {piece} is to be hashed without {b:?}"));
                }
            }
            Action::Announce { piece } if !store.verified.contains(*piece) => {
                self.fault(now, || format!("piece {piece} was announced unverified"));
            }
            Action::Playable { range } => {
                let early = self.layout.blocks_in(*range).find(|b| {
                    let whole = self.layout.block_range(*b).end <= range.end;
                    let served = matches!(store.get(*b), Bytes::Server(_) | Bytes::Before);
                    whole && !store.verified.contains(b.piece) && !served
                });
                if let Some(b) = early {
                    self.fault(now, || format!("{b:?} is playable: {:?}, not verified", store.get(b)));
                }
            }
            Action::SendBlock { link, piece, .. }
                if !store.verified.contains(*piece) || !self.links.contains_key(link) =>
            {
                self.fault(now, || format!("piece {piece} is sent to {link:?}: not verified, or no such link"));
            }
            Action::Fetch { fetch, origin, range, .. } => self.fetched(now, *fetch, *origin, *range),
            Action::AbortFetch { fetch } => self.give_back(*fetch),
            Action::Ban { link } => {
                self.counts.bans += 1;
                self.forget_where(*link, |_, _| true);
                self.links.remove(link);
            }
            Action::Gate { open } => self.gated(now, *open, store, player),
            _ => {}
        }
    }

    fn requested(&mut self, now: Instant, link: LinkId, block: BlockRef, store: &Store, player: Option<&Player>) {
        self.counts.requests += 1;
        let Some(k) = self.links.get_mut(&link) else {
            return self.fault(now, || format!("{block:?} was asked of {link:?}, which is not there"));
        };
        let mut wrong = Vec::new();
        if !k.has.contains(block.piece) || block.block >= self.layout.block_count(block.piece) {
            wrong.push("which has it not");
        }
        if k.choked && !k.allowed.contains(&block.piece) {
            wrong.push("which chokes us");
        }
        if !k.asked.insert(block) {
            wrong.push("for the second time");
        }
        if k.asked.len() > self.config.queue_max {
            wrong.push("which holds too many");
        }
        if store.here(block) {
            wrong.push("though it is here");
        }
        k.idle = None;
        let of = self.asked.entry(block).or_default();
        of.push(link);
        let links = of.len();
        if links > 2 {
            wrong.push("though two have it to send");
        }
        if links == 2 {
            if player.is_some_and(|p| self.presses(block, p)) {
                self.counts.hedges += 1;
            } else if self.nothing_else(store, player) {
                self.counts.end_game += 1;
            } else {
                wrong.push("though another has it to send and nothing presses");
            }
        }
        for what in wrong {
            self.fault(now, || format!("{block:?} was asked of {link:?}, {what}"));
        }
    }

    /// Whether the block is urgent by the world's clock, or the clock stands.
    fn presses(&self, block: BlockRef, player: &Player) -> bool {
        if !matches!(player.phase, Phase::Playing | Phase::Paused) {
            return true;
        }
        // Its piece is due with the first byte of it that is still to be played.
        let at = self.layout.piece_range(block.piece).start.max(player.offset());
        player.seconds_to(at) < self.config.urgent.as_secs_f64() + CLOCK_SLACK
    }

    /// Whether every wanted block that somebody has is here or asked for.
    fn nothing_else(&self, store: &Store, player: Option<&Player>) -> bool {
        let from = player.map_or(0, |p| self.layout.piece_at(p.offset()).0);
        let had = |p: &PieceIndex| self.links.values().any(|k| k.has.contains(*p));
        !(from..self.layout.piece_count()).map(PieceIndex).filter(had).any(|p| self.free_block(p, store).is_some())
    }

    /// A block of the piece that is neither here nor asked of anybody.
    fn free_block(&self, p: PieceIndex, store: &Store) -> Option<BlockRef> {
        if store.verified.contains(p) {
            return None;
        }
        store.blocks_of(p).find(|b| !store.here(*b) && !self.asked.contains_key(b) && !self.fetched_now(*b))
    }

    fn fetched_now(&self, b: BlockRef) -> bool {
        let bytes = self.layout.block_range(b);
        self.fetching.values().any(|(_, r)| !r.intersect(bytes).is_empty())
    }

    fn fetched(&mut self, now: Instant, fetch: FetchId, origin: OriginId, range: ByteRange) {
        self.counts.fetches += 1;
        if let Some((other, _)) = self.fetching.iter().find(|(_, (_, r))| !r.intersect(range).is_empty()) {
            let other = *other;
            self.fault(now, || format!("{fetch:?} asks for bytes of {range:?} that {other:?} brings"));
        }
        if let Some((granted, expires)) = self.granted.get_mut(&origin) {
            let (had, asked) = (if *expires < now { 0 } else { *granted }, range.len() * 8);
            *granted = granted.saturating_sub(asked);
            if asked > had {
                self.fault(now, || format!("{fetch:?} asks for {asked} bits where {had} are granted"));
            }
        }
        self.fetching.insert(fetch, (origin, range));
    }

    /// What of a fetch did not come may be asked for again.
    fn give_back(&mut self, fetch: FetchId) {
        if let Some((origin, left)) = self.fetching.remove(&fetch)
            && let Some((granted, _)) = self.granted.get_mut(&origin)
        {
            *granted += left.len() * 8;
        }
    }

    fn gated(&mut self, now: Instant, open: bool, store: &mut Store, player: Option<&Player>) {
        let Some(p) = player else { return };
        if !open && p.phase == Phase::Playing {
            self.fault(now, || "the gate shut while the clock ran".into());
        }
        // Before the index is known the engine goes by an assumed pace.
        if open && p.is_open() {
            let need = self.config.start.as_secs_f64().min(p.left()) - CLOCK_SLACK;
            let ahead = p.ahead(store);
            if ahead < need {
                self.fault(now, || format!("the gate opened with {ahead:.3} s of film"));
            }
        }
    }

    /// After all was carried out. `totals` are the engine's own.
    pub fn settled(&mut self, now: Instant, totals: Totals, store: &Store, player: Option<&Player>, idle: bool) {
        if totals != self.books {
            let books = std::mem::replace(&mut self.books, totals);
            self.fault(now, || format!("the engine counts {totals:?}, the world {books:?}"));
        }
        let (came, went) = (totals.swarm + totals.server, store.kept + store.voided + totals.duplicate);
        if came != went {
            self.fault(now, || format!("{came} bytes came, {went} are accounted for"));
        }
        if let Some(b) = self.asked.keys().find(|b| store.here(**b)).copied() {
            let of = self.asked.remove(&b);
            self.fault(now, || format!("{b:?} is here and still asked of {of:?}"));
        }
        if idle {
            self.idle_links(now, store, player);
        }
    }

    /// Counts links without a request although they have what is wanted; and finds the block that the clock needs
    /// next, of whom nobody was asked although somebody has it. Before the film's index is known nothing is due but what the
    /// reader waits for.
    fn idle_links(&mut self, now: Instant, store: &Store, player: Option<&Player>) {
        let Some(player) = player.filter(|p| !self.ended && p.is_open()) else { return };
        let from = self.layout.piece_at(player.offset()).0;
        let wanted = |p: &PieceIndex| p.0 >= from && !store.verified.contains(*p);
        let next = (from..self.layout.piece_count()).map(PieceIndex).find(wanted);
        let next_in = next.map_or(f64::MAX, |p| player.seconds_to(self.layout.piece_range(p).start));
        // While something presses, bulk waits: there is nothing to ask a link for that has only bulk.
        let clock = matches!(player.phase, Phase::Playing | Phase::Paused);
        let presses = !clock || next_in < self.config.urgent.as_secs_f64() + CLOCK_SLACK;
        if presses {
            self.links.values_mut().for_each(|k| k.idle = None);
        }
        let idle: Vec<LinkId> = self
            .links
            .iter()
            .filter(|_| !presses)
            .filter(|(_, k)| !k.choked && k.asked.is_empty())
            .map(|(l, _)| *l)
            .collect();
        for link in idle {
            // A piece that failed is given to one link alone: the others may wait for it.
            let useful = self.links.get(&link).and_then(|k| {
                let pieces = k.has.iter().filter(|p| wanted(p) && !self.failed.contains(p));
                pieces.filter_map(|p| self.free_block(p, store)).find(|b| !k.lost.contains(b))
            });
            let Some(k) = self.links.get_mut(&link) else { continue };
            if useful.is_none() {
                k.idle = None;
                continue;
            }
            let since = *k.idle.get_or_insert(now);
            if now.since(since) > IDLE_MOST {
                k.idle = None;
                self.counts.idle += 1;
            }
        }
        // What is due later may wait for its turn among the rarest.
        let soon = if self.served { DUE_SOON_OF_SERVERS } else { DUE_SOON };
        let free = next.filter(|_| next_in < soon).and_then(|p| self.free_block(p, store));
        let had = free.filter(|b| self.links.values().any(|k| !k.choked && k.has.contains(b.piece)));
        let since = match (had, self.hole) {
            (Some(block), Some((b, since))) if b == block => since,
            _ => now,
        };
        self.hole = had.map(|b| (b, since));
        if let Some(block) = had.filter(|_| now.since(since) > HOLE_MOST) {
            self.hole = None;
            self.fault(now, || {
                format!("{block:?} is next and was asked of nobody for seconds, although links have it")
            });
        }
    }
}
